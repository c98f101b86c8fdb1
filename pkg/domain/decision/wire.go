package decision

import (
	"encoding/json"
	"fmt"
	"time"
)

// CloudEvents types of decisions. A connector filters on SendNowType alone.
const (
	SendNowType   = "io.tempismo.decision.send_now.v1"
	WaitType      = "io.tempismo.decision.wait.v1"     // of a request: planned, or waiting for a chance
	HeldOutType   = "io.tempismo.decision.held_out.v1" // would have been a send_now; the customer is in the control group
	BlockedType   = "io.tempismo.decision.blocked.v1"  // of a deviation without a request
	ExpiredType   = "io.tempismo.decision.expired.v1"
	CancelledType = "io.tempismo.decision.cancelled.v1"
)

// Prefix begins the id of every decision.
const Prefix = "d-"

// Reason is the one word that says why a decision is what it is. The list is closed.
type Reason string

// Reasons for which something is sent, or held out. A wait that is planned names the one for which it will be.
const (
	Burst        Reason = "burst"        // unusually attentive
	Reactivation Reason = "reactivation" // back after a long silence
	BestSlot     Reason = "slot"         // the best allowed hour, and it reaches the threshold
	Preferred    Reason = "preferred"    // an hour that the customer has asked for
	FallBack     Reason = "fall_back"    // no hour reaches the threshold: the best one of the last day
	Exploration  Reason = "exploration"  // drawn among all allowed hours
)

// Reasons for which nothing is sent: those of rules (the first that failed, or, of a request that finds no slot, the one that
// excludes most), and others.
const (
	Expired         Reason = "expired"           // the moment had passed before the deviation was seen
	BetterHourAhead Reason = "better_hour_ahead" // this hour is worth less than 0.8 of the best one ahead
	Deadline        Reason = "deadline"          // the request's was over
	NoConsent       Reason = "no_consent"
	Unreachable     Reason = "unreachable" // the customer has no such channel
	ClosedDay       Reason = "closed_day"
	OutsideWindow   Reason = "window"
	QuietHours      Reason = "quiet_hours"
	FrequencyCap    Reason = "frequency_cap"
	MinimumGap      Reason = "minimum_gap"
	Collision       Reason = "collision" // with another channel, or with a request of a higher priority
	Overlap         Reason = "overlap"   // too many of the audience hold another send in that hour
	NoAllowedSlot   Reason = "no_allowed_slot"

	UnknownChannel Reason = "unknown_channel"  // the policy does not have it
	TooFar         Reason = "too_far"          // the deadline is more than MaxWait away
	TooManyPending Reason = "too_many_pending" // see MaxPending
	Requested      Reason = "requested"        // cancelled by whoever placed it
	Erased         Reason = "erased"           // everything of the customer was
)

// Reasons that are counted and never written: nobody would ask.
const (
	NotActionable  Reason = "not_actionable"  // a deviation that may not move a send
	OtherChannel   Reason = "other_channel"   // a deviation in a channel that the policy does not have
	NoTrigger      Reason = "no_trigger"      // a deviation that no request waits for and the policy does not act on
	Incomplete     Reason = "incomplete"      // a deviation while what is remembered may be incomplete
	AlreadyEnded   Reason = "already_ended"   // a request that has ended
	UnknownRequest Reason = "unknown_request" // the cancellation of a request that was never placed
	Unchanged      Reason = "unchanged"       // a request that waits, placed again as it is
)

// Names of the rules in the order in which they are applied and listed.
const (
	RuleExpiry    = "expiry"   // of a deviation: the moment is not over
	RuleDeadline  = "deadline" // of a request: not before, and not from its deadline on
	RuleConsent   = "consent"
	RuleChannel   = "channel"   // the customer can be reached by it
	RuleBestHour  = "best_hour" // of a deviation: no clearly better hour lies ahead
	RuleCalendar  = "calendar"
	RuleWindow    = "window"
	RuleQuiet     = "quiet_hours"
	RuleFrequency = "frequency_cap"
	RuleGap       = "minimum_gap"
	RuleCollision = "collision"
	RuleOverlap   = "overlap"
	RuleLead      = "lead"      // of a request: no day before a feast, while there are others
	RuleThreshold = "threshold" // of a request: the score reaches it, or no later hour's will
)

