package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/console/say"
	"github.com/tempismo/tempismo/services/console/words"
	"github.com/tempismo/tempismo/services/profiler"
)

// profileCmd shows one customer.
type profileCmd struct {
	Customer string `arg:"" help:"Id of the customer."`
	Language string `name:"language" enum:"en,it" default:"en" help:"Language of the sentences: en or it."`
	JSON     bool   `help:"Write a JSON object."`
	target
}

// Help is the example.
func (*profileCmd) Help() string {
	return "Explains in words when a customer reads, how much of that is known and what is borrowed, and what happened. Scores say how good a send\nat that hour is: 50 is the customer's average hour, 100 twice as good or better, 0 half as good or worse.\n\nExample:\n  tempismo profile C-00042\n  tempismo profile C-00042 --language it"
}

// channelView is one channel of a customer.
type channelView struct {
	Channel    string             `json:"channel"`
	Finding    string             `json:"finding"`
	Sentences  []string           `json:"sentences"`
	Evidence   timing.Evidence    `json:"evidence"`
	Rate       float64            `json:"engaged_hours_per_delivery"`
	Confidence int                `json:"confidence"`
	Level      string             `json:"level"`
	Persona    string             `json:"persona,omitempty"`
	Likeness   float64            `json:"likeness,omitempty"`
	Silent     bool               `json:"silent"`
	Last       string             `json:"last_local_hour"`
	Scores     [timing.Week]uint8 `json:"-"`
	Hours      []int              `json:"scores"` // by hour of the week, Monday 00 first
	Reasons    []timing.Reason    `json:"reasons"`
}

// happened is a deviation of the customer.
type happened struct {
	Time     time.Time `json:"time"`
	Kind     string    `json:"kind"`
	Channel  string    `json:"channel"`
	Z        float64   `json:"z"`
	Sentence string    `json:"sentence"`
	Evidence string    `json:"evidence"`

	id, name, zone string
	moved          *say.Moved
}

type customerView struct {
	Customer   string        `json:"customer"`
	Zone       string        `json:"zone"`
	Segment    string        `json:"segment,omitempty"`
	Model      string        `json:"model"`
	Position   string        `json:"position"` // up to which the profile is known
	Channels   []channelView `json:"channels"`
	Deviations []happened    `json:"deviations"` // latest first

	lang *words.Lang
}

// Bounds of what is looked through and shown.
const (
	lookedThrough = 20_000 // deviations of the customer's partition, the latest
	shownHappened = 20
)

// Run shows.
func (c *profileCmd) Run(ctx context.Context, t terminal) (err error) {
	sys, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close()) }()
	if err := sys.needStore(); err != nil {
		return err
	}
	n, err := sys.partitions(ctx)
	if err != nil {
		return err
	}
	p := stream.Partition([]byte(c.Customer), n)
	snap, err := sys.store.Read(ctx, sys.run.Group(profiler.Service), p, []string{c.Customer})
	if err != nil {
		return fmt.Errorf("read the profile of %q: %w", c.Customer, err)
	}
	if len(snap.Rebuilding) > 0 {
		fmt.Fprintln(t.err, "the profiles are being rebuilt from the log: this one may not be whole yet")
	}
	if len(snap.Values) == 0 || snap.Values[0] == nil {
		return fmt.Errorf("nothing is known of %q in run %q", c.Customer, sys.run.ID)
	}
	lang := words.In(c.Language)
	past, err := happenedTo(ctx, sys, lang, c.Customer, p)
	if err != nil {
		return fmt.Errorf("read the deviations of %q: %w", c.Customer, err)
	}
	v, err := viewOf(c.Customer, snap, p, lang, past)
	if err != nil {
		return err
	}
	if c.JSON {
		return t.json(v)
	}
	v.print(t.out)
	return nil
}

// happenedTo reads the customer's deviations, latest first, of the latest of the customer's partition.
func happenedTo(ctx context.Context, sys *system, lang *words.Lang, customer string, partition int32) ([]happened, error) {
	from := func(ctx context.Context, l *kafka.Log, topic string) (map[int32]int64, error) {
		at, err := kafka.Last(lookedThrough)(ctx, l, topic)
		if err != nil {
			return nil, err
		}
		return map[int32]int64{partition: at[partition]}, nil
	}
	out := []happened{}
	err := kafka.Range(ctx, sys.log, sys.run.Topic(topics.Deviations), from, kafka.Latest, func(r *stream.Record) error {
		e, err := stream.ParseEvent(r.Value)
		if err != nil || e.Subject != customer || slices.ContainsFunc(out, func(h happened) bool { return h.id == e.ID }) {
			return nil // unreadable records are the detector's concern; a takeover repeats some
		}
		var d deviation.Deviation
		if err := unmarshal(e.Data, &d); err != nil {
			return nil //nolint:nilerr // of a newer version, perhaps: the rest can be told
		}
		h := happened{Time: e.Time, Kind: d.Kind, Channel: d.Channel, Z: d.Z, id: e.ID, name: say.Named(lang, "kind.", d.Kind), zone: d.Zone, moved: say.MovedBy(&d)}
		h.Sentence, h.Evidence = say.Deviation(lang, &d, e.Time)
		out = append(out, h)
		return nil
	})
	slices.SortStableFunc(out, func(a, b happened) int { return b.Time.Compare(a.Time) })
	return out, err
}

