package profiler

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// ahead is how far an event's time may lie after the partition's clock in a live run.
const ahead = time.Minute

// Input is a decoded input record: an engagement event, what is told of a customer, or a model, which Adopt has dealt with.
type Input struct {
	event engagement.Event

	topic      string // declared name of the topic that it stands on
	customer   string // of what is told of one
	attributes customer.Attributes
	answer     customer.Answer
	erasure    customer.Erasure
}

// stepper holds what does not change while the service runs.
type stepper struct {
	run      stream.Run
	builtin  *timing.Model
	zone     *time.Location
	zoneName string
	below    float64
	assumed  bool  // who has not answered may be observed by tracking pixels
	every    int64 // seconds of event time to a digest
}

// decode reads a record. All its errors are permanent: the bytes will not change.
func (s *stepper) decode(r *stream.Record, in *Input) (cause stream.Cause, err error) {
	switch in.topic = s.run.Base(r.Topic); in.topic {
	case topics.Models:
		var e stream.Event
		e, err = stream.ParseEvent(r.Value)
		cause = stream.Cause{ID: e.ID, Time: e.Time, Trace: e.Traceparent}
	case topics.Attributes, topics.Consents, topics.Erasures:
		cause, err = s.told(r, in)
	default:
		e := &in.event
		if err = e.Parse(r.Value); err == nil && e.Subject != string(r.Key) {
			err = &engagement.FieldError{Field: "subject", Reason: "is not the key of the record"}
		}
		cause = stream.Cause{ID: e.ID, Time: e.Time, Trace: e.Trace}
	}
	if err != nil {
		return stream.Cause{}, stream.Permanent(err)
	}
	return cause, nil
}

