package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

const anna = "C-20417"

// keeps stores what a service has of a customer, after taking one record of each topic.
func (r *rig) keeps(service string, state []byte, broadcast map[string][]byte, of ...string) {
	r.t.Helper()
	lease, err := r.store.Claim(r.t.Context(), r.out.run.Group(service), stream.Partition([]byte(anna), partitions))
	if err != nil {
		r.t.Fatal(err)
	}
	defer lease.Close()
	next := map[string]int64{}
	for _, topic := range of {
		next[topic] = 18 + lease.Meta().Epoch - 1 // a commit that moves nothing changes nothing
	}
	c := &stream.Commit{Base: lease.Meta().Positions, Next: next, Partitions: partitions, Broadcast: broadcast}
	if state != nil {
		c.Keys, c.Values = []string{anna}, [][]byte{state}
	}
	if err := lease.Commit(r.t.Context(), c); err != nil {
		r.t.Fatal(err)
	}
}

// habit is the profile of a customer who reads at eleven, every day.
func habit(t testing.TB) []byte {
	t.Helper()
	p := timing.Profile{Zone: "Europe/Rome"}
	w := timing.World{Model: timing.Builtin()}
	rome, err := calendar.Zone(p.Zone)
	if err != nil {
		t.Fatal(err)
	}
	for day := -70; day < 0; day++ {
		hour, minute := calendar.LocalHour(clock.AddDate(0, 0, day).Truncate(24*time.Hour).Add(10*time.Hour), rome)
		c := p.Channel("email")
		c.Delivered(&w, hour-1)
		c.Engaged(&w, hour, minute)
	}
	return p.Append(nil)
}

// knows is the decider's state of a customer of whom this is known.
func knows(t testing.TB, a customer.Attributes) []byte {
	t.Helper()
	var s decision.State
	p := decision.Default()
	m := decision.Moment{Policy: &p, Now: clock, Customer: anna}
	if _, err := m.Know(&s, a.Append(nil)); err != nil {
		t.Fatal(err)
	}
	return s.Append(nil)
}

func policyRecord(version string) []byte {
	p := decision.Default()
	p.Version = version
	e := stream.Event{ID: "pl-1", Source: "/test", Type: decision.PolicyType, Time: clock, Data: p.Append(nil)}
	return e.Append(nil)
}

// ask asks for the best times of a customer.
func (r *rig) ask(customer string, query ...string) *http.Response {
	r.t.Helper()
	values := url.Values{}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	return r.do(http.MethodGet, "/v1/customers/"+url.PathEscape(customer)+"/best-times?"+values.Encode(), nil, "")
}

func (r *rig) best(response *http.Response) (b bestTimes) {
	r.t.Helper()
	if response.StatusCode != http.StatusOK {
		r.t.Fatalf("status %d: %+v", response.StatusCode, r.problem(response))
	}
	if err := json.NewDecoder(response.Body).Decode(&b); err != nil {
		r.t.Fatal(err)
	}
	return b
}

// told writes slots for people: the hour in Rome, and the rules that exclude it.
func told(slots []decision.Slot) (lines []string) {
	rome, err := calendar.Zone("Europe/Rome")
	if err != nil {
		panic(err)
	}
	for _, s := range slots {
		line := s.From.In(rome).Format("Mon 15:04") + s.To.In(rome).Format("-15:04")
		for _, f := range s.Failed {
			line += " " + f.Rule
		}
		lines = append(lines, line)
	}
	return lines
}

