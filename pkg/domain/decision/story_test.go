package decision

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	known "github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
)

var update = flag.Bool("update", false, "rewrite what the stories in testdata expect")

// plain is a policy in which hardly any rule stands in the way, so that a test asks for those that it is about.
func plain() *Policy {
	hours := func(text string) []calendar.Opening {
		o, err := calendar.ParseOpening(text)
		if err != nil {
			panic(err)
		}
		return []calendar.Opening{o}
	}
	channel := func(windows string) Channel {
		return Channel{Windows: hours(windows), Threshold: 80, Expiry: Duration(30 * time.Minute), Triggers: []string{"burst", "reactivation"}}
	}
	return &Policy{
		Version: "plain", Zone: "Europe/Rome", Consent: Assumed, Overlap: 1, Closed: calendar.None, Experiment: Experiment{Name: "test"},
		Channels: map[string]Channel{"email": channel("09:30-14:00"), "sms": channel("15:00-19:00"), "push": channel("00:00-24:00")},
	}
}

// world is customers, a policy, a clock and what profiles say: all that a story is made of.
type world struct {
	t         testing.TB
	loc       *time.Location // of the story's times
	now       time.Time
	policy    *Policy
	rules     []calendar.Rule // of its book
	audiences Audiences
	states    map[string]*State
	forecast  Forecast // of every channel and customer
	zone      string   // that profiles have learned
	partial   bool
	seq       int                  // of decisions
	outage    time.Time            // no timer fires before
	late      func() time.Duration // how long after it is due a timer fires; nil: not at all
	raw       bool                 // states do not go through their encoding
	out       strings.Builder
	tell      func(customer string, d *Decision) // told of every decision
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, policy: plain(), states: map[string]*State{}, forecast: Forecast{Confidence: 70, Level: timing.LevelOwn}}
	w.loc, _ = calendar.Zone("Europe/Rome")
	w.zone = "Europe/Rome"
	for i := range w.forecast.Scores {
		w.forecast.Scores[i] = 50
	}
	return w
}

// moment is what a step is given. A profile is at hand where the record asks for it.
func (w *world) moment(customer string, lookup bool) *Moment {
	m := &Moment{
		Policy: w.policy, Now: w.now, Customer: customer, Audiences: &w.audiences, Positions: map[string]string{"send.requests.v1": "0:1"},
		ID: func(n int) string { return fmt.Sprintf("d-%d", w.seq+n) },
	}
	if lookup {
		m.Lookup = &Lookup{Profile: "engagement.events.v1:0:7", Model: "m.1", Zone: w.zone, Partial: w.partial, Channels: map[string]Forecast{}}
		for name := range w.policy.Channels {
			m.Lookup.Channels[name] = w.forecast
		}
	}
	return m
}

// step does one step of a customer, whose state lives in its encoding alone.
func (w *world) step(customer string, lookup bool, do func(m *Moment, s *State) []Decision) {
	w.t.Helper()
	s := w.states[customer]
	if s == nil {
		s = new(State)
		w.states[customer] = s
	}
	out := do(w.moment(customer, lookup), s)
	for i := range out {
		d := &out[i]
		if (d.Lookup != nil) != (i == 0 && lookup) {
			w.t.Errorf("%s at %v: the look-up must stand in the first decision of the step and in no other", customer, w.now)
		}
		if w.tell != nil {
			w.tell(customer, d)
		}
		w.say(customer, d)
	}
	w.seq += len(out)
	if w.raw {
		return
	}
	var again State
	if err := again.Decode(s.Append(nil)); err != nil {
		w.t.Fatal(err)
	}
	w.states[customer] = &again
	var counts Audiences
	if err := counts.Decode(w.audiences.Append(nil)); err != nil {
		w.t.Fatal(err)
	}
	w.audiences = counts
}

// say writes a decision in a line.
func (w *world) say(customer string, d *Decision) {
	kind := strings.TrimSuffix(strings.TrimPrefix(d.Type, "io.tempismo.decision."), ".v1")
	local := func(t time.Time) string { return t.In(w.loc).Format("Mon 02 15:04") }
	fmt.Fprintf(&w.out, "%s  %s %s %s", d.DecidedAt.In(w.loc).Format("Mon 2006-01-02 15:04:05"), customer, kind, d.Reason)
	if d.Request != "" {
		fmt.Fprintf(&w.out, " %s", d.Request)
	}
	fmt.Fprintf(&w.out, " %s", d.Channel)
	if d.Segment != "" {
		fmt.Fprintf(&w.out, " segment %s", d.Segment)
	}
	switch d.Type {
	case WaitType:
		if d.Slot != nil {
			fmt.Fprintf(&w.out, ", slot %s-%s", local(d.Slot.From), d.Slot.To.In(w.loc).Format("15:04"))
		}
		fmt.Fprintf(&w.out, ", due %s", local(d.Due))
	case SendNowType, HeldOutType:
		fmt.Fprintf(&w.out, ", until %s, %s, propensity %.4g", local(d.ExpiresAt), d.Arm, d.Propensity)
	}
	fmt.Fprintf(&w.out, "\n    %s", d.Summary)
	for _, r := range d.Rules {
		if !r.Passed {
			fmt.Fprintf(&w.out, "\n    against it: %s: %s", r.Rule, r.Detail)
		}
	}
	w.out.WriteString("\n")
}

