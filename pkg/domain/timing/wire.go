package timing

import "time"

// CloudEvents types of what stands on the topics.
const (
	ScoredType = "io.tempismo.scored.v1"
	DigestType = "io.tempismo.digest.v1"
	ModelType  = "io.tempismo.model.v1"
)

// Kinds of tests.
const (
	Burst        = "burst"        // more engaged hours in a day than the mail received explains
	Timing       = "timing"       // an answer at an hour at which this customer hardly ever answers
	Drift        = "drift"        // answers have come at other hours than they used to, for some time: the habit has moved
	Silence      = "silence"      // more ignored mail in a row than this customer's habit explains
	Reactivation = "reactivation" // the first engagement after a silence
)

// Levels say whose habits a view shows.
const (
	LevelOwn           = "own"            // the customer's own, with at least five engaged hours of evidence
	LevelPersona       = "persona"        // little evidence: mostly those of customers who resemble this one
	LevelSegment       = "segment"        // hardly any evidence: mostly those of the customer's segment
	LevelPopulation    = "population"     // no evidence: everybody's
	LevelBusinessHours = "business_hours" // no evidence, and nothing was fitted yet: what is assumed of everybody
)

// Scored is the data of engagement.scored.v1: what was measured when an event came, before any judgement.
type Scored struct {
	Event           string   `json:"event"` // id of the engagement event
	Kind            string   `json:"kind"`  // its kind
	Channel         string   `json:"channel"`
	Local           string   `json:"local"` // wall-clock time of the customer, 2006-01-02T15:04:05
	Zone            string   `json:"zone"`
	Segment         string   `json:"segment,omitempty"`   // the customer's; absent: none known
	Everybody       bool     `json:"everybody,omitempty"` // far more customers than usual burst in this hour: it is not this one alone
	Tests           []Test   `json:"tests"`
	Evidence        Evidence `json:"evidence"`
	Score           Score    `json:"score"`
	ResponseSeconds int64    `json:"response_seconds,omitempty"` // since delivery of the same message; 0: not known
	Model           string   `json:"model"`
}

// Test is one comparison of a customer with their own profile.
type Test struct {
	Kind     string  `json:"kind"`
	P        float64 `json:"p"`               // probability of something at least as unusual (mid-p for burst and timing); drift: false alarms are 1/P days with answers apart, at least
	PAct     float64 `json:"p_act,omitempty"` // the same, given that there was anything at all: the gate for actions
	Observed float64 `json:"observed"`        // burst: engaged hours today; silence, reactivation: ignored mail days in a row; timing: hour of the day; drift: hour of the day around which answers fall now
	Expected float64 `json:"expected"`        // burst: engaged hours that day; silence, reactivation: mail days usually read of as many; timing: the likeliest hour of the day; drift: hour around which they used to fall
	Days     int     `json:"days,omitempty"`  // silence, reactivation: days since the engagement before; drift: since the answer that raised it
}

// Evidence is how much a profile knows, without the day under test.
type Evidence struct {
	EngagedHours float64 `json:"engaged_hours"`     // forward-decayed: half after 13 weeks
	Deliveries   int     `json:"deliveries"`        // ever
	Days         int     `json:"days"`              // since first seen
	EngagedDays  int     `json:"engaged_days"`      // distinct, ever; stands in for deliveries where a source reports none
	Partial      bool    `json:"partial,omitempty"` // rebuilt from a log that no longer held the beginning: nothing may act on it
}

// Enough is the minimum for a deviation: five engaged hours, eight deliveries and three weeks; where no deliveries are
// reported, eight distinct engaged days stand in for them.
func (e Evidence) Enough() bool {
	return e.EngagedHours >= 5 && e.Days >= 21 && (e.Deliveries >= 8 || e.Deliveries == 0 && e.EngagedDays >= 8)
}