// reasons names what each rule blocks for.
var reasons = map[string]Reason{
	RuleExpiry:    Expired,
	RuleBestHour:  BetterHourAhead,
	RuleDeadline:  Deadline,
	RuleConsent:   NoConsent,
	RuleChannel:   Unreachable,
	RuleCalendar:  ClosedDay,
	RuleWindow:    OutsideWindow,
	RuleQuiet:     QuietHours,
	RuleFrequency: FrequencyCap,
	RuleGap:       MinimumGap,
	RuleCollision: Collision,
	RuleOverlap:   Overlap,
}

// Arms of the experiment.
const (
	Treatment = "treatment" // gets what was decided
	Holdout   = "holdout"   // the control group: decided about alike, and not written to
)

// Decision is the data of a decision on send.decisions.v1. Its CloudEvents envelope has the customer as subject. Every
// request ends in exactly one send_now, held_out, expired or cancelled; a wait says where it stands in between.
type Decision struct {
	Type       string    `json:"-"` // of the envelope
	Reason     Reason    `json:"reason"`
	DecidedAt  time.Time `json:"decided_at"`        // the partition's clock when it was decided
	Request    string    `json:"request,omitempty"` // id of the request; absent: there is none
	Channel    string    `json:"channel"`
	Message    string    `json:"message,omitempty"`
	Audience   string    `json:"audience,omitempty"`
	Zone       string    `json:"zone"` // the customer's, in which the rules were applied
	Segment    string    `json:"segment,omitempty"`
	Score      Score     `json:"score"`
	Slot       *Interval `json:"slot,omitempty"`       // in which it was planned to go out
	Due        time.Time `json:"due,omitzero"`         // of a wait: when it goes out, or is looked at again
	NotBefore  time.Time `json:"not_before"`           // from when it may be carried out
	ExpiresAt  time.Time `json:"expires_at"`           // from this instant on it must not be carried out
	Deviation  string    `json:"deviation,omitempty"`  // id of the deviation that led to it
	Arm        string    `json:"arm,omitempty"`        // of a send_now or held_out
	Propensity float64   `json:"propensity,omitempty"` // probability of what was done, of a send_now or held_out
	Experiment string    `json:"experiment,omitempty"` // in which it was drawn
	Rules      []Rule    `json:"rules"`
	MadeFrom   MadeFrom  `json:"made_from"`
	Lookup     *Lookup   `json:"lookup,omitempty"` // what was seen of the profile, in the first decision of a step that looked
	Summary    string    `json:"summary"`          // one English sentence, without a full stop
}

// Score is how good the hour of a decision is, among the hours that it was chosen from: 50 is this customer's average hour
// for a message to be sent, 100 twice as good or better, 0 half as good or worse.
type Score struct {
	Now        int       `json:"now"`                 // of the hour in which it goes out or, of a wait, is to go out
	Best       int       `json:"best"`                // highest of the hours ahead; of a request, of those that were allowed
	BestAt     time.Time `json:"best_at"`             // its beginning
	Threshold  int       `json:"threshold,omitempty"` // that of the channel, of a request
	Confidence int       `json:"confidence"`
	Level      string    `json:"level"`
}

// Interval is a span of time, without its end.
type Interval struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
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
// decision are thus any number of attempting and one final result, and after it what the customer did next, each once.
type Outcome struct {
	Decision  string `json:"decision"`
	Request   string `json:"request,omitempty"` // that the decision released
	Connector string `json:"connector"`
	Channel   string `json:"channel,omitempty"` // of the decision; absent: of what the customer did next
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
	Unknown    Result = "unknown"    // called and never answered, and too late to ask again, or the CRM has no key to ask by
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
