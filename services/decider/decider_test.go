package decider

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
)

const (
	anna        = "C-20417"
	traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
)

var engaged = time.Date(2026, 12, 3, 9, 41, 52, 0, time.UTC) // a Thursday, 10:41:52 in Rome

// record wraps data as it stands on a topic, changed by change.
func record(topic, typ, id string, t time.Time, data any, change func(e *stream.Event)) stream.Record {
	b, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	e := stream.Event{ID: id, Source: "/test", Type: typ, Subject: anna, Time: t, Traceparent: traceparent, Data: b}
	if change != nil {
		change(&e)
	}
	return stream.Record{Topic: topic, Time: t.Add(200 * time.Millisecond), Key: []byte(anna), Value: e.Append(nil)}
}

// burst is a deviation at t, as the detector writes it, changed by change.
func burst(t time.Time, change func(d *deviation.Deviation)) stream.Record {
	d := deviation.Deviation{
		Kind: timing.Burst, Channel: "email", Zone: "Europe/Rome", Actionable: true,
		Score: timing.Score{Now: 83, Best: 84, BestAt: t.Add(24 * time.Hour)},
		Cause: deviation.Cause{ID: "sg-1", Position: "engagement.events.v1:0:17"}, Model: "builtin.1",
	}
	if change != nil {
		change(&d)
	}
	return record(topics.Deviations, deviation.Type, "dv-"+t.Format("02-150405"), t, d, nil)
}

// request is a record of a request at t.
func request(id string, t time.Time, r decision.Request) stream.Record {
	return record(topics.Requests, decision.RequestType, id, t, r, nil)
}

// preview waits until Friday evening.
var preview = decision.Request{Action: decision.Place, Channel: "email", Message: "winter-preview", Deadline: time.Date(2026, 12, 4, 17, 0, 0, 0, time.UTC)}

// told is a record of what is known of the customer at t; nil: nothing any more.
func told(t time.Time, a *customer.Attributes) stream.Record {
	if a == nil {
		return stream.Record{Topic: topics.Attributes, Time: t, Key: []byte(anna)}
	}
	return record(topics.Attributes, customer.Type, "c-"+t.Format("150405"), t, a, nil)
}

// policy is a record that puts the default policy into force, changed by change.
func policy(version string, change func(p *decision.Policy)) stream.Record {
	p := decision.Default()
	p.Version = version
	if change != nil {
		change(&p)
	}
	e := stream.Event{ID: "pl-" + version, Source: "/test", Type: decision.PolicyType, Time: engaged.Add(-time.Hour), Data: p.Append(nil)}
	return stream.Record{Topic: topics.Policies, Time: engaged.Add(-time.Hour), Value: e.Append(nil)}
}

type driver struct {
	*streamtest.Driver[Input, decision.State, Partition]
	t *testing.T
}

func newDriver(t *testing.T, run stream.Run) driver {
	t.Helper()
	return driver{streamtest.NewDriver(t, Job(run, noop.Int64Counter{}), run), t}
}

// made is a decision as it was published.
type made struct {
	decision.Decision
	envelope stream.Event
}

// read reads what was published. A dead letter fails the test.
func (d driver) read(out []streamtest.Output) (all []made) {
	d.t.Helper()
	for _, o := range out {
		if o.Failed != "" {
			d.t.Fatalf("dead letter: %s", o.Failed)
		}
		m := made{envelope: o.Event}
		if err := m.Parse(o.Event.Type, o.Event.Data); err != nil {
			d.t.Fatal(err)
		}
		if o.Topic != topics.Decisions || string(o.Key) != anna || o.Event.Subject != anna || !strings.HasPrefix(o.Event.ID, decision.Prefix) {
			d.t.Errorf("went to %s with key %q, subject %q and id %s", o.Topic, o.Key, o.Event.Subject, o.Event.ID)
		}
		all = append(all, m)
	}
	return all
}

func (d driver) pipe(r stream.Record) []made {
	d.t.Helper()
	return d.read(d.Pipe(r))
}

func (d driver) advance(until time.Time) []made {
	d.t.Helper()
	return d.read(d.Advance(until))
}

// tell says in short what was decided.
func tell(all []made) string {
	var words []string
	for _, m := range all {
		kind := strings.TrimSuffix(strings.TrimPrefix(m.Type, "io.tempismo.decision."), ".v1")
		words = append(words, strings.TrimSpace(kind+" "+string(m.Reason)+" "+m.Request))
	}
	return strings.Join(words, ", ")
}

