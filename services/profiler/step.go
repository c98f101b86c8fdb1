package profiler

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// ahead is how far an event's time may lie after the partition's clock in a live run.
const ahead = time.Minute

// Input is a decoded input record: an engagement event, or a model, which Adopt has dealt with.
type Input struct{ event engagement.Event }

// stepper holds what does not change while the service runs.
type stepper struct {
	run      stream.Run
	builtin  *timing.Model
	zone     *time.Location
	zoneName string
	below    float64
	every    int64 // seconds of event time to a digest
}

// decode reads a record. All its errors are permanent: the bytes will not change.
func (s *stepper) decode(r *stream.Record, in *Input) (stream.Cause, error) {
	if s.run.Base(r.Topic) == topics.Models {
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			return stream.Cause{}, stream.Permanent(err)
		}
		return stream.Cause{ID: e.ID, Time: e.Time, Trace: e.Traceparent}, nil
	}
	e := &in.event
	if err := e.Parse(r.Value); err != nil {
		return stream.Cause{}, stream.Permanent(err)
	}
	if e.Subject != string(r.Key) {
		return stream.Cause{}, stream.Permanent(&engagement.FieldError{Field: "subject", Reason: "is not the key of the record"})
	}
	return stream.Cause{ID: e.ID, Time: e.Time, Trace: e.Trace}, nil
}

// step notes one event in the customer's profile.
func (s *stepper) step(c *stream.Context, p *timing.Profile, part *Partition, in *Input) error {
	if p == nil { // a model
		return nil
	}
	e := &in.event
	if !s.run.Simulated && e.Time.After(c.Now().Add(ahead)) {
		return stream.Permanent(&engagement.FieldError{Field: "time", Reason: "lies more than a minute in the future"})
	}
	if len(p.Channels) >= timing.MaxChannels && p.Find(e.Channel) == nil {
		return stream.Permanent(&engagement.FieldError{Field: "data.channel", Reason: fmt.Sprintf("is one more than the %d channels that a customer may have", timing.MaxChannels)})
	}
	name := e.Zone
	if name == "" {
		name = p.Zone
	}
	zone, zoneName, err := s.location(part, name)
	if err != nil {
		return stream.Permanent(&engagement.FieldError{Field: "data.zone", Reason: "zone: unknown: " + err.Error()})
	}
	hour, minute := calendar.LocalHour(e.Time, zone)

	if c.Partial() && part.whole == 0 {
		part.whole = e.Time.Add(aging).Unix()
	}
	if d := part.tick(e.Time.Unix(), s); d != nil {
		data, err := json.Marshal(d)
		if err != nil {
			return fmt.Errorf("encode digest: %w", err)
		}
		c.Emit(stream.Emission{Topic: topics.Digests, Type: timing.DigestType, Prefix: "dg-", Time: d.Minute, Data: data})
	}
	if e.Zone != "" && e.Zone != p.Zone && !p.Dated(hour) {
		p.Zone = strings.Clone(e.Zone)
	}
	n := note{s: s, c: c, p: p, part: part, e: e, zone: zone, zoneName: zoneName, hour: hour, minute: minute, model: part.model}
	if n.model == nil {
		n.model = s.builtin
	}
	switch {
	case e.Kind == engagement.Delivered:
		err = n.delivered()
	case e.Kind.Engaged():
		err = n.engaged()
	default:
		part.count(e.Kind, e.Actor, timing.Counted)
	}
	return err
}

// aging is how long profiles stay partial that were lost and rebuilt from a log which no longer holds their beginning. It
// is the half-life of a profile: what is missing would by then weigh less than half of what it did.
const aging = 13 * 7 * 24 * time.Hour

// location returns the zone of that name, or the operator's default for none. The last one is remembered: most of a
// partition's customers live in the same.
func (s *stepper) location(part *Partition, name string) (*time.Location, string, error) {
	switch name {
	case "", s.zoneName:
		return s.zone, s.zoneName, nil
	case part.zoneName:
		return part.zone, part.zoneName, nil
	}
	zone, err := calendar.Zone(name)
	if err == nil {
		part.zone, part.zoneName = zone, strings.Clone(name)
	}
	return zone, part.zoneName, err
}

// note is one event on its way into a profile.
type note struct {
	s        *stepper
	c        *stream.Context
	p        *timing.Profile
	part     *Partition
	e        *engagement.Event
	model    *timing.Model
	zone     *time.Location
	zoneName string
	hour     timing.Hour
	minute   int
}

