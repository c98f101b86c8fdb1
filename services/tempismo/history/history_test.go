package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/decider"
)

var (
	run    = stream.Run{ID: "r1"}
	monday = time.Date(2026, 11, 2, 7, 0, 0, 0, time.UTC)
)

// world is a log, and a decider that takes records from it in the order in which the test hands them over.
type world struct {
	t    *testing.T
	log  *streamtest.Log
	fold *Fold
	zone string // that profiles tell from now on
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, log: streamtest.NewLog(), zone: "Europe/Rome"}
	for _, topic := range topics.All {
		w.log.Create(topic.Name, stream.TopicInfo{Partitions: 1})
	}
	fold, err := stream.NewFold(decider.Job(run, noop.Int64Counter{}), run, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	fold.Recorded(func(r *stream.Record) []byte {
		if r.Topic == topics.Ticks {
			w.log.Append(topics.Ticks, 0, stream.Message{Key: r.Key, Value: r.Value, Headers: r.Headers, Time: r.Time})
		}
		l := decision.NewLookup(nil, timing.Builtin(), []string{"email", "sms"}, fold.Context().Now())
		l.Zone = w.zone
		b, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
	w.fold = fold
	return w
}

// publish appends what the decider decides.
func (w *world) publish(out []stream.Output, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range out {
		if o.Topic != topics.Decisions {
			w.t.Fatalf("dead letter: %s", o.Value)
		}
		w.log.Append(o.Topic, 0, o.Message)
	}
}

// write appends a record that nobody has taken yet.
func (w *world) write(topic, id, typ, key string, at time.Time, data any) stream.Record {
	w.t.Helper()
	b, err := json.Marshal(data)
	if err != nil {
		w.t.Fatal(err)
	}
	e := stream.Event{ID: id, Source: "/test", Type: typ, Subject: key, Time: at, Data: b}
	m := stream.Message{Value: e.Append(nil), Time: at}
	if key != "" {
		m.Key = []byte(key)
	}
	offset := w.log.Append(topic, 0, m)
	return w.log.Records(topic, 0)[offset]
}

// take lets the decider take records in this order.
func (w *world) take(records ...stream.Record) {
	w.t.Helper()
	for i := range records {
		w.publish(w.fold.Apply(&records[i]))
	}
}

func (w *world) place(id, key string, at time.Time, days int) stream.Record {
	return w.write(topics.Requests, id, decision.RequestType, key, at,
		decision.Request{Action: decision.Place, Channel: "email", Message: "winter", Deadline: at.AddDate(0, 0, days)})
}

func (w *world) know(key string, at time.Time, zone string) stream.Record {
	return w.write(topics.Attributes, fmt.Sprint("at-", at.UnixNano()), customer.Type, key, at, map[string]any{"zone": zone})
}

// week is a week of three customers in which things are taken in another order than that of their times.
func week(t *testing.T) *world {
	w := newWorld(t)
	w.take(w.place("r-1", "anna", monday, 3), w.place("r-2", "bruno", monday.Add(time.Second), 5))
	// Written first, but taken after what was written later: the request is planned in Rome, not in Tokyo.
	moves := w.know("carla", monday.Add(2*time.Second), "Asia/Tokyo")
	w.take(w.place("r-3", "carla", monday.Add(3*time.Second), 2), moves)
	w.publish(w.fold.Advance(monday.Add(26 * time.Hour)))
	w.zone = "America/New_York" // profiles have learned
	w.take(w.place("r-4", "anna", monday.Add(27*time.Hour), 4), w.place("r-5", "carla", monday.Add(28*time.Hour), 4))
	w.take(w.write(topics.Policies, "po-1", decision.PolicyType, "", monday.Add(30*time.Hour), narrow()))
	w.take(w.write(topics.Requests, "r-5", decision.RequestType, "carla", monday.Add(31*time.Hour), decision.Request{Action: decision.Cancel}))
	w.publish(w.fold.Advance(monday.AddDate(0, 0, 6)))
	w.take(w.place("r-6", "bruno", monday.AddDate(0, 0, 6), 2)) // still waits at the end
	return w
}

// narrow is a policy that allows the early afternoon only.
func narrow() *decision.Policy {
	p := decision.Default()
	p.Version = "narrow.1"
	email := p.Channels["email"]
	email.Windows = slices.Clone(p.Channels["sms"].Windows)
	email.Prime = nil
	p.Channels["email"] = email
	return &p
}

func (w *world) past() *Past {
	w.t.Helper()
	p, err := Open(w.t.Context(), w.log, run, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.Close() })
	return p
}

// follow returns all steps.
func (w *world) follow() (steps []*Step) {
	w.t.Helper()
	if err := w.past().Follow(w.t.Context(), func(s *Step) error { steps = append(steps, s); return nil }); err != nil {
		w.t.Fatal(err)
	}
	return steps
}

func TestWhatWasDecidedIsDecidedAgain(t *testing.T) {
	w := week(t)
	steps := w.follow()
	n := 0
	kinds := map[string]int{}
	for _, s := range steps {
		if !s.Agrees() {
			t.Errorf("%s:%d differs:\n%s\n%s", s.Topic, s.Offset, values(s.Decisions), values(s.Again))
		}
		n += len(s.Decisions)
		for i := range s.Decisions {
			kinds[s.Decisions[i].Type]++
		}
	}
	if all := len(w.log.Records(topics.Decisions, 0)); n != all || all < 12 {
		t.Errorf("%d of %d decisions were decided again", n, all)
	}
	for _, typ := range []string{decision.SendNowType, decision.WaitType, decision.CancelledType} {
		if kinds[typ] == 0 {
			t.Errorf("the week has no %s: it shows too little", typ)
		}
	}
}

func values(list []Decision) string {
	var b strings.Builder
	for i := range list {
		b.Write(list[i].Value)
		b.WriteByte('\n')
	}
	return b.String()
}

// A decision of which one byte was changed must be told from all others.
func TestADecisionThatWasNotMadeShows(t *testing.T) {
	w := week(t)
	records := w.log.Records(topics.Decisions, 0)
	for i, r := range records {
		if !bytes.Contains(r.Value, []byte(`"score":{"now":`)) {
			t.Fatalf("decision %s has no score", r.Value)
		}
		forged := bytes.Replace(r.Value, []byte(`"score":{"now":`), []byte(`"score":{"now":1`), 1)
		w.log.Create(topics.Decisions, stream.TopicInfo{Partitions: 1})
		for j, other := range records {
			v := other.Value
			if i == j {
				v = forged
			}
			w.log.Append(topics.Decisions, 0, stream.Message{Key: other.Key, Value: v, Headers: other.Headers, Time: other.Time})
		}
		var differ []string
		for _, s := range w.follow() {
			if !s.Agrees() {
				for k := range s.Decisions {
					if !bytes.Equal(s.Decisions[k].Value, s.Again[k].Value) {
						differ = append(differ, s.Decisions[k].ID)
					}
				}
			}
		}
		if e, err := stream.ParseEvent(r.Value); err != nil || !slices.Equal(differ, []string{e.ID}) {
			t.Errorf("decision %d (%s, %v) was forged, and %v differ", i, e.ID, err, differ)
		}
	}
}

func TestADecisionThatIsMissingShows(t *testing.T) {
	w := week(t)
	records := w.log.Records(topics.Decisions, 0)
	w.log.Cut(topics.Decisions, 0, int64(len(records)-1))
	steps := w.follow()
	last := steps[len(steps)-1]
	if last.Agrees() || len(last.Decisions) != 0 || len(last.Again) != 1 || last.Again[0].ID == "" {
		t.Errorf("the last decision was never published; the last step has %d and decides %d", len(last.Decisions), len(last.Again))
	}
}

func TestRepeatsAndOthersArePassedOver(t *testing.T) {
	w := week(t)
	records := w.log.Records(topics.Decisions, 0)
	w.log.Create(topics.Decisions, stream.TopicInfo{Partitions: 1})
	add := func(value []byte) { w.log.Append(topics.Decisions, 0, stream.Message{Value: value}) }
	for i, r := range records {
		add(r.Value)
		if i == 4 { // a takeover publishes the last outbox again
			add(records[3].Value)
			add(r.Value)
		}
		add(bytes.ReplaceAll(r.Value, []byte("/tempismo/decider/r1/"), []byte("/tempismo/decider/r2/")))
		add([]byte("no decision"))
	}
	n := 0
	for _, s := range w.follow() {
		if n += len(s.Decisions); !s.Agrees() {
			t.Errorf("%s:%d differs", s.Topic, s.Offset)
		}
	}
	if n != len(records) {
		t.Errorf("%d decisions, want %d", n, len(records))
	}
}

func TestFollowingEndsWhenEnoughIsKnown(t *testing.T) {
	w := week(t)
	enough := errors.New("enough")
	p := w.past()
	if err := p.Follow(t.Context(), func(*Step) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if p.Read() == 0 || p.Read() >= p.Records() {
		t.Errorf("read %d of %d records for the first decision", p.Read(), p.Records())
	}
}

func TestWhatTheLogNoLongerHoldsIsNamed(t *testing.T) {
	w := week(t)
	p := w.past()
	if err := p.Follow(t.Context(), func(*Step) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if m := p.Missing(); len(m) != 0 {
		t.Errorf("nothing is missing, but %v", m)
	}
	w.log.Truncate(topics.Requests, 0, 1)
	p = w.past()
	differ := 0
	if err := p.Follow(t.Context(), func(s *Step) error {
		if !s.Agrees() {
			differ++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if m := p.Missing(); len(m) != 1 || !strings.Contains(m[0], topics.Requests) || differ == 0 {
		t.Errorf("missing %v, %d steps differ", m, differ)
	}
}

// compacted is a log whose table no longer holds its first record.
type compacted struct{ stream.Log }

func (l compacted) Open(ctx context.Context, topic string, partition int32, offset int64) (stream.Cursor, error) {
	c, err := l.Log.Open(ctx, topic, partition, offset)
	if topic == topics.Attributes {
		c = withoutFirst{c}
	}
	return c, err
}

type withoutFirst struct{ stream.Cursor }

func (c withoutFirst) Fetch(ctx context.Context, maxBytes int, wait time.Duration) ([]stream.Record, error) {
	records, err := c.Cursor.Fetch(ctx, maxBytes, wait)
	if len(records) > 0 && records[0].Offset == 0 {
		records = records[1:]
	}
	return records, err
}

func TestWhatWasCompactedAwayIsCounted(t *testing.T) {
	w := week(t)
	w.take(w.know("anna", monday.AddDate(0, 0, 7), "Asia/Tokyo"))
	p, err := Open(t.Context(), compacted{w.log}, run, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Follow(t.Context(), func(*Step) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if m := p.Missing(); len(m) != 1 || m[0] != "1 earlier records of customer.attributes.v1 were compacted away" {
		t.Errorf("missing %q", m)
	}
}

func TestPartitionsThatDoNotFitAreRefused(t *testing.T) {
	w := week(t)
	w.log.Create(topics.Decisions, stream.TopicInfo{Partitions: 3})
	if _, err := Open(t.Context(), w.log, run, 0); !errors.Is(err, ErrPartitions) {
		t.Errorf("got %v", err)
	}
}

// simulate plays scenarios and returns what they decide, and what was decided.
func (w *world) simulate(to time.Time, scenarios ...Scenario) (was []string, are [][]string, looks Looks) {
	w.t.Helper()
	are = make([][]string, len(scenarios))
	for i := range scenarios {
		scenarios[i].Each = func(d *Decision) error { are[i] = append(are[i], verdict(w.t, d)); return nil }
	}
	looks, err := w.past().Simulate(context.WithoutCancel(w.t.Context()), to, func(d *Decision) error { was = append(was, verdict(w.t, d)); return nil }, scenarios...)
	if err != nil {
		w.t.Fatal(err)
	}
	return was, are, looks
}

// verdict is what is decided, and when it takes effect.
func verdict(t *testing.T, e *Decision) string {
	t.Helper()
	var d decision.Decision
	if err := d.Parse(e.Type, e.Data); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %s %s %s %s", d.Request, strings.Split(d.Type, ".")[3], d.Reason, d.DecidedAt.Format(time.RFC3339), d.Due.Format(time.RFC3339))
}

func TestWithoutAnotherPolicyASimulationDecidesWhatWasDecided(t *testing.T) {
	w := newWorld(t)
	w.take(w.place("r-1", "anna", monday, 3), w.know("bruno", monday.Add(time.Second), "Asia/Tokyo"), w.place("r-2", "bruno", monday.Add(2*time.Second), 5))
	w.publish(w.fold.Advance(monday.Add(26 * time.Hour)))
	w.take(w.place("r-3", "anna", monday.Add(27*time.Hour), 4))
	w.publish(w.fold.Advance(monday.AddDate(0, 0, 6)))
	was, are, looks := w.simulate(time.Time{}, Scenario{})
	if !slices.Equal(was, are[0]) {
		t.Errorf("was\n%s\nis\n%s", strings.Join(was, "\n"), strings.Join(are[0], "\n"))
	}
	if looks.Same != 3 || looks.Earlier < 3 || looks.None != 0 || looks.Later != 0 {
		t.Errorf("looked %+v", looks)
	}
}

func TestASimulatedPolicyCountsFromItsTimeOn(t *testing.T) {
	w := newWorld(t)
	for i := range 8 {
		at := monday.AddDate(0, 0, i)
		w.take(w.place(fmt.Sprint("r-", i), fmt.Sprint("c-", i), at, 1))
		w.publish(w.fold.Advance(at.Add(20 * time.Hour)))
		if i == 5 { // what was put into force later does not replace what is simulated
			again := decision.Default()
			again.Version = "again.1"
			w.take(w.write(topics.Policies, "po-2", decision.PolicyType, "", at.Add(21*time.Hour), &again))
		}
	}
	from := monday.AddDate(0, 0, 3).Add(-time.Hour)
	p := narrow()
	_, are, _ := w.simulate(time.Time{}, Scenario{}, Scenario{From: from, Policy: p}, Scenario{Policy: p})
	ends := make([]map[string]string, len(are))
	for i, list := range are {
		ends[i] = map[string]string{}
		for _, v := range list {
			request, _, _ := strings.Cut(v, " ")
			ends[i][request] = v // the last counts
		}
	}
	for i := range 8 {
		r := fmt.Sprint("r-", i)
		if (i < 3) != (ends[0][r] == ends[1][r]) {
			t.Errorf("placed on day %d:\n%s\n%s", i, ends[0][r], ends[1][r])
		}
		if ends[0][r] == "" || ends[0][r] == ends[2][r] {
			t.Errorf("a policy from the beginning changes nothing: %q", ends[0][r])
		}
	}
	if _, are, _ := w.simulate(monday.Add(time.Minute), Scenario{}); len(are[0]) != 1 {
		t.Errorf("within a minute there are %d decisions, want a wait: %v", len(are[0]), are[0])
	}
	if _, are, _ := w.simulate(from, Scenario{}); len(are[0]) != 6 {
		t.Errorf("up to the fourth day there are %d decisions, want 6: %v", len(are[0]), are[0])
	}
}
