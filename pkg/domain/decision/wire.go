package decision

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// CloudEvents types of decisions. A connector filters on SendNowType alone.
const (
	SendNowType = "io.tempismo.decision.send_now.v1"
	BlockedType = "io.tempismo.decision.blocked.v1"
	ExpiredType = "io.tempismo.decision.expired.v1"
)

// Prefix begins the id of every decision.
const Prefix = "d-"

// Reason is the one word that says why a decision is what it is. The list is closed: send_now decisions name what
// triggered them, all others the first rule that failed.
type Reason string

// Reasons.
const (
	Burst        Reason = "burst"        // send_now: unusually attentive
	Reactivation Reason = "reactivation" // send_now: back after a long silence

	NotActionable   Reason = "not_actionable"    // counted, never written: see Decide
	OtherChannel    Reason = "other_channel"     // counted, never written: see Decide
	Expired         Reason = "expired"           // the moment had passed before the deviation was seen
	BetterHourAhead Reason = "better_hour_ahead" // this hour is worth less than 0.8 of the best one ahead
	ClosedDay       Reason = "closed_day"
	OutsideWindow   Reason = "window"
	QuietHours      Reason = "quiet_hours"
	FrequencyCap    Reason = "frequency_cap"
	MinimumGap      Reason = "minimum_gap"
)

// Names of the rules in the order in which they are applied and listed.
const (
	RuleExpiry    = "expiry"
	RuleBestHour  = "best_hour"
	RuleCalendar  = "calendar"
	RuleWindow    = "window"
	RuleQuiet     = "quiet_hours"
	RuleFrequency = "frequency_cap"
	RuleGap       = "minimum_gap"
)

// Treatment is the arm of a customer who gets what was decided. Hold-outs do not exist yet, so its propensity is 1.
const Treatment = "treatment"

// Decision is the data of a decision on send.decisions.v1. Its CloudEvents envelope has the customer as subject and the
// time of the engagement that caused it.
type Decision struct {
	Type       string       `json:"-"` // of the envelope
	Reason     Reason       `json:"reason"`
	DecidedAt  time.Time    `json:"decided_at"` // the partition's clock when it was decided
	Channel    string       `json:"channel"`
	Zone       string       `json:"zone"` // the customer's, in which the rules were applied
	Score      timing.Score `json:"score"`
	NotBefore  time.Time    `json:"not_before"`
	ExpiresAt  time.Time    `json:"expires_at"` // from this instant on it must not be carried out
	Deviation  string       `json:"deviation"`  // id of the deviation that led to it
	Arm        string       `json:"arm"`
	Propensity float64      `json:"propensity"` // probability of the arm
	Rules      []Rule       `json:"rules"`
	MadeFrom   MadeFrom     `json:"made_from"`
	Summary    string       `json:"summary"` // one English sentence, without a full stop
}

// Rule is one rule and what became of it.
type Rule struct {
	Rule   string `json:"rule"`
	Passed bool   `json:"passed"`
	Detail string `json:"detail"`
}

// MadeFrom names everything that a decision was computed from, so that it can be computed again.
type MadeFrom struct {
	Positions map[string]string `json:"positions"` // "partition:offset" by input topic
	Profile   string            `json:"profile"`   // position of the event up to which the profile was known
	Model     string            `json:"model"`
	Policy    string            `json:"policy"`
	Calendar  string            `json:"calendar"`
}

// Append writes the data object.
func (d *Decision) Append(dst []byte) []byte { return appendJSON(dst, d) }

// Parse reads the data object of a decision whose envelope has the given type. What a connector needs to carry it out
// must be there: the reason, and for send_now the expiry.
func (d *Decision) Parse(typ string, data []byte) error {
	*d = Decision{}
	if err := json.Unmarshal(data, d); err != nil {
		return fmt.Errorf("parse decision: %w", err)
	}
	d.Type = typ
	if d.Reason == "" {
		return fmt.Errorf("parse decision: reason: missing")
	}
	if typ == SendNowType && d.ExpiresAt.IsZero() {
		return fmt.Errorf("parse decision: expires_at: missing")
	}
	return nil
}

// OutcomeType is the CloudEvents type of outcomes.
const OutcomeType = "io.tempismo.outcome.v1"

// Outcome is the data of a record on send.outcomes.v1: what a connector did with a decision. Attempting is written
// before each call, so that a crash leaves a trace; one of the final results follows. The connector's outcomes of one
// decision are thus any number of attempting and one final result.
type Outcome struct {
	Decision  string `json:"decision"`
	Connector string `json:"connector"`
	Result    Result `json:"result"`
	CRMID     string `json:"crm_id"`   // the CRM's own id of the send, if it gave one
	Attempts  int    `json:"attempts"` // calls so far, this one included
	Detail    string `json:"detail"`
}

// Result is what became of a decision.
type Result string

// Results. Those from Delivered on are what the customer did next; they come from providers' events.
const (
	Attempting Result = "attempting" // about to be called
	Accepted   Result = "accepted"   // the CRM took it
	Refused    Result = "refused"    // the CRM will never take it
	Unknown    Result = "unknown"    // called, never answered, and too late to ask again
	TooLate    Result = "expired"    // never accepted, and now too late
	Suppressed Result = "suppressed" // consent, cap or an erasure forbids it
	NotLive    Result = "not_live"   // a simulated run calls nobody
	Delivered  Result = "delivered"
	Opened     Result = "opened"
	Clicked    Result = "clicked"
	Converted  Result = "converted"
)

// Final reports whether a connector has nothing more to do for a decision with this result.
func (r Result) Final() bool { return r != Attempting }

// Append writes the data object.
func (o *Outcome) Append(dst []byte) []byte { return appendJSON(dst, o) }

// Parse reads the data object of an outcome.
func (o *Outcome) Parse(data []byte) error {
	*o = Outcome{}
	if err := json.Unmarshal(data, o); err != nil {
		return fmt.Errorf("parse outcome: %w", err)
	}
	if o.Decision == "" || o.Result == "" {
		return fmt.Errorf("parse outcome: decision and result: want both")
	}
	return nil
}

// appendJSON writes v, a struct of this package, which always encodes: decisions are rare, so plain encoding/json will do.
func appendJSON(dst []byte, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // a field that JSON cannot hold, such as a NaN: a defect of this package, not of its input
	}
	return append(dst, b...)
}