func (d driver) want(got []made, want string) []made {
	d.t.Helper()
	if s := tell(got); s != want {
		d.t.Fatalf("\n got %s\nwant %s", s, want)
	}
	return got
}

// reader is the profile of a customer who reads in the hour of engaged, every day.
func reader() stream.Seen {
	p := timing.Profile{Zone: "Europe/Rome"}
	w := timing.World{Model: timing.Builtin()}
	rome, err := calendar.Zone(p.Zone)
	if err != nil {
		panic(err)
	}
	for day := -70; day < 0; day++ {
		hour, minute := calendar.LocalHour(engaged.AddDate(0, 0, day), rome)
		c := p.Channel("email")
		c.Delivered(&w, hour-1)
		c.Engaged(&w, hour, minute)
	}
	return stream.Seen{Value: p.Append(nil), Position: "engagement.events.v1:0:141"}
}

func TestABurstBecomesADecision(t *testing.T) {
	d := newDriver(t, stream.Run{ID: "r1"})
	got := d.want(d.pipe(burst(engaged, nil)), "send_now burst")[0]
	if e := got.envelope; !e.Time.Equal(engaged) || e.Traceparent != traceparent {
		t.Errorf("envelope %+v", e)
	}
	if !got.ExpiresAt.Equal(engaged.Add(30*time.Minute)) || got.Deviation != "dv-03-094152" {
		t.Errorf("decision %+v", got.Decision)
	}
	if !got.DecidedAt.Equal(engaged.Add(200 * time.Millisecond)) {
		t.Errorf("decided at %v: in a live run the clock is that of the records", got.DecidedAt)
	}
	if p := got.MadeFrom.Positions[topics.Deviations]; p != "0:0" || got.MadeFrom.Policy != decision.Default().Version {
		t.Errorf("made from %+v", got.MadeFrom)
	}
}

// A request waits for its slot, is released there once, and its decisions say by which records and which profile.
func TestARequestIsReleasedByItsTimer(t *testing.T) {
	for _, run := range []stream.Run{{ID: "r1"}, {ID: "import", Simulated: true}} {
		t.Run(run.ID, func(t *testing.T) {
			d := newDriver(t, run)
			d.Look(func(string) stream.Seen { return reader() })
			wait := d.pipe(request("r-1", engaged.Add(-3*time.Hour), preview))
			if len(wait) != 1 || wait[0].Type != decision.WaitType || wait[0].Slot == nil || wait[0].Request != "r-1" {
				t.Fatalf("got %s", tell(wait))
			}
			if l := wait[0].Lookup; l == nil || l.Profile != "engagement.events.v1:0:141" || l.Zone != "Europe/Rome" {
				t.Errorf("looked up %+v", l)
			}
			due := wait[0].Due
			if early := d.advance(due.Add(-time.Millisecond)); len(early) != 0 {
				t.Fatalf("before it is due: %s", tell(early))
			}
			sent := d.advance(due)
			if len(sent) != 1 || sent[0].Type != decision.SendNowType || sent[0].Message != "winter-preview" || sent[0].Lookup == nil {
				t.Fatalf("got %s", tell(sent))
			}
			if !sent[0].envelope.Time.Equal(due) || sent[0].envelope.ID == wait[0].envelope.ID || sent[0].MadeFrom.Positions[topics.Requests] != "0:0" {
				t.Errorf("envelope %+v, made from %+v", sent[0].envelope, sent[0].MadeFrom)
			}
			if late := d.advance(due.AddDate(0, 1, 0)); len(late) != 0 {
				t.Errorf("and after it was sent: %s", tell(late))
			}
		})
	}
}

