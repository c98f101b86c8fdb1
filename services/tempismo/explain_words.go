package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/topics"
)

// print tells it to a person.
func (x *explanation) print(w io.Writer) {
	s := styleFor(w)
	if x.Request != "" {
		last := x.Decisions[len(x.Decisions)-1]
		state := "still waits"
		if last.data.Type != decision.WaitType {
			state = "has ended"
		}
		fmt.Fprintf(w, "%s  of %s %s; %s on it\n\n", s.strong.Render("request "+x.Request), x.Customer, state, plural(len(x.Decisions), "decision"))
	}
	for _, e := range x.Decisions {
		e.print(w, s)
		fmt.Fprintln(w)
	}
	x.conclude(w, s)
}

// print tells one decision.
func (e *reviewed) print(w io.Writer, s style) {
	d := &e.data
	kind, err := decisionKind(&e.event)
	if err != nil {
		kind = d.Type
	}
	fmt.Fprintf(w, "%s  %s\n", s.strong.Render(e.event.Subject+": "+plain(kind)+", "+plain(string(d.Reason))), s.faint.Render(moment(d.DecidedAt, d.Zone)+" "+d.Zone+", "+e.event.ID))
	fmt.Fprintf(w, "  %s\n", d.Summary)
	for _, line := range [...]string{e.subject(), e.times(), e.score(), e.arm()} {
		if line != "" {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
	fmt.Fprintln(w)
	width := 0
	for _, r := range d.Rules {
		width = max(width, len(r.Rule))
	}
	for _, r := range d.Rules {
		mark := s.accent.Render("✓")
		if !r.Passed {
			mark = s.warm.Render("✗")
		}
		fmt.Fprintf(w, "  %s %-*s  %s\n", mark, width, plain(r.Rule), r.Detail)
	}
	fmt.Fprintf(w, "\n  made from %s, when these had been taken: %s\n", e.cause(), e.positions())
	fmt.Fprintf(w, "  policy %s, calendar %s%s\n", d.MadeFrom.Policy, d.MadeFrom.Calendar, e.profile())
	switch e.Verdict {
	case agrees:
		fmt.Fprintf(w, "  %s\n", s.accent.Render("computed again: agrees, byte for byte"))
	case cannot:
		fmt.Fprintf(w, "  %s\n", s.warm.Render("cannot be computed again: "+e.Why))
	case differs:
		fmt.Fprintf(w, "  %s\n", s.warm.Render("computed again: differs"))
	}
	for _, x := range e.Differences {
		fmt.Fprintf(w, "    %s: was %s, is %s\n", x.Field, compact(x.Was), compact(x.Now))
	}
}

// subject is what it is about.
func (e *reviewed) subject() string {
	d := &e.data
	parts := []string{d.Channel}
	for _, p := range [...]struct{ name, text string }{{"message", d.Message}, {"request", d.Request}, {"audience", d.Audience}, {"segment", d.Segment}, {"deviation", d.Deviation}} {
		if p.text != "" {
			parts = append(parts, p.name+" "+p.text)
		}
	}
	return strings.Join(parts, ", ")
}

// times are those that bind.
func (e *reviewed) times() string {
	d := &e.data
	var parts []string
	if d.Slot != nil {
		parts = append(parts, fmt.Sprintf("slot %s to %s", moment(d.Slot.From, d.Zone), wallClock(d.Slot.To, d.Zone)))
	}
	if !d.Due.IsZero() {
		parts = append(parts, "looked at again "+moment(d.Due, d.Zone))
	}
	if d.Type == decision.SendNowType {
		parts = append(parts, fmt.Sprintf("may be carried out from %s to %s", moment(d.NotBefore, d.Zone), wallClock(d.ExpiresAt, d.Zone)))
	}
	return strings.Join(parts, "; ")
}

// score is how good the hour is.
func (e *reviewed) score() string {
	d := &e.data
	text := fmt.Sprintf("score %d of 100", d.Score.Now)
	if !d.Score.BestAt.IsZero() {
		text += fmt.Sprintf(", best %d (%s)", d.Score.Best, moment(d.Score.BestAt, d.Zone))
	}
	if d.Score.Threshold > 0 {
		text += fmt.Sprintf(", threshold %d", d.Score.Threshold)
	}
	return text + fmt.Sprintf("; known from: %s, confidence %d of 100", plain(d.Score.Level), d.Score.Confidence)
}

// arm is what the experiment made of it.
func (e *reviewed) arm() string {
	if e.data.Arm == "" {
		return ""
	}
	return fmt.Sprintf("%s arm of experiment %s, probability %.3g", e.data.Arm, e.data.Experiment, e.data.Propensity)
}

func (e *reviewed) cause() string {
	topic, at, _ := strings.Cut(e.Cause, ":")
	if topic == topics.Ticks {
		return "its timer (" + topic + " " + at + ")"
	}
	return "the record " + topic + " " + at
}

func (e *reviewed) positions() string {
	at := e.data.MadeFrom.Positions
	var list []string
	for _, topic := range slices.Sorted(maps.Keys(at)) {
		list = append(list, topic+" "+at[topic])
	}
	return strings.Join(list, ", ")
}

// profile is what was known of the customer's habits.
func (e *reviewed) profile() string {
	switch m := &e.data.MadeFrom; {
	case m.Profile != "":
		return ", profile as of " + m.Profile + " under model " + m.Model
	case m.Model != "":
		return ", no profile, model " + m.Model
	}
	return ""
}

// conclude tells how the recomputation went.
func (x *explanation) conclude(w io.Writer, s style) {
	text := fmt.Sprintf("folded %s records of partition %d", grouped(x.Folded), x.partition)
	if x.Others > 0 {
		text += fmt.Sprintf("; of %s other decisions on the way %s came out as they were", grouped(x.Others), grouped(x.Others-x.Otherwise))
	}
	fmt.Fprintln(w, s.faint.Render(text))
	for _, m := range x.Missing {
		fmt.Fprintln(w, s.faint.Render(m))
	}
	if x.Verdict == differs {
		fmt.Fprintln(w, s.faint.Render("either another version of the decider made it, or something was taken in another order than the log tells"))
	}
}

// plain is a word of the wire as people write it.
func plain(word string) string { return strings.ReplaceAll(word, "_", " ") }

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%s %ss", grouped(int64(n)), noun)
}

// wallClock is a time of day on the customer's clock.
func wallClock(at time.Time, zone string) string {
	if loc, err := calendar.Zone(zone); err == nil {
		at = at.In(loc)
	}
	return at.Format("15:04")
}