func TestBestTimesAreThoseOfTheCustomer(t *testing.T) {
	r := newRig(t, Config{})
	r.keeps(deciderService, knows(t, customer.Attributes{Zone: "Europe/Rome"}), map[string][]byte{topics.Policies: policyRecord("7")}, topics.Requests)
	r.keeps(profilerService, habit(t), nil, topics.Events)
	b := r.best(r.ask(anna, "channel", "email", "from", "2026-12-04T06:00:00Z", "to", "2026-12-04T16:00:00Z"))
	if b.Customer != anna || b.Channel != "email" || b.Level != timing.LevelOwn || b.Confidence < 50 {
		t.Errorf("got %+v", b)
	}
	want := []string{ // who reads at eleven is best written to a little earlier
		"Fri 09:30-10:00", "Fri 10:00-11:00", "Fri 11:00-12:00", "Fri 12:00-13:00", "Fri 13:00-14:00",
		"Fri 07:00-08:00 window quiet_hours", "Fri 08:00-09:00 window", "Fri 14:00-15:00 window", "Fri 15:00-16:00 window", "Fri 16:00-17:00 window",
	}
	if lines := told(b.Slots); !slices.Equal(lines, want) {
		t.Errorf("got %q, want %q", lines, want)
	}
	if !slices.IsSortedFunc(b.Slots[:5], func(x, y decision.Slot) int { return y.Score - x.Score }) {
		t.Errorf("not the best first: %+v", b.Slots[:5])
	}
	p := fmt.Sprint(stream.Partition([]byte(anna), partitions))
	if m := b.MadeFrom; m.Policy != "7" || m.Model != timing.BuiltinVersion || m.Profile != topics.Events+":"+p+":17" || m.Positions[topics.Requests] != p+":17" || m.Calendar != calendar.Italy.Name {
		t.Errorf("made from %+v", m)
	}
}

func TestBestTimesOfAStranger(t *testing.T) {
	r := newRig(t, Config{})
	b := r.best(r.ask("nobody", "channel", "email"))
	if b.Level != timing.LevelBusinessHours || b.Confidence != 0 || b.MadeFrom.Policy != decision.Default().Version || b.MadeFrom.Profile != "" {
		t.Errorf("got %+v", b)
	}
	if first, last := b.Slots[0], clock.Add(usualSpan); len(first.Failed) > 0 || first.From.Before(clock) || first.From.After(last) {
		t.Errorf("the best is %+v", first)
	}
}

func TestNoHourIsGoodForWhoRefusesMail(t *testing.T) {
	r := newRig(t, Config{})
	r.keeps(deciderService, knows(t, customer.Attributes{Consents: customer.Consents{Mailing: &customer.Consent{At: clock}}}), nil, topics.Attributes)
	for _, s := range r.best(r.ask(anna, "channel", "email")).Slots {
		if !slices.ContainsFunc(s.Failed, func(f decision.Rule) bool { return f.Rule == decision.RuleConsent }) {
			t.Fatalf("%+v is not excluded by consent", s)
		}
	}
}

// Of a stranger counts what the model says of everybody; while the profiler is not whole not even that, as the decider does.
func TestAProfileThatIsRebuiltGivesNoBestTimes(t *testing.T) {
	r := newRig(t, Config{})
	r.keeps(deciderService, nil, map[string][]byte{topics.Models: fitted(t)}, topics.Models)
	r.keeps(profilerService, nil, nil, topics.Events)
	if b := r.best(r.ask(anna, "channel", "email")); b.Level != timing.LevelPopulation || b.MadeFrom.Model != "2026-12-03.1" {
		t.Errorf("level %s from %+v", b.Level, b.MadeFrom)
	}
	r.keeps(profilerService, habit(t), nil, topics.Events)
	r.server.almanac.store = rebuilding{r.store}
	if b := r.best(r.ask(anna, "channel", "email")); b.Level != timing.LevelBusinessHours || b.MadeFrom.Profile != "" {
		t.Errorf("level %s from %+v", b.Level, b.MadeFrom)
	}
}

// fitted is the record of a model that was fitted to customers.
func fitted(t *testing.T) []byte {
	t.Helper()
	m := timing.Builtin()
	m.Version, m.FittedOn = "2026-12-03.1", &timing.FittedOn{From: clock.AddDate(0, -1, 0), To: clock, Customers: 1000}
	data, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	e := stream.Event{ID: "md-1", Source: "/test", Type: timing.ModelType, Time: clock, Data: data}
	return e.Append(nil)
}

// rebuilding is a store whose states are not whole.
type rebuilding struct{ snapshots }

func (s rebuilding) Peek(ctx context.Context, group string, partition int32, keys []string) (stream.Snapshot, error) {
	snap, err := s.snapshots.Peek(ctx, group, partition, keys)
	snap.Rebuilding = []byte("1")
	return snap, err
}