// What one id of a request is asked to do at different times leads to decisions with ids of their own.
func TestARequestIsReplacedAndCancelled(t *testing.T) {
	d := newDriver(t, stream.Run{ID: "r1"})
	at := engaged.Add(-3 * time.Hour)
	other := preview
	other.Action, other.Message = decision.Replace, "winter-sale"
	first := d.pipe(request("r-1", at, preview))
	second := d.pipe(request("r-1", at.Add(time.Minute), other))
	third := d.want(d.pipe(request("r-1", at.Add(2*time.Minute), decision.Request{Action: decision.Cancel})), "cancelled requested r-1")
	ids := map[string]bool{}
	for _, m := range slices.Concat(first, second, third) {
		ids[m.envelope.ID] = true
	}
	if len(first) != 1 || len(second) != 1 || len(ids) != 3 || second[0].Message != "winter-sale" {
		t.Errorf("got %s; %s; ids %v", tell(first), tell(second), ids)
	}
	if after := d.advance(preview.Deadline.AddDate(0, 1, 0)); len(after) != 0 {
		t.Errorf("after its end: %s", tell(after))
	}
	d.want(d.pipe(request("r-1", at.Add(3*time.Minute), preview)), "")
}

func TestADeviationReleasesARequestThatWaitsForOne(t *testing.T) {
	d := newDriver(t, stream.Run{ID: "r1"})
	waiting := preview
	waiting.OnDeviation = true
	d.Look(func(string) stream.Seen { return reader() })
	d.pipe(request("r-1", engaged.Add(-20*time.Minute), waiting))
	got := d.pipe(burst(engaged, nil))
	if len(got) != 1 || got[0].Type != decision.SendNowType || got[0].Reason != decision.Burst || got[0].Request != "r-1" || got[0].Deviation == "" {
		t.Fatalf("got %s", tell(got))
	}
	if p := got[0].MadeFrom.Positions; p[topics.Requests] != "0:0" || p[topics.Deviations] != "0:0" {
		t.Errorf("made from %v", p)
	}
	if after := d.advance(preview.Deadline.AddDate(0, 1, 0)); len(after) != 0 {
		t.Errorf("and after it was sent: %s", tell(after))
	}
}

// What bounds overlap is counted over customers, so it has to outlive the service like they do.
func TestAudiencesOutliveTheService(t *testing.T) {
	d := newDriver(t, stream.Run{ID: "r1"})
	codec := Job(stream.Run{ID: "r1"}, noop.Int64Counter{}).Partition
	before := codec.Append(nil, d.Partition())
	forAll := preview
	forAll.Audience = "premium-milano"
	d.pipe(request("r-1", engaged, forAll))
	after := codec.Append(nil, d.Partition())
	var again Partition
	if err := codec.Decode(after, &again); err != nil || len(after) <= len(before) || string(codec.Append(nil, &again)) != string(after) {
		t.Errorf("stored as %q, before the request as %q: %v", after, before, err)
	}
}

func TestAModelCountsFromItsRecordOn(t *testing.T) {
	d := newDriver(t, stream.Run{ID: "r1"})
	data, err := timing.Builtin().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	data = []byte(strings.Replace(string(data), timing.BuiltinVersion, "2026-12-03.1", 1))
	e := stream.Event{ID: "md-1", Source: "/test", Type: timing.ModelType, Time: engaged, Data: data}
	for i, want := range []string{timing.BuiltinVersion, "2026-12-03.1"} {
		if i == 1 {
			d.pipe(stream.Record{Topic: topics.Models, Time: engaged, Value: e.Append(nil)})
		}
		got := d.pipe(request("r-"+want, engaged.Add(time.Duration(i)*time.Second), preview))
		if len(got) == 0 || got[0].Lookup == nil || got[0].Lookup.Model != want {
			t.Errorf("decided %s with %+v, want model %s", tell(got), got[0].Lookup, want)
		}
	}
}

// A policy counts from its record on, for whatever is decided after it.
func TestAPolicySwitchesBetweenTwoRecords(t *testing.T) {
	d := newDriver(t, stream.Run{ID: "r1"})
	by := func(want, version string) {
		t.Helper()
		at := engaged.AddDate(0, 0, int(d.Now().Sub(engaged).Hours()/24)+1)
		if got := d.want(d.pipe(burst(at, nil)), want); got[0].MadeFrom.Policy != version {
			t.Errorf("policy %s, want %s", got[0].MadeFrom.Policy, version)
		}
	}
	d.pipe(burst(engaged, nil))
	by("send_now burst", decision.Default().Version)
	d.pipe(policy("7", func(p *decision.Policy) {
		c := p.Channels["email"]
		c.Windows, c.Prime = []calendar.Opening{{Window: calendar.Window{From: 15 * 60, To: 16 * 60}}}, nil
		p.Channels["email"] = c
	}))
	by("blocked window", "7")
}

