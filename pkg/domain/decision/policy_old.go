package decision

import (
	"errors"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

// Policy says when a message may go out. The zero Policy allows nothing; Default is the place to start from.
type OldPolicy struct {
	Version    string          // stands in every decision
	Channel    string          // the channel that is decided about; deviations of other channels do not concern it
	Window     calendar.Window // local hours in which messages may go out
	Quiet      calendar.Window // local hours in which none may, whatever the window says; may be empty
	Closed     *calendar.Book  // days on which none may; nil closes none
	CapPerDay  int             // most send-nows to one customer in any 24 hours; 0: no cap
	CapPerWeek int             // most send-nows to one customer in any 7 days; 0: no cap
	MinGap     time.Duration   // least time between two send-nows to one customer
	Expiry     time.Duration   // how long after the engagement a decision may still be carried out
}

// Default returns the policy for email of a business that has said nothing else: 9:30 to 14:00, never between 21:00 and
// 8:00, never on an Italian national holiday, at most one message a day and three a week, and never later than half an
// hour after the moment that triggered it.
func OldDefault() OldPolicy {
	return OldPolicy{
		Version:    "default.1",
		Channel:    "email",
		Window:     calendar.Window{From: 9*60 + 30, To: 14 * 60},
		Quiet:      calendar.Window{From: 21 * 60, To: 8 * 60},
		Closed:     calendar.Italy,
		CapPerDay:  1,
		CapPerWeek: 3,
		MinGap:     24 * time.Hour,
		Expiry:     30 * time.Minute,
	}
}

// Validate names everything that is wrong with the policy.
func (p *OldPolicy) Validate() error {
	var errs []error
	if p.Version == "" {
		errs = append(errs, errors.New("version: must not be empty, it stands in every decision"))
	}
	if p.Channel == "" {
		errs = append(errs, errors.New("channel: must not be empty, e.g. email"))
	}
	if p.Window.Empty() {
		errs = append(errs, errors.New("window: is empty, so nothing could ever be sent; use 00:00-24:00 to allow every hour"))
	}
	if p.Quiet.Whole() {
		errs = append(errs, errors.New("quiet hours: fill the day, so nothing could ever be sent"))
	}
	for _, c := range []struct {
		name string
		n    int
	}{{"cap per day", p.CapPerDay}, {"cap per week", p.CapPerWeek}} {
		if c.n < 0 || c.n > MaxCap {
			errs = append(errs, fmt.Errorf("%s: %d is not between 0 (no cap) and %d", c.name, c.n, MaxCap))
		}
	}
	if p.MinGap < 0 || p.MinGap > week {
		errs = append(errs, fmt.Errorf("minimum gap: %v is not between 0 and 7 days", p.MinGap))
	}
	if p.Expiry <= 0 || p.Expiry > MaxExpiry {
		errs = append(errs, fmt.Errorf("expiry: %v is not between 0 and %v", p.Expiry, MaxExpiry))
	}
	return errors.Join(errs...)
}