// Score is the moment of an event among the hours of the week: 50 is this customer's average hour for a message to be sent,
// 100 twice as good or better, 0 half as good or worse.
type Score struct {
	Now        int       `json:"now"`
	Best       int       `json:"best"`            // highest of the hours ahead (Horizon)
	BestAt     time.Time `json:"best_at"`         // its beginning
	Worth      float64   `json:"worth,omitempty"` // after an engagement: what a send now is worth as a share of one at BestAt, engagement included (View.Worth)
	Confidence int       `json:"confidence"`
	Level      string    `json:"level"`
}

// Digest is the data of timing.digests.v1: what one partition counted in a period of event time.
type Digest struct {
	Minute          time.Time `json:"minute"`  // beginning of the period
	Seconds         int       `json:"seconds"` // its length
	Cells           []Cell    `json:"cells"`
	Tails           []Tail    `json:"tails,omitempty"`
	Active          uint64    `json:"active,omitempty"`           // customer-days with an engaged hour that were settled, whatever the evidence
	Gaps            []string  `json:"gaps,omitempty"`             // local days (2006-01-02) on which the feed of engagements was found to have been down
	Everybody       uint64    `json:"everybody,omitempty"`        // scored events of hours in which far more customers than usual burst
	Response        []uint32  `json:"response,omitempty"`         // engagements by time since delivery, see ResponseBin
	ResponseCount   uint64    `json:"response_count,omitempty"`   // how many answers the bins hold
	ResponseSeconds uint64    `json:"response_seconds,omitempty"` // sum of their delays
	Optimal         uint64    `json:"optimal"`                    // human engagements that answer a send whose hour scored 80 or more
	Engagements     uint64    `json:"engagements"`                // all human engagements
	Events          Events    `json:"events"`
}

// Cell is one hour of the week in a digest, in one channel and segment.
type Cell struct {
	Channel       string  `json:"channel"`
	Segment       string  `json:"segment"`
	How           int     `json:"how"`            // hour of week, 0 = Monday 00
	Delivered     uint32  `json:"delivered"`      // delivery hours
	Engaged       uint32  `json:"engaged"`        // engaged hours
	Expected      float64 `json:"expected"`       // engaged hours that the sends explain, were every hour like every other
	ModelExpected float64 `json:"model_expected"` // the same with each customer's own attention
}

// Tail is a histogram of p-values of one kind in one stratum of evidence. Those of burst, timing and silence are for the
// calibration monitor: hash-randomised, so that they are uniform where the law is true. That of Act is what the action gate
// is computed from.
//
//	burst    settled customer-days on which mail could have been answered
//	timing   answers that were tested
//	silence  mail days ignored in a row until an engagement ended it, given that there was one
//	act      p_act of settled customer-days with an engaged hour and evidence enough
//
// Of customer-days a sample is looked at (see Closing), and each counts for as many as it stands for.
type Tail struct {
	Kind    string   `json:"kind"`
	Stratum string   `json:"stratum"` // see Stratum
	Bins    []uint32 `json:"bins"`    // see TailBin; of Act, ActBin
}

// Act is the kind of the histogram of p_act; it is no kind of test.
const Act = "act"

// Events counts the events of a period.
type Events struct {
	Human     uint64 `json:"human"`
	Probable  uint64 `json:"probable"`
	Machine   uint64 `json:"machine"`
	Late      uint64 `json:"late"`
	Duplicate uint64 `json:"duplicate"` // brought nothing that the profile did not hold: an hour already counted

	// What left no trace and is in none of the above.
	Erased      uint64 `json:"erased,omitempty"`      // of before an erasure
	Unconsented uint64 `json:"unconsented,omitempty"` // opens of customers who have refused pixels
}

// Strata names the strata of evidence, in order of evidence.
var Strata = [...]string{"0-4", "5-19", "20-99", "100+"}

// Stratum is the index in Strata for so many engaged hours of evidence (decayed).
func Stratum(engagedHours float64) int {
	switch {
	case engagedHours < 5:
		return 0
	case engagedHours < 20:
		return 1
	case engagedHours < 100:
		return 2
	}
	return 3
}
