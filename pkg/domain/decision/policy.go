package decision

import (
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
)

// PolicyType is the CloudEvents type of send.policies.v1.
const PolicyType = "io.tempismo.policy.v1"

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// Bounds of a Policy.
const (
	MaxChannels = 16
	MaxSegments = 64
	MaxOpenings = 42             // in a list
	MaxName     = 64             // bytes in the name of a channel, a segment or an experiment
	MaxCap      = 32             // the highest cap that the customer's state can remember
	MaxExpiry   = 24 * time.Hour // the longest life of a decision: connectors rebuild their memory as far back
	MaxLead     = 14             // days kept free before a feast
	MaxPriority = 9
)

// Policy says when a message may go out. Its JSON form is the data of send.policies.v1; the YAML file that operators write
// has the same fields, without Version and Closed, which are filled in when the policy is put into force.
type Policy struct {
	Version    string             `json:"version"`            // stands in every decision
	Zone       string             `json:"zone"`               // IANA name; of customers whose zone nobody knows
	Consent    Consent            `json:"consent"`            // what is done where a customer has said nothing about mailing
	Channels   map[string]Channel `json:"channels"`           // by name; a channel that is not here is not decided about
	Quiet      calendar.Window    `json:"quiet"`              // local hours in which nothing goes out, whatever the windows say; may be empty
	CapPerDay  int                `json:"cap_per_day"`        // most sends to one customer over all channels in any 24 hours; 0: no cap
	CapPerWeek int                `json:"cap_per_week"`       // in any 7 days
	Gap        Duration           `json:"gap"`                // least time between any two sends to one customer
	Collision  Duration           `json:"collision"`          // least time between two sends to one customer in different channels
	Overlap    float64            `json:"overlap"`            // largest share of an audience that may hold another send in the same local hour; 1: no limit
	Lead       []Lead             `json:"lead"`               // days before feasts on which nothing is sent that could go earlier
	Segments   []Segment          `json:"segments,omitempty"` // the first that fits a customer counts
	Experiment Experiment         `json:"experiment"`         // control group and exploration
	Calendars  Calendars          `json:"calendars"`          // as the operator chose them
	Closed     *calendar.Book     `json:"closed"`             // what Calendars came to, day by day, so that every replay has the same days
}

// Consent is a Policy's answer to a customer who has neither given nor refused consent to mailing.
type Consent string

// Answers.
const (
	Assumed  Consent = "assumed"  // may be written to
	Required Consent = "required" // may not
)

// Channel is the part of a Policy about one channel.
type Channel struct {
	Windows    []calendar.Opening `json:"windows"`             // local hours in which messages may go out
	Prime      []calendar.Opening `json:"prime,omitempty"`     // the channel's golden hours
	Threshold  int                `json:"threshold"`           // least score, 0 to 100, of an hour for which a request does not wait any longer
	FallBack   []calendar.Opening `json:"fall_back,omitempty"` // where a request ends that never found such an hour; absent: Windows
	CapPerDay  int                `json:"cap_per_day"`         // most sends to one customer in any 24 hours; 0: no cap
	CapPerWeek int                `json:"cap_per_week"`
	Gap        Duration           `json:"gap"`      // least time between two sends to one customer in this channel
	Expiry     Duration           `json:"expiry"`   // how long after its moment a decision may still be carried out
	Triggers   []string           `json:"triggers"` // deviations that send without a request: burst, reactivation; may be empty
	Priority   int                `json:"priority"` // of such a send among requests, 0 to 9
}

// Lead keeps the Days days before a day of the year free for those who have no choice: a request that may go out earlier, or
// after it, does.
type Lead struct {
	Name   string `json:"name"`   // e.g. Christmas
	Before string `json:"before"` // MM-DD
	Days   int    `json:"days"`   // 1 to 14
}

// Segment is a rule on what is known of customers, with what is different for those whom it fits.
type Segment struct {
	Name     string               `json:"name"`
	When     map[string]Condition `json:"when"`               // by name of an attribute, see Segment.Fits. All must hold
	Channels map[string]Channel   `json:"channels,omitempty"` // complete: Draft fills what an override leaves out from the Policy's channel
}

// Condition is what one attribute must be. Whatever is given must hold.
type Condition struct {
	Is  []string `json:"is,omitempty"`  // text, one of these; numbers and truth values are compared in their JSON form
	Min *float64 `json:"min,omitempty"` // number, at least
	Max *float64 `json:"max,omitempty"` // number, below
}

// Experiment assigns customers and requests to arms, by hash.
type Experiment struct {
	Name        string  `json:"name"`
	Holdout     float64 `json:"holdout"`     // share of customers to whom nothing is sent, though it is decided
	Exploration float64 `json:"exploration"` // share of requests whose slot is drawn among all allowed ones
}