func viewOf(customer string, snap stream.Snapshot, partition int32, lang *words.Lang, past []happened) (*customerView, error) {
	var p timing.Profile
	if err := p.Decode(snap.Values[0]); err != nil {
		return nil, fmt.Errorf("profile of %q: %w", customer, err)
	}
	m := timing.Builtin()
	if raw := snap.Broadcast[topics.Models]; len(raw) > 0 {
		var err error
		if m, err = timing.ParseModelRecord(raw); err != nil {
			return nil, fmt.Errorf("model in force: %w", err)
		}
	}
	v := &customerView{Customer: customer, Zone: p.Zone, Segment: p.Segment, Model: m.Version, Deviations: past[:min(len(past), shownHappened)], lang: lang,
		Position: fmt.Sprintf("%s:%d:%d", topics.Events, partition, snap.Positions[topics.Events])}
	_, err := calendar.Zone(p.Zone)
	for i := range p.Channels {
		ch := &p.Channels[i]
		head, ok := ch.Head()
		if !ok {
			continue
		}
		w := p.View(m, ch.Name, head)
		subject := say.Subject{Customer: customer, View: &w, Now: head, Zone: p.Zone, Assumed: p.Zone == "" || err != nil, Segment: p.Segment, Silent: ch.Silent()}
		for i := range past {
			if past[i].Channel == ch.Name && past[i].moved != nil {
				subject.Moved = past[i].moved
				break
			}
		}
		said := say.Profile(lang, subject)
		cv := channelView{Channel: ch.Name, Finding: said.Finding, Sentences: said.Sentences, Evidence: w.Evidence, Rate: w.Rate, Confidence: w.Confidence, Level: w.Level,
			Persona: w.Persona, Likeness: w.Likeness, Silent: ch.Silent(), Last: localHour(head), Scores: w.Scores, Reasons: w.Reasons}
		for _, s := range w.Scores {
			cv.Hours = append(cv.Hours, int(s))
		}
		v.Channels = append(v.Channels, cv)
	}
	return v, nil
}

// print explains each channel and draws its week, days down and hours across; then what happened.
func (v *customerView) print(w io.Writer) {
	s, l := styleFor(w), v.lang
	zone := v.Zone
	if zone == "" {
		zone = l.T("prof.zone.none")
	}
	about := []string{zone}
	if v.Segment != "" {
		about = append(about, v.Segment)
	}
	fmt.Fprintf(w, "%s  %s\n", s.strong.Render(v.Customer), s.faint.Render(strings.Join(append(about, "model "+v.Model, v.Position), ", ")))
	for i := range v.Channels {
		c := &v.Channels[i]
		fmt.Fprintf(w, "\n%s: %s\n", c.Channel, s.strong.Render(c.Finding))
		for _, sentence := range c.Sentences {
			fmt.Fprintf(w, "  %s\n", sentence)
		}
		fmt.Fprintf(w, "  %s\n\n    ", s.faint.Render(l.T("prof.known", l.Num(c.Evidence.EngagedHours, 1), l.Int(c.Evidence.Deliveries), l.Int(c.Evidence.Days), c.Last)))
		for h := 0; h < 24; h += 3 {
			fmt.Fprintf(w, "%-6d", h)
		}
		fmt.Fprintln(w)
		for d := range 7 {
			fmt.Fprintf(w, "%s ", l.Weekday(d))
			best := 0
			for h := range 24 {
				score := c.Scores[d*24+h]
				cell := strings.Repeat(shade(score), 2)
				switch {
				case score >= timing.Prime:
					cell = s.accent.Render(cell)
				case score < 40:
					cell = s.faint.Render(cell)
				}
				fmt.Fprint(w, cell)
				if score > c.Scores[d*24+best] {
					best = h
				}
			}
			fmt.Fprintf(w, "  %s\n", l.T("prof.best", say.Hour(best)+":00", l.Int(int(c.Scores[d*24+best]))))
		}
	}
	fmt.Fprintf(w, "\n%s\n", s.strong.Render(l.T("cust.happened")))
	if len(v.Deviations) == 0 {
		fmt.Fprintf(w, "  %s\n", l.T("cust.happened.none"))
	}
	for _, h := range v.Deviations {
		at := h.Time
		if loc, err := calendar.Zone(h.zone); err == nil {
			at = at.In(loc)
		}
		fmt.Fprintf(w, "  %s  %s  %sσ  %s\n", s.faint.Render(l.Moment(at)), h.name, l.Signed(h.Z, 1), h.Sentence)
		fmt.Fprintf(w, "    %s\n", s.faint.Render(h.Evidence))
	}
}