func TestWhatIsKnownOfACustomerCounts(t *testing.T) {
	at := engaged.Add(-3 * time.Hour)
	refusal := &customer.Attributes{Consents: customer.Consents{Mailing: &customer.Consent{At: at}}}
	t.Run("who refuses mail waits for none", func(t *testing.T) {
		d := newDriver(t, stream.Run{ID: "r1"})
		d.pipe(request("r-1", at, preview))
		d.want(d.pipe(told(at.Add(time.Minute), refusal)), "cancelled no_consent r-1")
		d.want(d.pipe(burst(engaged, nil)), "blocked no_consent")
	})
	t.Run("a tombstone takes the refusal back", func(t *testing.T) {
		d := newDriver(t, stream.Run{ID: "r1"})
		d.pipe(told(at, refusal))
		d.pipe(told(at.Add(time.Minute), nil))
		d.want(d.pipe(burst(engaged, nil)), "send_now burst")
	})
	t.Run("a customer who moves is planned anew", func(t *testing.T) {
		d := newDriver(t, stream.Run{ID: "r1"})
		before := d.pipe(request("r-1", at, preview))
		d.want(d.pipe(told(at.Add(time.Minute), &customer.Attributes{Zone: "America/New_York"})), "")
		after := d.advance(at.Add(2 * time.Minute))
		if len(before) != 1 || len(after) != 1 || after[0].Type != decision.WaitType || after[0].Zone != "America/New_York" || after[0].Slot.From.Equal(before[0].Slot.From) {
			t.Errorf("got %s, then %s", tell(before), tell(after))
		}
	})
	t.Run("who is erased is forgotten", func(t *testing.T) {
		d := newDriver(t, stream.Run{ID: "r1"})
		d.pipe(told(at, refusal))
		d.pipe(told(at.Add(time.Second), &customer.Attributes{Segment: "premium"}))
		d.pipe(request("r-1", at.Add(2*time.Second), preview))
		erase := func(signal string) []made {
			e := customer.Erasure{Signals: []string{signal}, Before: at.Add(time.Minute)}
			return d.pipe(record(topics.Erasures, customer.ErasureType, "er-"+signal, at.Add(time.Minute), e, nil))
		}
		d.want(erase(customer.SignalOpen), "")
		d.want(erase(customer.SignalAll), "cancelled erased r-1")
		if bytes := d.State(anna).Append(nil); strings.Contains(string(bytes), "premium") {
			t.Errorf("the state still holds %q", bytes)
		}
	})
}

// What is due because of a record is due at the record's time, wherever the clock stood when it came. From the log the order of what
// came on different topics is not known between two decisions, and a tick of another time would not be known when it is decided again.
func TestWhatCameBeforeDoesNotShowInATimer(t *testing.T) {
	at := engaged.Add(-3 * time.Hour)
	var due []time.Time
	for _, first := range []bool{false, true} {
		d := newDriver(t, stream.Run{ID: "r1"})
		d.pipe(request("r-1", at, preview))
		if first {
			other := told(at.Add(10*time.Minute), &customer.Attributes{})
			other.Key, other.Value = []byte("C-bert"), bytes.ReplaceAll(other.Value, []byte(anna), []byte("C-bert"))
			if out := d.Pipe(other); len(out) > 0 {
				t.Fatalf("%+v", out)
			}
		}
		d.pipe(told(at.Add(time.Minute), &customer.Attributes{Zone: "America/New_York"}))
		next, _ := d.Next()
		due = append(due, next.Due)
	}
	if want := at.Add(time.Minute + 200*time.Millisecond); !due[0].Equal(want) || !due[1].Equal(want) {
		t.Errorf("due at %v, want %v", due, want)
	}
}

// A send that the CRM refused does not count as one.
func TestARefusedSendGivesItsPlaceBack(t *testing.T) {
	for _, tt := range []struct {
		result decision.Result
		want   string
	}{{decision.Accepted, "blocked frequency_cap"}, {decision.Unknown, "blocked frequency_cap"}, {decision.Refused, "send_now burst"}} {
		d := newDriver(t, stream.Run{ID: "r1"})
		sent := d.want(d.pipe(burst(engaged, nil)), "send_now burst")[0]
		o := decision.Outcome{Decision: sent.envelope.ID, Connector: "webhook", Result: tt.result, Attempts: 1}
		d.pipe(record(topics.Outcomes, decision.OutcomeType, "o-1", engaged.Add(time.Second), o, nil))
		d.want(d.pipe(burst(engaged.Add(time.Hour), nil)), tt.want)
	}
}

