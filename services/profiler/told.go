package profiler

import (
	"errors"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// Reasons of the erasures that the profiler orders.
const (
	withdrawn = "pixel consent withdrawn"
	renewed   = "pixel consent given after a refusal"
	lapsed    = "refusal of pixels not told any more"
)

// told reads attributes or an erasure.
func (s *stepper) told(r *stream.Record, in *Input) (stream.Cause, error) {
	in.customer, in.attributes = string(r.Key), customer.Attributes{}
	if len(r.Value) == 0 { // of attributes: nothing is known any more
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
	if in.topic == topics.Erasures {
		want, parse = customer.ErasureType, in.erasure.Parse
	}
	if e.Type != want {
		return stream.Cause{}, fmt.Errorf("type: %q is not %s", e.Type, want)
	}
	// Without a time: what is told is true when it is read, and a replay tells it before all events, whose clock it must not move.
	return stream.Cause{ID: e.ID, Trace: e.Traceparent}, parse(e.Data)
}

// attribute notes what is told of the customer: what is not told is not known any more. A zone that does not exist is not told.
//
// Between a refusal of pixels and the consent that ends it no open is noted, and both begin the profile anew: what was learned
// before may hold opens, and what was learned between holds none, so that it cannot be compared with what comes after. Both are
// published as erasures, for attributes are a table: whoever reads it later sees the last answer only, and would take opens of
// between for consented ones.
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

	refused, was := a.PixelRefused(), p.Refused
	p.Refused = refused
	switch pixel := a.Consents.Pixel; {
	case refused:
		if !was {
			p.Forget() // also what came between the answer and the record of it
		}
		order(c, p, in.customer, pixel.At, withdrawn)
	case !was:
	case pixel != nil:
		order(c, p, in.customer, pixel.At, renewed)
	default:
		order(c, p, in.customer, c.Now(), lapsed)
	}
}

// order begins the profile anew, and tells everybody else to do the same.
func order(c *stream.Context, p *timing.Profile, who string, before time.Time, reason string) {
	if !p.Erase(before) {
		return
	}
	x := customer.Erasure{Signals: []string{customer.SignalOpen}, Before: before.UTC(), Reason: reason}
	c.Emit(stream.Emission{Topic: topics.Erasures, Type: customer.ErasureType, Prefix: "er-", Subject: who, Data: x.Append(nil)})
}

// erase forgets what an erasure names. Whether pixels are refused is not among it: that is for the attributes to say.
func erase(p *timing.Profile, x *customer.Erasure) {
	p.Erase(x.Before)
	if x.All() {
		p.Zone, p.Home, p.Segment = "", "", ""
	}
}
