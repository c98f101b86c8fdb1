package profiler

import (
	"errors"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// Reasons of the erasures that the profiler orders.
const (
	withdrawn = "pixel consent withdrawn"
	renewed   = "pixel consent given after a refusal"
	given     = "pixel consent given" // by somebody whose opens were not taken before, because nobody had asked
	lapsed    = "refusal of pixels not told any more"
)

// Reasons of the refusals of mail that the profiler finds among the events.
var leaving = map[engagement.Kind]string{engagement.Unsubscribe: "unsubscribed", engagement.Complaint: "marked as spam"}

// told reads attributes, an answer or an erasure.
func (s *stepper) told(r *stream.Record, in *Input) (stream.Cause, error) {
	in.customer, in.attributes = string(r.Key), customer.Attributes{}
	if len(r.Value) == 0 && in.topic == topics.Attributes { // nothing is known any more
		return stream.Cause{}, nil
	}
	e, err := stream.ParseEvent(r.Value)
	if err != nil {
		return stream.Cause{}, err
	}
	if e.Subject != in.customer {
		return stream.Cause{}, errors.New("subject: is not the key of the record")
	}
	want, parse := customer.Type, in.attributes.Parse
	switch in.topic {
	case topics.Consents:
		want, parse = customer.ConsentType, in.answer.Parse
	case topics.Erasures:
		want, parse = customer.ErasureType, in.erasure.Parse
	}
	if e.Type != want {
		return stream.Cause{}, fmt.Errorf("type: %q is not %s", e.Type, want)
	}
	// Without a time: what is told is true when it is read, and a replay tells it before all events, whose clock it must not move.
	return stream.Cause{ID: e.ID, Trace: e.Traceparent}, parse(e.Data)
}

// attribute notes what is told of the customer: what is not told is not known any more. A zone that does not exist is not told.
func (s *stepper) attribute(c *stream.Context, p *timing.Profile, in *Input) {
	a := &in.attributes
	home := a.Zone
	if _, err := calendar.Zone(home); err != nil {
		home = ""
	}
	if home != "" || p.Zone == p.Home {
		p.Zone = home
	}
	p.Home, p.Segment = home, a.Segment

	before := p.Pixel()
	p.Told = timing.Pixel{}
	if a.Consents.Pixel != nil {
		p.Told = answerOf(a.Consents.Pixel)
	}
	s.answered(c, p, in.customer, before)
}

// consent notes what the customer has answered. Only the last answer counts, whatever the order in which they are told.
func (s *stepper) consent(c *stream.Context, p *timing.Profile, in *Input) {
	if in.answer.Pixel == nil {
		return
	}
	before := p.Pixel()
	p.Say(answerOf(in.answer.Pixel))
	s.answered(c, p, in.customer, before)
}

func answerOf(c *customer.Consent) timing.Pixel {
	return timing.Pixel{At: max(1, timing.Millis(c.At)), Granted: c.Granted}
}

// answered does what follows from another answer than before.
//
// Between a refusal of pixels and the consent that ends it no open is noted, and both begin the profile anew: what was learned
// before may hold opens, and what was learned between holds none, so that it cannot be compared with what comes after. Where
// consent has to be given first, not having answered is as good as a refusal; only where nothing was learned meanwhile there is
// nothing to begin anew. All that is published as erasures, for attributes are a table: whoever reads it later sees the last answer
// only, and would take opens of between for consented ones.
func (s *stepper) answered(c *stream.Context, p *timing.Profile, who string, before timing.Pixel) {
	now := p.Pixel()
	refused, unknown := before.At != 0 && !before.Granted, before.At == 0
	at := time.UnixMilli(now.At)
	switch {
	case now.At != 0 && !now.Granted:
		if !refused {
			p.Forget() // also what came between the answer and the record of it
		}
		order(c, p, who, at, withdrawn)
	case now.Granted && refused:
		order(c, p, who, at, renewed)
	case now.Granted && unknown && !s.assumed && len(p.Channels) > 0:
		order(c, p, who, at, given)
	case now.At == 0 && refused:
		order(c, p, who, c.Now(), lapsed)
	}
}

// leave tells everybody that the customer wants no more mail in a channel: providers report that as an event.
func leave(c *stream.Context, e *engagement.Event) {
	a := customer.Answer{Mailing: &customer.Consent{At: e.Time.UTC()}, Channel: e.Channel, Reason: leaving[e.Kind]}
	c.Emit(stream.Emission{Topic: topics.Consents, Type: customer.ConsentType, Prefix: "co-", Subject: e.Subject, Data: a.Append(nil)})
}

// order begins the profile anew, and tells everybody else to do the same.
func order(c *stream.Context, p *timing.Profile, who string, before time.Time, reason string) {
	if !p.Erase(before) {
		return
	}
	x := customer.Erasure{Signals: []string{customer.SignalOpen}, Before: before.UTC(), Reason: reason}
	c.Emit(stream.Emission{Topic: topics.Erasures, Type: customer.ErasureType, Prefix: "er-", Subject: who, Data: x.Append(nil)})
}

// erase forgets what an erasure names.
func erase(p *timing.Profile, x *customer.Erasure) {
	if x.All() {
		p.EraseAll(x.Before)
	} else {
		p.Erase(x.Before)
	}
}