// While the profiler rebuilds what it has lost, nothing is triggered, and requests are planned as for a stranger.
func TestAProfileThatIsRebuiltIsNotBelieved(t *testing.T) {
	d := newDriver(t, stream.Run{ID: "r1"})
	d.Look(func(string) stream.Seen { s := reader(); s.Rebuilding = true; return s })
	d.want(d.pipe(burst(engaged, nil)), "")
	got := d.pipe(request("r-1", engaged.Add(time.Minute), preview))
	if len(got) != 1 || got[0].Score.Level != timing.LevelBusinessHours || got[0].Lookup == nil || !got[0].Lookup.Partial || got[0].Lookup.Profile != "" {
		t.Errorf("got %s from %+v", tell(got), got)
	}
}

// A replay that does not look anything up, but is given what was recorded, decides alike.
func TestRecordedLookUpsReplayTheDecisions(t *testing.T) {
	run := stream.Run{ID: "r1"}
	records := []stream.Record{request("r-1", engaged.Add(-3*time.Hour), preview), burst(engaged, nil)}
	d := newDriver(t, run)
	d.Look(func(string) stream.Seen { return reader() })
	var want []made
	recorded := map[string][]byte{}
	for i, r := range records {
		if i == 1 {
			want = append(want, d.advance(engaged)...)
		}
		out := d.pipe(r)
		if len(out) > 0 && out[0].Lookup != nil {
			b, err := json.Marshal(out[0].Lookup)
			if err != nil {
				t.Fatal(err)
			}
			recorded[r.Topic] = b
		}
		want = append(want, out...)
	}
	fold, err := stream.NewFold(Job(run, noop.Int64Counter{}), run, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	fold.Recorded(func(r *stream.Record) []byte {
		if b := recorded[r.Topic]; b != nil {
			return b
		}
		return recorded[topics.Requests]
	})
	var got []stream.Output
	for i := range records {
		if i == 1 {
			out, err := fold.Advance(engaged)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, out...)
		}
		out, err := fold.Apply(&records[i])
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, out...)
	}
	if len(got) != len(want) || len(got) == 0 {
		t.Fatalf("%d decisions, want %d", len(got), len(want))
	}
	for i := range got {
		e, err := stream.ParseEvent(got[i].Value)
		if err != nil || string(e.Data) != string(want[i].envelope.Data) || e.ID != want[i].envelope.ID {
			t.Errorf("decision %d:\n got %s\nwant %s", i, e.Data, want[i].envelope.Data)
		}
	}
}

func TestWhatCannotBeReadIsADeadLetter(t *testing.T) {
	type change = func(e *stream.Event)
	data := func(text string) change { return func(e *stream.Event) { e.Data = []byte(text) } }
	kinds := []struct {
		topic, typ string
		data       any
		broken     string // data that no record of the topic may have
		field      string // that the reason names
	}{
		{topics.Deviations, deviation.Type, deviation.Deviation{Kind: timing.Burst}, `{"kind":7}`, "data"},
		{topics.Requests, decision.RequestType, preview, `{"action":"postpone"}`, "data.action"},
		{topics.Attributes, customer.Type, customer.Attributes{}, `{"zone":7}`, "data.zone"},
		{topics.Erasures, customer.ErasureType, customer.Erasure{Signals: []string{"open"}, Before: engaged}, `{"signals":["smell"],"erased_before":"2026-12-03T09:00:00Z"}`, "data.signals"},
		{topics.Outcomes, decision.OutcomeType, decision.Outcome{Decision: "d-1", Result: decision.Accepted}, `{"result":"accepted"}`, "decision"},
	}
	for _, k := range kinds {
		for _, tt := range []struct {
			name   string
			change change
			field  string
		}{
			{"of another type", func(e *stream.Event) { e.Type = "io.tempismo.scored.v1" }, "type"},
			{"whose subject is not its key", func(e *stream.Event) { e.Subject = "C-1" }, "subject"},
			{"without a time", func(e *stream.Event) { e.Time = time.Time{} }, "time"},
			{"with data that cannot be", data(k.broken), k.field},
		} {
			t.Run(k.topic+" "+tt.name, func(t *testing.T) {
				d := newDriver(t, stream.Run{ID: "r1"})
				if out := d.Pipe(record(k.topic, k.typ, "x-1", engaged, k.data, nil)); len(out) > 0 && out[0].Failed != "" {
					t.Fatalf("the record itself: %s", out[0].Failed)
				}
				out := d.Pipe(record(k.topic, k.typ, "x-2", engaged, k.data, tt.change))
				if len(out) != 1 || out[0].Topic != topics.DeadLetter(k.topic) || !strings.Contains(out[0].Failed, tt.field) {
					t.Errorf("got %+v, want a dead letter that names the %s", out, tt.field)
				}
			})
		}
	}
}

