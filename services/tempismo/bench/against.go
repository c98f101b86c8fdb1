package bench

import "context"

// Against is the profiler on as many events of another number of customers: what an event costs must not hang on how many
// there are.
type Against struct {
	Customers int     `json:"customers"`
	Seen      int64   `json:"customers_seen"` // that had an event
	Profile   *Drain  `json:"profile"`
	Ratio     float64 `json:"cost_ratio"` // processor time of all processes for an event, of the measured load to this one
}

// against drains a second load, in a run of its own on the same broker and store.
func (s *System) against(ctx context.Context, o Options, f *Figures) error {
	other := *s
	other.Run.ID += "-against"
	if err := other.Prepare(ctx); err != nil {
		return err
	}
	o.Load.Customers = o.Against
	pre, err := other.preload(ctx, NewGenerator(o.Load))
	if err != nil {
		return err
	}
	var second Figures
	if err := other.profile(ctx, pre, &second); err != nil {
		return err
	}
	f.Against = &Against{Customers: o.Against, Seen: pre.Customers, Profile: second.Profile, Ratio: f.Profile.CPU.total() / second.Profile.CPU.total()}
	s.say("an event costs %.2f of what it costs with %d customers", f.Against.Ratio, o.Against)
	return nil
}

func (c Cost) total() float64 { return c.Service + c.Broker + c.Redis }
