// Package evaluation judges timing: how well it predicts when customers engage, beside what simpler methods predict, and
// whether its tests of the unusual keep what they promise.
//
// Scores go through a log in order of time: every method predicts the hour of the next sitting of a customer from what came
// before, is scored, and learns. Bars need more than a log: somebody who knows what has happened to the customers (package
// truth). They are measured with the code that the services run, on the time after the truth's quiet_until, with a model
// fitted on the time before.
//
// The package judges and tunes nothing: no number that is measured here flows back into a model. It is not a simulator, it
// reads no file and no clock, and all its randomness comes from a seed: the same log gives the same report.
package evaluation

// Report is what an evaluation found: the output of `tempismo evaluate --json`.
type Report struct {
	Bars    []Bar   `json:"bars"`
	Scores  []Score `json:"scores"`
	LeftOut []Left  `json:"left_out"` // bars and scores that this log or this truth cannot tell
	Log     Summary `json:"log"`
	Model   string  `json:"model,omitempty"`   // what the fit for the bars found and what it took from defaults, in words
	Details []Info  `json:"details,omitempty"` // numbers that explain bars but are none

	Pictures []Picture `json:"-"`
}

// Bar is a statistical promise and how it was kept. A bar holds unless its interval lies wholly outside of low to high: a
// value may miss a bound by no more than chance explains, and how much that is follows from the sample alone.
type Bar struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Low   float64 `json:"low"` // smallest value that keeps the promise; -Unbounded where there is none
	High  float64 `json:"high"`
	Holds bool    `json:"holds"`
	Lo    float64 `json:"lo"` // 99 % interval of Value, by a bootstrap over customers
	Hi    float64 `json:"hi"`
	N     int     `json:"n"` // of what was counted: days, engaged hours, streaks, customers
	Unit  string  `json:"unit"`
}

// Unbounded stands for a bound that a bar does not have.
const Unbounded = 1e6

// Score is how well a method predicts, in one stratum of history.
type Score struct {
	Method  string  `json:"method"`
	Metric  string  `json:"metric"`
	Stratum string  `json:"stratum"` // sittings of history; "all" for everybody
	N       int     `json:"n"`       // sittings predicted
	Value   float64 `json:"value"`
	Lo      float64 `json:"lo"` // 95 % interval of Value, by a bootstrap over customers
	Hi      float64 `json:"hi"`
}

// Left is something that was not measured, and why.
type Left struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Info is a number that is no bar.
type Info struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Summary says what a log holds.
type Summary struct {
	Customers  int `json:"customers"`
	Deliveries int `json:"deliveries"`
	Engaged    int `json:"engaged"`  // human engagements
	Sittings   int `json:"sittings"` // of these, merged over 30 minutes
	Machine    int `json:"machine"`  // engagements that a rule took for a machine's
	Repeated   int `json:"repeated"` // events of the same customer, second, kind and message
	Days       int `json:"days"`     // from the first event to the last
}
