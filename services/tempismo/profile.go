package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/profiler"
)

// profileCmd shows one customer.
type profileCmd struct {
	Customer string `arg:"" help:"Id of the customer."`
	JSON     bool   `help:"Write a JSON object."`
	target
}

// Help is the example.
func (*profileCmd) Help() string {
	return "Scores say how good a send at that hour is: 50 is the customer's average hour, 100 twice as good or better, 0 half as\ngood or worse.\n\nExample:\n  tempismo profile C-00042"
}

// channelView is one channel of a customer.
type channelView struct {
	Channel    string             `json:"channel"`
	Evidence   timing.Evidence    `json:"evidence"`
	Rate       float64            `json:"engaged_hours_per_delivery"`
	Confidence int                `json:"confidence"`
	Level      string             `json:"level"`
	Silent     bool               `json:"silent"`
	Last       string             `json:"last_local_hour"`
	Scores     [timing.Week]uint8 `json:"-"`
	Hours      []int              `json:"scores"` // by hour of the week, Monday 00 first
	Reasons    []timing.Reason    `json:"reasons"`
}

type customerView struct {
	Customer string        `json:"customer"`
	Zone     string        `json:"zone"`
	Model    string        `json:"model"`
	Position string        `json:"position"` // up to which the profile is known
	Channels []channelView `json:"channels"`
}

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
	v, err := viewOf(c.Customer, snap, p)
	if err != nil {
		return err
	}
	if c.JSON {
		return t.json(v)
	}
	v.print(t.out)
	return nil
}

func viewOf(customer string, snap stream.Snapshot, partition int32) (*customerView, error) {
	var p timing.Profile
	if err := p.Decode(snap.Values[0]); err != nil {
		return nil, fmt.Errorf("profile of %q: %w", customer, err)
	}
	m := timing.Builtin()
	if raw := snap.Broadcast["timing.models.v1"]; len(raw) > 0 {
		var err error
		if m, err = timing.ParseModelRecord(raw); err != nil {
			return nil, fmt.Errorf("model in force: %w", err)
		}
	}
	v := &customerView{Customer: customer, Zone: p.Zone, Model: m.Version,
		Position: fmt.Sprintf("engagement.events.v1:%d:%d", partition, snap.Positions["engagement.events.v1"])}
	for i := range p.Channels {
		ch := &p.Channels[i]
		head, ok := ch.Head()
		if !ok {
			continue
		}
		w := p.View(m, ch.Name, head)
		cv := channelView{Channel: ch.Name, Evidence: w.Evidence, Rate: w.Rate, Confidence: w.Confidence, Level: w.Level, Silent: ch.Silent(), Last: localHour(head), Scores: w.Scores, Reasons: w.Reasons}
		for _, s := range w.Scores {
			cv.Hours = append(cv.Hours, int(s))
		}
		v.Channels = append(v.Channels, cv)
	}
	return v, nil
}

var weekdays = [7]string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}

// print draws the week of each channel: days down, hours across.
func (v *customerView) print(w io.Writer) {
	s := styleFor(w)
	zone := v.Zone
	if zone == "" {
		zone = "zone not known"
	}
	fmt.Fprintf(w, "%s  %s\n", s.strong.Render(v.Customer), s.faint.Render(zone+", model "+v.Model+", "+v.Position))
	for i := range v.Channels {
		c := &v.Channels[i]
		fmt.Fprintf(w, "\n%s: %s\n", s.strong.Render(c.Channel), c.sentence())
		fmt.Fprintf(w, "%s\n\n", s.faint.Render(fmt.Sprintf("%.1f engaged hours of evidence, %s deliveries, %s days; confidence %d; last seen %s",
			c.Evidence.EngagedHours, grouped(int64(c.Evidence.Deliveries)), grouped(int64(c.Evidence.Days)), c.Confidence, c.Last)))
		fmt.Fprint(w, "    ")
		for h := 0; h < 24; h += 3 {
			fmt.Fprintf(w, "%-6d", h)
		}
		fmt.Fprintln(w)
		for d, day := range weekdays {
			fmt.Fprintf(w, "%s ", day)
			for h := range 24 {
				score := c.Scores[d*24+h]
				cell := strings.Repeat(shade(score), 2)
				switch {
				case score >= 80:
					cell = s.accent.Render(cell)
				case score < 40:
					cell = s.faint.Render(cell)
				}
				fmt.Fprint(w, cell)
			}
			best := 0
			for h := range 24 {
				if c.Scores[d*24+h] > c.Scores[d*24+best] {
					best = h
				}
			}
			fmt.Fprintf(w, "  best %02d:00, score %d\n", best, c.Scores[d*24+best])
		}
	}
}

// sentence says what the map shows.
func (c *channelView) sentence() string {
	var parts []string
	for _, r := range c.Reasons {
		parts = append(parts, fmt.Sprintf("%.1f times more than expected at %02d:00", r.Ratio, r.Hour))
	}
	text := "no hour of their own stands out yet"
	if len(parts) > 0 {
		text = "reads " + strings.Join(parts, ", ")
	}
	switch c.Level {
	case timing.LevelPersona:
		text += "; little is known, so most of it is borrowed from customers alike"
	case timing.LevelPopulation:
		text += "; nothing is known yet, so this is everybody's week"
	}
	if c.Silent {
		text += "; has fallen silent"
	}
	return text
}
