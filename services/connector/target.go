package connector

import (
	"cmp"
	"net/http"
	"sync/atomic"

	"github.com/tempismo/tempismo/services/connector/crm"
)

// target is the CRM that is called. It is shared by all partitions: what it says about itself, that it is gone or wants to
// be left alone for a while, holds for all of them, and so does the rate.
type target struct {
	*gate
	crm    crm.CRM // nil: nobody is called
	traits crm.Traits
	client *http.Client
	slots  chan struct{} // calls under way
	denied atomic.Bool   // it last said that the key or the address is wrong
	gone   atomic.Bool   // it answered 410

	updater crm.Updater // nil: it takes no properties of contacts
	share   *gate       // what is left of the account's limits for those
}

// newTarget makes the target of a run. A simulated one is never the CRM.
func newTarget(c Config) (*target, error) {
	simulated, to := c.Run.Simulated(), c.chosen()
	url := to.url
	if simulated {
		url = to.calls.SimulatedTarget
	}
	if url == "" {
		return aim(nil, to.calls), nil
	}
	client := to.calls.Client(to.prefix, simulated)
	called, err := to.open(client, url)
	if err != nil {
		return nil, err
	}
	t := aim(called, to.calls)
	t.client = client
	return t, nil
}

// aim makes a target of a CRM, or of nobody.
func aim(to crm.CRM, c crm.Calls) *target {
	t := &target{crm: to, slots: make(chan struct{}, c.Concurrency)}
	if to == nil {
		return t
	}
	t.traits = to.Traits()
	t.gate = newGate(cmp.Or(c.Rate, t.traits.Rate), t.traits.Breaker)
	if u, ok := to.(crm.Updater); ok {
		t.updater, t.share = u, newGate(share(u.UpdateTraits().Rate, t.traits.Rate, c.Rate), true)
	}
	return t
}

// share is how many updates a second may be made where sends were set to another rate: the account is shared with others.
func share(updates, sends, set float64) float64 {
	switch {
	case set == 0:
		return updates
	case sends > 0:
		return updates * min(1, set/sends)
	}
	return min(updates, set)
}

// close notes that the target is gone, and reports whether that is new.
func (t *target) close() bool { return !t.gone.Swap(true) }

func (t *target) isGone() bool { return t.gone.Load() }