// Calendars chooses the days on which nothing goes out. See docs/decisions.md for what takes precedence.
type Calendars struct {
	National  []string          `json:"national"`            // countries, e.g. IT; "" of a customer's place counts as the first
	Regional  bool              `json:"regional,omitempty"`  // days of regions, e.g. Whit Monday in Bolzano
	Municipal bool              `json:"municipal,omitempty"` // patron-saint days, by comune, else by province capital
	Bank      bool              `json:"bank,omitempty"`      // closing days of T2
	Patrons   map[string]string `json:"patrons,omitempty"`   // comune -> MM-DD, before the built-in table
	Closures  []Closure         `json:"closures,omitempty"`
	Open      []Closure         `json:"open,omitempty"` // days that are open whatever else says that they are closed
}

// Closure is a custom closed day, or span of days.
type Closure struct {
	Name  string         `json:"name"`
	From  string         `json:"from"`            // YYYY-MM-DD
	To    string         `json:"to,omitempty"`    // the last day; absent: From
	Every string         `json:"every,omitempty"` // recurrence: week, month, year; absent: once
	Until string         `json:"until,omitempty"` // the last day of the recurrence
	Where calendar.Place `json:"where,omitzero"`  // absent: everywhere
}

// Default is the policy of a business that has said nothing else, and what a policy file leaves out: email from 9:30 to 14:00,
// best from 10 to 12, text messages and push in the afternoon, nothing between 21:00 and 8:00 or on an Italian national
// holiday, what can go earlier not on the three days before Christmas, and at most one email a day and three a week.
func Default() Policy {
	return Policy{
		Version:    "default.2",
		Zone:       "Europe/Rome",
		Consent:    Assumed,
		Channels:   map[string]Channel{"email": defaultEmail(), "sms": defaultText(), "push": defaultPush()},
		Quiet:      calendar.Window{From: 21 * 60, To: 8 * 60},
		CapPerDay:  2,
		CapPerWeek: 6,
		Collision:  Duration(2 * time.Hour),
		Overlap:    .15,
		Lead:       []Lead{{Name: "Christmas", Before: "12-25", Days: 3}},
		Experiment: Experiment{Name: "default"},
		Calendars:  Calendars{National: []string{"IT"}},
		Closed:     calendar.Italy,
	}
}

func defaultEmail() Channel {
	return Channel{
		Windows:    daily(9*60+30, 14*60),
		Prime:      daily(10*60, 12*60),
		Threshold:  80,
		CapPerDay:  1,
		CapPerWeek: 3,
		Gap:        Duration(day),
		Expiry:     Duration(30 * time.Minute),
		Triggers:   []string{string(Burst), string(Reactivation)},
		Priority:   5,
	}
}

func defaultText() Channel {
	c := defaultEmail()
	c.Windows, c.Prime = daily(14*60+30, 18*60), daily(15*60, 16*60)
	c.CapPerWeek, c.Triggers = 2, []string{}
	return c
}

func defaultPush() Channel {
	c := defaultEmail()
	c.Windows, c.Prime = daily(14*60, 19*60), daily(16*60, 18*60)
	c.CapPerWeek, c.Triggers = 5, []string{}
	return c
}

func daily(from, to int) []calendar.Opening {
	return []calendar.Opening{{Window: calendar.Window{From: from, To: to}}}
}

// For returns the rules of a channel for a customer, and the name of the segment that they are of; false if the policy does
// not know the channel.
func (p *Policy) For(channel string, a *customer.Attributes) (c *Channel, segment string, ok bool) {
	rules, ok := p.Channels[channel]
	if !ok {
		return nil, "", false
	}
	if s := p.Segment(a); s != nil {
		segment = s.Name
		if own, ok := s.Channels[channel]; ok {
			rules = own
		}
	}
	return &rules, segment, true
}

// Segment returns the first segment that fits a customer, or nil.
func (p *Policy) Segment(a *customer.Attributes) *Segment {
	for i := range p.Segments {
		if s := &p.Segments[i]; s.Fits(a) {
			return s
		}
	}
	return nil
}

// Covers reports whether d is one of the days that l keeps free. The feast itself is not.
func (l *Lead) Covers(d calendar.Day) bool {
	month, date, ok := parseMonthDay(l.Before)
	for range l.Days {
		if d = d.Next(); ok && d.Month == month && d.Day == date {
			return true
		}
	}
	return false
}

// parseMonthDay reads MM-DD. The 29th of February is a day of the year.
func parseMonthDay(s string) (time.Month, int, bool) {
	t, err := time.Parse(time.DateOnly, "2000-"+s)
	return t.Month(), t.Day(), err == nil
}