func (n *note) delivered() error {
	ch, tally := n.p.Channel(n.e.Channel), n.part.tally(n.e.Channel)
	n.close(ch)
	change := ch.Delivered(n.world(), n.hour)
	n.part.count(n.e.Kind, n.e.Actor, change.Result)
	if change.Result == timing.Late {
		return nil
	}
	v := &n.part.view
	n.model.Derive(v, n.p, n.e.Channel, n.hour, timing.Everything)
	n.p.Sent(n.e, v.Score(n.hour) >= timing.Prime)
	if change.Result == timing.Counted {
		tally.cells[timing.HourOfWeek(n.hour)].delivered++
		v.Expect(n.hour, func(at timing.Hour, flat, own float64) { tally.expect(n.part.flushed, at, flat, own) })
	}
	if len(change.Alarms) == 0 {
		return nil
	}
	return n.emit(v, 0, change.Alarms...)
}

func (n *note) engaged() error {
	if n.e.Actor == engagement.Machine { // certain already, and nothing to learn from it
		n.part.count(n.e.Kind, n.e.Actor, timing.Counted)
		return nil
	}
	answer := n.p.Answered(n.e)
	if answer.Actor != engagement.Human {
		n.part.count(n.e.Kind, answer.Actor, timing.Counted)
		return nil
	}
	ch, tally := n.p.Channel(n.e.Channel), n.part.tally(n.e.Channel)
	n.close(ch)
	change := ch.Engaged(n.world(), n.hour, n.minute)
	n.part.count(n.e.Kind, answer.Actor, change.Result)
	if change.Result == timing.Late {
		return nil
	}
	n.part.answered(answer)
	day := n.hour / timing.Day
	busy := change.Result == timing.Counted && ch.Busy(day) // a second engaged hour in a day that can still be tested
	if change.Result == timing.Counted {
		tally.cells[timing.HourOfWeek(n.hour)].engaged++
	}
	if reported := ch.Reported(); !busy && len(change.Alarms) == 0 && n.s.below < 1 && (reported || change.Result != timing.Counted) {
		return nil // nothing to say: by far the most frequent end
	}
	v := &n.part.view
	n.model.Derive(v, n.p, n.e.Channel, n.hour, day)
	if !v.Reported() && change.Result == timing.Counted {
		v.Spread(n.hour, func(at timing.Hour, flat, own float64) { tally.expect(n.part.flushed, at, flat, own) })
	}
	var tests []timing.Test
	tests = append(tests, change.Alarms...)
	if busy || n.s.below >= 1 {
		t := n.model.Burst(&ch.State, v, day)
		if busy && t.P < n.s.below && v.Evidence.Enough() || n.s.below >= 1 {
			tests = append(tests, t)
		}
	}
	if len(tests) == 0 {
		return nil
	}
	return n.emit(v, answer.Seconds, tests...)
}

func (n *note) world() *timing.World { return &timing.World{Model: n.model} }

// monitored is the share of customers whose every day goes into the calibration monitor, chosen by hash: a view of each
// settled day would cost as much as all the rest.
const monitored = 0.25

// close takes the days that this event settles into the calibration monitor.
func (n *note) close(ch *timing.Channel) {
	if timing.Hash(n.e.Subject, 0, "monitor") >= monitored {
		return
	}
	n.world().Closing(n.p, ch, n.e.Subject, n.hour, func(stratum int, p float64) { n.part.tails[stratum][timing.TailBin(p)]++ })
}

// emit publishes what was measured.
func (n *note) emit(v *timing.View, response int64, tests ...timing.Test) error {
	for i := range tests {
		tests[i].Expected = math.Round(1e4*tests[i].Expected) / 1e4
	}
	v.Evidence.Partial = n.e.Time.Unix() < n.part.whole
	best, score := v.Best(n.hour)
	at := calendar.Instant(best, n.zone)
	if best == n.hour {
		at = n.e.Time.UTC().Truncate(time.Second) // now is the best hour
	}
	data, err := json.Marshal(&timing.Scored{
		Event: n.e.ID, Kind: n.e.Kind.String(), Channel: n.e.Channel,
		Local: n.e.Time.In(n.zone).Format("2006-01-02T15:04:05"), Zone: n.zoneName,
		Tests: tests, Evidence: v.Evidence,
		Score:           timing.Score{Now: v.Score(n.hour), Best: score, BestAt: at.UTC(), Confidence: v.Confidence, Level: v.Level},
		ResponseSeconds: max(0, response), Model: n.model.Version,
	})
	if err != nil {
		return fmt.Errorf("encode scored event: %w", err)
	}
	n.c.Emit(stream.Emission{Topic: topics.Scored, Type: timing.ScoredType, Prefix: "sc-", Subject: n.e.Subject, Data: data})
	return nil
}