func TestAPolicyIsReadAnewWhenItChanges(t *testing.T) {
	r := newRig(t, Config{})
	for _, version := range []string{"7", "8"} {
		r.keeps(deciderService, nil, map[string][]byte{topics.Policies: policyRecord(version)}, topics.Policies)
		for range 2 {
			if b := r.best(r.ask(anna, "channel", "email")); b.MadeFrom.Policy != version {
				t.Errorf("policy %s, want %s", b.MadeFrom.Policy, version)
			}
		}
	}
}

func TestQuestionsThatCannotBeAnswered(t *testing.T) {
	for _, tt := range []struct {
		name  string
		query []string
		field string
		why   string
	}{
		{"without a channel", nil, "channel", "required"},
		{"of a channel that the policy does not have", []string{"channel", "pigeon"}, "channel", "email"},
		{"from what is no time", []string{"channel", "email", "from", "tomorrow"}, "from", "2026-12-03T09:00:00Z"},
		{"from a year that no answer can be written in", []string{"channel", "email", "from", "9999-12-28T00:00:00Z"}, "from", "2026-12-03T09:00:00Z"},
		{"to before from", []string{"channel", "email", "to", "2026-12-01T00:00:00Z"}, "to", "later"},
		{"of more than a month", []string{"channel", "email", "to", "2027-12-01T00:00:00Z"}, "to", "31 days"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			p := r.problem(r.ask(anna, tt.query...))
			if p.Status != http.StatusBadRequest || len(p.Errors) != 1 || p.Errors[0].Field != tt.field || !strings.Contains(p.Errors[0].Reason, tt.why) {
				t.Errorf("got %+v", p)
			}
		})
	}
}

// away is a store that does not answer.
type away struct{ snapshots }

func (away) Read(context.Context, string, int32, []string) (stream.Snapshot, error) {
	return stream.Snapshot{}, errors.New("nobody is there")
}

func TestWhereTheStoreIsAwayOnlyBestTimesAre(t *testing.T) {
	r := newRig(t, Config{})
	r.server.almanac.store = away{}
	response := r.ask(anna, "channel", "email")
	if p := r.problem(response); p.Status != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("got %+v", p)
	}
	r.answered(r.send("/v1/events", structured, event("a", "C-1")))
}

// Who asks by the name that the CRM has for the customer is answered about the customer whom the topics know.
func TestBestTimesOfAPseudonym(t *testing.T) {
	const id = "anna@example.com"
	r := newRig(t, Config{Pseudonym: "a key of some length"})
	if b := r.best(r.ask(id, "channel", "email")); b.Customer != Pseudonyms(r.server.config.Pseudonym, id)[0] || b.Customer == id {
		t.Errorf("answered about %q", b.Customer)
	}
}

// What is over has no slots, and that is a list.
func TestBestTimesOfThePastAreNone(t *testing.T) {
	r := newRig(t, Config{})
	if b := r.best(r.ask(anna, "channel", "email", "from", "2026-11-01T00:00:00Z", "to", "2026-11-02T00:00:00Z")); b.Slots == nil || len(b.Slots) > 0 {
		t.Errorf("got %+v", b.Slots)
	}
}

// In a simulated run it is not now.
func TestBestTimesOfASimulatedRun(t *testing.T) {
	r := newRig(t, Config{Run: config.Run{ID: "demo", Mode: "simulated"}})
	b := r.best(r.ask(anna, "channel", "email", "from", "2025-03-03T06:00:00Z", "to", "2025-03-03T16:00:00Z"))
	if first := b.Slots[0]; len(first.Failed) > 0 || first.From.Year() != 2025 {
		t.Errorf("the best is %+v", first)
	}
}

func BenchmarkBestTimes(b *testing.B) {
	r := newRig(b, Config{})
	r.keeps(deciderService, knows(b, customer.Attributes{Zone: "Europe/Rome"}), map[string][]byte{topics.Policies: policyRecord("7")}, topics.Requests)
	r.keeps(profilerService, habit(b), nil, topics.Events)
	q := question{channel: "email", from: clock, to: clock.Add(usualSpan)}
	b.ReportAllocs()
	for b.Loop() {
		m, s, err := r.server.almanac.moment(b.Context(), anna, clock)
		if err != nil {
			b.Fatal(err)
		}
		m.Slots(s, q.channel, q.from, q.to)
	}
}