// next is the timer that is due first.
func (w *world) next() (customer, request string, due time.Time, ok bool) {
	for _, c := range slices.Sorted(maps.Keys(w.states)) {
		w.states[c].Pending(func(id string, at time.Time) {
			if !ok || at.Before(due) || at.Equal(due) && c == customer && id < request {
				customer, request, due, ok = c, id, at, true
			}
		})
	}
	return customer, request, due, ok
}

// run lets the clock run, and timers fire, until an instant or, at its zero, until nothing waits.
func (w *world) run(until time.Time) {
	w.t.Helper()
	for steps := 0; ; steps++ {
		c, r, due, ok := w.next()
		if !ok || !until.IsZero() && due.After(until) {
			break
		}
		if due.Before(w.outage) {
			due = w.outage
			if !until.IsZero() && due.After(until) {
				break
			}
		}
		if steps > 100_000 {
			w.t.Fatalf("timers fire for ever: %s of %s at %v", r, c, due)
		}
		if w.late != nil {
			due = due.Add(w.late())
		}
		w.now = maxTime(w.now, due)
		w.step(c, true, func(m *Moment, s *State) []Decision { return m.Tick(s, r) })
	}
	w.now = maxTime(w.now, until)
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// TestStories plays what is above the line of each file in testdata and compares the decisions with what is below it.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			script, want, _ := strings.Cut(string(text), "----\n")
			w := newWorld(t)
			for n, line := range strings.Split(script, "\n") {
				if err := w.play(line); err != nil {
					t.Fatalf("%s:%d: %v", file, n+1, err)
				}
			}
			w.run(time.Time{})
			got := w.out.String()
			if *update {
				if err := os.WriteFile(file, []byte(script+"----\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// play does what a line of a story says. The lines are
//
//	# words
//	clock ZONE                             of all times in the story
//	policy PATH VALUE                      a field of the policy, from now on
//	book DAY NAME [PLACE]                  a closed day
//	profile zone ZONE | partial | whole    of all customers
//	score [DAY[-DAY]] HOURS VALUE          what profiles say: "score tue 10-11 90"
//	TIME CUSTOMER place ID CHANNEL deadline=TIME [not_before=TIME] [priority=N] [audience=NAME] [early]
//	TIME CUSTOMER replace ..., cancel ID
//	TIME CUSTOMER know JSON | forget | erase
//	TIME CUSTOMER burst|reactivation CHANNEL now=N best=N [worth=X] [late=DURATION]
//	TIME CUSTOMER outcome DECISION RESULT [request=ID]
//	TIME run                               nothing but time passes
//	outage TIME TIME                       no timer fires in between
func (w *world) play(line string) error {
	words := strings.Fields(line)
	if len(words) == 0 || words[0] == "#" {
		return nil
	}
	switch words[0] {
	case "clock":
		loc, err := calendar.Zone(words[1])
		w.loc = loc
		return err
	case "policy":
		return w.amend(words[1], strings.Join(words[2:], " "))
	case "book":
		return w.close(words[1:])
	case "profile":
		switch words[1] {
		case "zone":
			w.zone = words[2]
		case "partial", "whole":
			w.partial = words[1] == "partial"
		}
		return nil
	case "score":
		return w.score(words[1:])
	case "outage":
		from, err := w.time(words[1])
		if err == nil {
			w.run(from)
			w.outage, err = w.time(words[2])
		}
		return err
	}
	at, err := w.time(words[0])
	if err != nil {
		return err
	}
	w.run(at)
	if words[1] == "run" {
		return nil
	}
	return w.act(words[1], words[2], words[3:], line)
}

func (w *world) time(s string) (time.Time, error) {
	if len(s) == len("2006-01-02T15:04") {
		s += ":00"
	}
	return time.ParseInLocation("2006-01-02T15:04:05", s, w.loc)
}

func (w *world) act(customer, verb string, args []string, line string) error {
	named := map[string]string{}
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		named[k] = v
	}
	switch verb {
	case "place", "replace", "cancel":
		return w.place(customer, verb, args, named)
	case "know":
		var err error
		_, data, _ := strings.Cut(line, " know ")
		w.step(customer, false, func(m *Moment, s *State) (out []Decision) { out, err = m.Know(s, []byte(data)); return out })
		return err
	case "answer":
		var a known.Answer
		_, data, _ := strings.Cut(line, " answer ")
		if err := a.Parse([]byte(data)); err != nil {
			return err
		}
		w.step(customer, false, func(m *Moment, s *State) []Decision { return m.Answer(s, &a) })
	case "forget":
		w.step(customer, false, func(m *Moment, s *State) []Decision { out, _ := m.Know(s, nil); return out })
	case "erase":
		w.step(customer, false, func(m *Moment, s *State) []Decision { return m.Erase(s) })
	case "outcome":
		w.step(customer, false, func(m *Moment, s *State) []Decision {
			m.Settle(s, &Outcome{Decision: args[0], Result: Result(args[1]), Request: named["request"]})
			return nil
		})
	case timing.Burst, timing.Reactivation, timing.Silence:
		return w.deviate(customer, verb, args[0], named)
	default:
		return fmt.Errorf("no verb %q", verb)
	}
	return nil
}

func (w *world) place(customer, verb string, args []string, named map[string]string) error {
	r := Request{ID: args[0], Action: Action(verb)}
	if r.Action != Cancel {
		r.Channel, r.Message, r.Audience = args[1], "m-"+args[0], named["audience"]
		_, r.OnDeviation = named["early"]
		r.Priority, _ = strconv.Atoi(named["priority"])
		var err error
		if r.Deadline, err = w.time(named["deadline"]); err != nil {
			return err
		}
		if from := named["not_before"]; from != "" {
			if r.NotBefore, err = w.time(from); err != nil {
				return err
			}
		}
	}
	w.step(customer, true, func(m *Moment, s *State) []Decision {
		out, why := m.Place(s, &r)
		w.count(customer, r.ID, out, why)
		return out
	})
	return nil
}

// count says what is only counted.
func (w *world) count(customer, what string, out []Decision, why Reason) {
	if len(out) == 0 {
		fmt.Fprintf(&w.out, "%s  %s passed over: %s %s\n", w.now.In(w.loc).Format("Mon 2006-01-02 15:04:05"), customer, why, what)
	}
}

func (w *world) deviate(customer, kind, channel string, named map[string]string) error {
	v := deviation.Deviation{Kind: kind, Channel: channel, Zone: w.zone, Actionable: kind != timing.Silence, Cause: deviation.Cause{Position: "engagement.events.v1:0:9"}, Model: "m.1"}
	v.Score.Now, _ = strconv.Atoi(named["now"])
	v.Score.Best, _ = strconv.Atoi(named["best"])
	v.Score.Worth, _ = strconv.ParseFloat(named["worth"], 64)
	v.Score.BestAt, v.Score.Level = w.now.Add(20*time.Hour).Truncate(time.Hour), timing.LevelOwn
	late, _ := time.ParseDuration(named["late"])
	t := Trigger{ID: fmt.Sprintf("dv-%d", w.seq), Time: w.now.Add(-late), Deviation: v}
	w.step(customer, true, func(m *Moment, s *State) []Decision {
		out, why := m.Deviate(s, &t)
		w.count(customer, kind, out, why)
		return out
	})
	return nil
}

// score sets what profiles say of some hours.
func (w *world) score(words []string) error {
	days := []int{0, 1, 2, 3, 4, 5, 6}
	if len(words) == 3 {
		o, err := calendar.ParseOpening(words[0] + " 00:00-24:00")
		if err != nil {
			return err
		}
		days = slices.DeleteFunc(days, func(d int) bool { return o.Days != 0 && o.Days&(1<<d) == 0 })
		words = words[1:]
	}
	first, last, span := strings.Cut(words[0], "-")
	from, err := strconv.Atoi(first)
	to := from
	if span && err == nil {
		to, err = strconv.Atoi(last)
	}
	value, err2 := strconv.Atoi(words[1])
	if err != nil || err2 != nil {
		return fmt.Errorf("score %v: %w", words, errors.Join(err, err2))
	}
	for _, d := range days {
		for h := from; h <= to; h++ {
			w.forecast.Scores[d*24+h] = uint8(value)
		}
	}
	return nil
}

// close adds a closed day to the policy's book.
func (w *world) close(words []string) error {
	day, err := time.Parse(time.DateOnly, words[0])
	if err != nil {
		return err
	}
	rule := calendar.Rule{Name: words[1], Kind: calendar.Custom, In: "Italy", Days: []calendar.Day{calendar.DayOf(day, time.UTC)}}
	if len(words) > 2 {
		rule.In, rule.Kind, rule.Places = words[2], calendar.Municipal, []calendar.Place{{Country: "IT", Comune: words[2]}}
	}
	w.closed(rule)
	return nil
}

func (w *world) closed(rule calendar.Rule) {
	w.rules = append(w.rules, rule)
	next := *w.policy
	book, err := calendar.NewBook("test", "IT", 2025, 2028, w.rules)
	if err != nil {
		w.t.Fatal(err)
	}
	next.Closed = book
	w.policy = &next
}

// amend sets a field of the policy by its path in JSON.
func (w *world) amend(path, value string) error {
	var all map[string]any
	if err := json.Unmarshal(w.policy.Append(nil), &all); err != nil {
		return err
	}
	var v any
	if json.Unmarshal([]byte(value), &v) != nil {
		v = value
	}
	at, steps := all, strings.Split(path, ".")
	for _, step := range steps[:len(steps)-1] {
		at = at[step].(map[string]any)
	}
	if at[steps[len(steps)-1]] = v; v == nil {
		delete(at, steps[len(steps)-1])
	}
	b, err := json.Marshal(all)
	if err != nil {
		return err
	}
	next := new(Policy)
	if err := next.Parse(b); err != nil {
		return err
	}
	next.Closed = w.policy.Closed
	w.policy = next
	return nil
}