// step notes one event in the customer's profile.
func (s *stepper) step(c *stream.Context, p *timing.Profile, part *Partition, in *Input) error {
	switch in.topic {
	case topics.Models:
		return nil
	case topics.Attributes:
		s.attribute(c, p, in)
		return nil
	case topics.Consents:
		s.consent(c, p, in)
		return nil
	case topics.Erasures:
		erase(p, &in.erasure)
		return nil
	}
	e := &in.event
	if !s.run.Simulated && e.Time.After(c.Now().Add(ahead)) {
		return stream.Permanent(&engagement.FieldError{Field: "time", Reason: "lies more than a minute in the future"})
	}
	erased, observable := p.Erased(e.Time), p.Observable(e.Time, s.assumed)
	unconsented := !observable && e.Kind == engagement.Open
	heard := !erased && !unconsented
	if heard && len(p.Channels) >= timing.MaxChannels && p.Find(e.Channel) == nil {
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
	if leaving[e.Kind] != "" {
		leave(c, e)
	}
	if !heard {
		part.ignore(e.Kind, erased)
		return nil
	}
	if e.Zone != "" && e.Zone != p.Zone && !p.Dated(hour) {
		p.Zone = strings.Clone(e.Zone)
	}
	if part.world.Model == nil {
		part.world.Model = s.builtin
	}
	n := note{s: s, c: c, p: p, part: part, e: e, zone: zone, zoneName: zoneName, hour: hour, minute: minute, observable: observable}
	switch {
	case e.Kind == engagement.Delivered:
		n.delivered()
	case e.Kind.Engaged():
		n.engaged()
	default:
		part.count(e.Kind, e.Actor, timing.Counted)
	}
	return nil
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
	zone     *time.Location
	zoneName string
	hour     timing.Hour
	minute   int

	observable bool // opens of that time may be noted
}

// expectations is of how many deliveries one is asked what it lets expect, chosen by hash: it counts for all of them. A view
// of each delivery would cost more than all the rest.
const expectations = 16

func (n *note) delivered() {
	ch, tally, world := n.p.Channel(n.e.Channel), n.part.tally(n.e.Channel, n.p.Segment), &n.part.world
	world.Closing(n.p, ch, n.e.Subject, n.hour, n.closed)
	change := ch.Delivered(world, n.hour)
	n.part.count(n.e.Kind, n.e.Actor, change.Result)
	if change.Result == timing.Late {
		return
	}
	n.p.Sent(n.e)
	expect := false
	if change.Result == timing.Counted && n.observable { // opens would be missed that cannot come
		tally.cells[timing.HourOfWeek(n.hour)].delivered++
		expect = timing.Hash(n.e.Subject, n.hour, "expected")*expectations < 1
	}
	if !expect && len(change.Alarms) == 0 {
		return // nothing to say: by far the most frequent end
	}
	v := &n.part.view
	world.Derive(v, n.p, n.e.Channel, n.hour, timing.Everything)
	if expect {
		n.part.expect(tally, v, n.hour, expectations)
	}
	if len(change.Alarms) > 0 {
		n.emit(v, 0, change.Alarms...)
	}
}

func (n *note) engaged() {
	answer := n.p.Answered(n.e)
	if answer.Actor != engagement.Human {
		n.part.count(n.e.Kind, answer.Actor, timing.Counted)
		return
	}
	ch, part := n.p.Channel(n.e.Channel), n.part
	tally, world, day := part.tally(n.e.Channel, n.p.Segment), &part.world, n.hour/timing.Day
	world.Closing(n.p, ch, n.e.Subject, n.hour, n.closed)
	longer, asLong, ended := world.Ending(&ch.State, n.hour)
	change := ch.Engaged(world, n.hour, n.minute)
	part.count(n.e.Kind, answer.Actor, change.Result)
	if change.Result == timing.Late {
		return
	}
	counted, all := change.Result == timing.Counted, n.s.below >= 1
	compared := counted && n.observable // clicks alone are not held against what the mail of everybody lets expect
	if compared {
		tally.cells[timing.HourOfWeek(n.hour)].engaged++
		part.feed.engaged(day)
	}

	// What the event asks of the profile decides whether a view is made.
	spread := compared && !ch.Reported() && timing.Hash(n.e.Subject, n.hour, "expected")*expectations < 1
	busy := counted && ch.Busy(day) // a second engaged hour in a day that can still be tested
	odd := counted && ch.Answerable(n.hour)
	if !spread && !busy && !odd && !ended && !answer.First && !all && len(change.Alarms) == 0 {
		part.answered(&answer)
		if counted {
			part.crowd.add(false)
		}
		return
	}
	v := &part.view
	world.Derive(v, n.p, n.e.Channel, n.hour, day)
	if answer.First {
		sent, _ := calendar.LocalHour(n.e.Time.Add(-time.Duration(answer.Seconds)*time.Second), n.zone)
		if answer.Prime = v.Score(sent) >= timing.Prime; answer.Prime {
			n.p.Primed(n.e.Message)
		}
	}
	part.answered(&answer)
	if spread {
		part.spread(tally, v, n.hour, expectations)
	}
	stratum := timing.Stratum(v.Evidence.EngagedHours)
	if ended {
		part.tails[silenceTail][stratum][timing.TailBin(longer+timing.Hash(n.e.Subject, day, timing.Silence)*asLong)]++
	}

	tests := append(part.tests[:0], change.Alarms...)
	burst := false
	if busy || all {
		t := world.Model.Burst(&ch.State, v, day)
		burst = busy && t.P < timing.TwoSigma && v.Evidence.Enough()
		if busy && t.P < n.s.below && v.Evidence.Enough() || all {
			tests = append(tests, t)
		}
	}
	if odd || all {
		if t, ties, ok := world.Model.Timing(&ch.State, v, n.hour); ok {
			enough := counted && v.Evidence.Enough()
			if enough {
				part.tails[timingTail][stratum][timing.TailBin(t.P+(timing.Hash(n.e.Subject, n.hour, timing.Timing)-.5)*ties)]++
			}
			if enough && t.P < n.s.below || all {
				tests = append(tests, t)
			}
		}
	}
	if counted {
		part.crowd.add(burst)
	}
	if len(tests) == 0 {
		return
	}
	n.emit(v, answer.Seconds, tests...)
}

// closed takes a day that this event settles into the calibration monitor and the histogram of the action gate.
func (n *note) closed(d timing.Closed) {
	if d.Active {
		n.part.active++
	}
	if d.Exposed && d.Weight > 0 {
		n.part.tails[burstTail][d.Stratum][timing.TailBin(d.P)] += d.Weight
	}
	if d.PAct > 0 {
		n.part.acts[d.Stratum][timing.ActBin(d.PAct)] += d.Weight
	}
}

// emit publishes what was measured.
func (n *note) emit(v *timing.View, response int64, tests ...timing.Test) {
	for i := range tests {
		tests[i].Expected = rounded(tests[i].Expected)
	}
	part := n.part
	v.Evidence.Partial = n.e.Time.Unix() < part.whole
	best, score := v.Best(n.hour)
	at := calendar.Instant(best, n.zone)
	if best == n.hour {
		at = n.e.Time.UTC().Truncate(time.Second) // now is the best hour
	}
	scored := timing.Scored{
		Event: n.e.ID, Kind: n.e.Kind.String(), Channel: n.e.Channel,
		Local: n.local(), Zone: n.zoneName, Segment: n.p.Segment, Everybody: part.crowd.everybody(),
		Tests: tests, Evidence: v.Evidence,
		Score:           timing.Score{Now: v.Score(n.hour), Best: score, BestAt: at.UTC(), Confidence: v.Confidence, Level: v.Level},
		ResponseSeconds: max(0, response), Model: part.world.Model.Version,
	}
	if n.e.Kind.Engaged() {
		scored.Score.Worth = rounded(v.Worth(n.hour, best))
	}
	if scored.Everybody {
		part.everybody++
	}
	part.data = scored.Append(part.data[:0])
	n.c.Emit(stream.Emission{Topic: topics.Scored, Type: timing.ScoredType, Prefix: "sc-", Subject: n.e.Subject, Data: part.data})
}

// local is the customer's wall-clock time of the event.
func (n *note) local() string {
	second := n.hour*3600 + int64(n.minute)*60 + int64(n.e.Time.Second())
	var b [len(time.RFC3339)]byte
	text := time.Unix(monday+second, 0).UTC().AppendFormat(b[:0], time.RFC3339) // the one layout that is written fast
	return string(text[:len("2006-01-02T15:04:05")])
}

// monday is the beginning of local hour 0, in seconds since 1970 on the same wall clock.
const monday = 4 * 24 * 3600

func rounded(v float64) float64 { return math.Round(1e4*v) / 1e4 }