func TestAPolicyThatCannotBeReadIsADeadLetterAndTheOneBeforeStays(t *testing.T) {
	d := newDriver(t, stream.Run{ID: "r1"})
	d.pipe(policy("7", nil))
	broken := policy("8", nil)
	broken.Value = []byte(strings.Replace(string(broken.Value), `"version":"8"`, `"version":8`, 1))
	if out := d.Pipe(broken); len(out) != 1 || out[0].Topic != topics.DeadLetter(topics.Policies) {
		t.Errorf("got %+v", out)
	}
	if got := d.want(d.pipe(burst(engaged, nil)), "send_now burst"); got[0].MadeFrom.Policy != "7" {
		t.Errorf("policy %s", got[0].MadeFrom.Policy)
	}
}

// TestAWeekOfBursts tells what one customer gets who bursts every morning: a message a day until three are out, and
// nothing on a holiday.
func TestAWeekOfBursts(t *testing.T) {
	for _, run := range []stream.Run{{ID: "r1"}, {ID: "import", Simulated: true}} {
		d := newDriver(t, run)
		var got []string
		for day := range 8 { // Thursday 3 to Thursday 10 December; Tuesday 8 is the Immaculate Conception
			for _, m := range d.pipe(burst(engaged.AddDate(0, 0, day), nil)) {
				got = append(got, m.envelope.Time.Format("Mon")+" "+string(m.Reason))
			}
		}
		const want = "Thu burst, Fri burst, Sat burst, Sun frequency_cap, Mon frequency_cap, Tue closed_day, Wed frequency_cap, Thu burst"
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("run %s:\n got %s\nwant %s", run.ID, s, want)
		}
	}
}

// TestALateDeviationExpires: what comes out of a backlog is never acted on late.
func TestALateDeviationExpires(t *testing.T) {
	d := newDriver(t, stream.Run{ID: "r1"})
	r := burst(engaged, nil)
	r.Time = engaged.Add(31 * time.Minute)
	d.want(d.pipe(r), "expired expired")
}

// A tick is taken a little after its timer was due. A decision that may live for a day must not outlive, by that little, what
// a connector remembers.
func TestATimerThatFiresLateSendsOfNow(t *testing.T) {
	d := newDriver(t, stream.Run{ID: "r1"})
	d.pipe(policy("7", func(p *decision.Policy) {
		p.Quiet, p.Lead, p.Closed = calendar.Window{}, nil, calendar.None
		c := p.Channels["email"]
		c.Windows, c.Expiry = []calendar.Opening{{Window: calendar.Window{To: 24 * 60}}}, decision.Duration(decision.MaxExpiry)
		p.Channels["email"] = c
	}))
	d.Look(func(string) stream.Seen { return reader() })
	long := preview
	long.Deadline = engaged.AddDate(0, 0, 8)
	due := d.pipe(request("r-1", engaged.Add(-3*time.Hour), long))[0].Due
	o := decision.Outcome{Decision: "d-1", Result: decision.Accepted}
	d.pipe(record(topics.Outcomes, decision.OutcomeType, "o-1", due, o, nil)) // moves the clock
	sent := d.advance(due)
	if len(sent) != 1 || sent[0].Type != decision.SendNowType {
		t.Fatalf("got %s", tell(sent))
	}
	if life := sent[0].ExpiresAt.Sub(sent[0].envelope.Time); life != decision.MaxExpiry || !sent[0].envelope.Time.After(due) {
		t.Errorf("due %v, envelope of %v, expires %v", due, sent[0].envelope.Time, sent[0].ExpiresAt)
	}
}
