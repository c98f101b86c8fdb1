package profiler

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
)

var start = time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC) // Monday, 09:00 in Rome

func event(kind engagement.Kind, customer, message string, after time.Duration) *engagement.Event {
	at := start.Add(after)
	return &engagement.Event{ID: fmt.Sprint(kind, customer, message, at.Unix()), Source: "/test", Subject: customer, Time: at, Kind: kind, Channel: "email", Message: message}
}

func TestWhatCannotBeRead(t *testing.T) {
	good := event(engagement.Open, "anna", "m-1", 0)
	rows := []struct {
		name  string
		live  bool
		setup func(d profilerDriver)
		key   string
		value []byte
		says  string
	}{
		{"a value that is no JSON", false, nil, "anna", []byte("{"), "JSON"},
		{"a key that is not the subject", false, nil, "bert", good.Append(nil), "subject: is not the key"},
		{"a zone that does not exist", false, nil, "anna", func() []byte { e := *good; e.Zone = "Europe/Atlantis"; return e.Append(nil) }(), "zone: unknown"},
		{"a time two minutes ahead of a live run", true, nil, "anna", event(engagement.Open, "anna", "", 2*time.Minute).Append(nil), "time: lies more than a minute in the future"},
		{"a ninth channel", false, func(d profilerDriver) {
			for i := range timing.MaxChannels {
				e := *good
				e.Channel = fmt.Sprint("c", i)
				pipe(d, &e)
			}
		}, "anna", good.Append(nil), "data.channel: is one more than the 8 channels"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			mode := "simulated"
			if row.live {
				mode = "live"
			}
			d := driver(t, Config{ScoredBelow: .1, Run: config.Run{ID: "r1", Mode: mode}})
			if row.setup != nil {
				row.setup(d)
			}
			before := d.Partition().append(nil)
			out := d.Pipe(stream.Record{Topic: topics.Events, Key: []byte(row.key), Value: row.value, Time: start})
			if len(out) != 1 || out[0].Topic != "engagement.events.v1.dlq" || !strings.Contains(out[0].Failed, row.says) || !bytes.Equal(out[0].Value, row.value) {
				t.Fatalf("outputs %+v", out)
			}
			if !bytes.Equal(before, d.Partition().append(nil)) {
				t.Error("what cannot be read was counted")
			}
		})
	}
}

func TestFutureInASimulatedRunIsItsClock(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	pipe(d, event(engagement.Open, "anna", "m-1", 1000*time.Hour))
	if got := d.Partition().totals; got.Accepted != 1 {
		t.Errorf("totals %+v", got)
	}
}

func TestZone(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	e := event(engagement.Open, "anna", "m-1", 0)
	pipe(d, e)
	if z := d.State("anna").Zone; z != "" {
		t.Errorf("zone %q of a customer whose events name none", z)
	}
	e.Zone, e.Time = "Asia/Tokyo", e.Time.Add(30*time.Hour)
	pipe(d, e)
	if z := d.State("anna").Zone; z != "Asia/Tokyo" {
		t.Errorf("zone %q after an event in Tokyo", z)
	}
	e.Zone, e.Time = "America/New_York", e.Time.Add(-2*time.Hour)
	pipe(d, e)
	if z := d.State("anna").Zone; z != "Asia/Tokyo" {
		t.Errorf("zone %q after an older event in New York", z)
	}
}

func TestLateAndRepeated(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	for _, after := range []time.Duration{200 * time.Hour, 200*time.Hour + 5*time.Minute, 100 * time.Hour, 31 * time.Hour} {
		pipe(d, event(engagement.Open, "anna", "", after))
	}
	pipe(d, event(engagement.Unsubscribe, "anna", "", 0)) // has no place in the profile, so it cannot be late
	e := event(engagement.Open, "anna", "", 300*time.Hour)
	e.Actor = engagement.Machine
	pipe(d, e)
	want := Totals{Accepted: 5, Late: 1, Repeated: 1, Human: 5, Machine: 1}
	want.Kinds[engagement.Open], want.Kinds[engagement.Unsubscribe] = 5, 1
	if got := d.Partition().totals; got != want {
		t.Errorf("totals\n%+v, want\n%+v", got, want)
	}
}

// TestDigests: what went in comes out in digests, hour by hour, and expectations come in the hour that they are about.
func TestDigests(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	var digests []timing.Digest
	take := func(out []streamtest.Output) {
		for _, o := range out {
			if o.Topic != topics.Digests {
				continue
			}
			var g timing.Digest
			if err := json.Unmarshal(o.Event.Data, &g); err != nil {
				t.Fatal(err)
			}
			if o.Key != nil || o.Event.Type != timing.DigestType || !strings.HasPrefix(o.Event.ID, "dg-") || !o.Event.Time.Equal(g.Minute) {
				t.Errorf("digest %+v", o.Event)
			}
			digests = append(digests, g)
		}
	}
	const customers = 2000 // of whose deliveries a sample says what they let expect
	for i := range customers {
		take(pipe(d, event(engagement.Delivered, fmt.Sprint("c-", i), "m-1", 0)))
	}
	take(pipe(d, event(engagement.Open, "c-1", "m-1", 5*time.Second)))
	take(pipe(d, event(engagement.Open, "c-1", "m-1", 90*time.Minute)))
	take(pipe(d, event(engagement.Click, "c-1", "m-1", 91*time.Minute)))
	for i := range 100 { // the clock goes on
		take(pipe(d, event(engagement.Sent, "bert", "", time.Duration(i+2)*time.Hour)))
	}
	if len(digests) < 90 {
		t.Fatalf("%d digests in a hundred hours", len(digests))
	}
	first, second := digests[0], digests[1]
	if !first.Minute.Equal(start) || first.Seconds != 3600 || first.Events != (timing.Events{Human: customers, Machine: 1}) || first.Engagements != 0 {
		t.Errorf("first digest %+v", first)
	}
	if second.Engagements != 2 || second.ResponseCount != 1 || second.ResponseSeconds != 5400 || second.Response[timing.ResponseBin(5400)] != 1 || second.Events != (timing.Events{Human: 2, Duplicate: 1}) {
		t.Errorf("second digest %+v", second)
	}
	if c := first.Cells[0]; c.How != 9 || c.Delivered != customers || c.Engaged != 0 || c.Channel != "email" || c.Expected == 0 {
		t.Errorf("the deliveries' cell: %+v", c)
	}
	var expected, own, engaged float64
	for i, g := range digests {
		for _, c := range g.Cells {
			if i < 72 && c.How != (9+i)%timing.Week {
				t.Errorf("digest of hour %d speaks of hour %d", 9+i, c.How)
			}
			expected += c.Expected / customers
			own += c.ModelExpected / customers
			engaged += float64(c.Engaged)
		}
	}
	m := timing.Builtin()
	// The sample of one in eight has a spread of 6 % in 2000.
	if rate := m.Priors.EngagedHours / m.Priors.Deliveries; math.Abs(expected/rate-1) > .24 || math.Abs(own/expected-1) > .2 || engaged != 1 {
		t.Errorf("expected %.3f flat and %.3f by model of one message to a stranger, want about %.3f; engaged %v", expected, own, rate, engaged)
	}
}

// TestGap: when nothing comes for days, what was expected in them belongs to the digest before, whose hours they follow.
func TestGap(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	for i := range 100 {
		pipe(d, event(engagement.Delivered, fmt.Sprint("c-", i), "m-1", 0))
	}
	out := pipe(d, event(engagement.Sent, "anna", "", 50*time.Hour))
	var g timing.Digest
	if len(out) != 1 || json.Unmarshal(out[0].Event.Data, &g) != nil || !g.Minute.Equal(start) {
		t.Fatalf("%+v", out)
	}
	if len(g.Cells) != 50 || g.Cells[0].How != 9 || g.Cells[49].How != 58 {
		t.Errorf("%d cells, from %d to %d", len(g.Cells), g.Cells[0].How, g.Cells[len(g.Cells)-1].How)
	}
}

// TestOptimal: an engagement answers a send in one of the customer's best hours.
func TestOptimal(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	day := 24 * time.Hour
	for i := range 100 { // mail at 09:00, read at 20:30
		pipe(d, event(engagement.Delivered, "anna", fmt.Sprint("m-", i), time.Duration(i)*day))
		pipe(d, event(engagement.Open, "anna", fmt.Sprint("m-", i), time.Duration(i)*day+690*time.Minute))
	}
	before := d.Partition().optimal
	best, score := time.Duration(0), 0
	v := d.State("anna").View(timing.Builtin(), "email", 2922*timing.Week)
	for h := range 24 {
		if s := int(v.Scores[h]); s > score {
			best, score = time.Duration(h-10)*time.Hour, s // summer time by then
		}
	}
	if score < timing.Prime {
		t.Fatalf("the best hour of a customer with one habit scores %d", score)
	}
	pipe(d, event(engagement.Delivered, "anna", "prime", 105*day+best))
	pipe(d, event(engagement.Open, "anna", "prime", 105*day+best+time.Hour))
	if got := d.Partition().optimal; got != before+1 {
		t.Errorf("%d answers to sends in the best hours, want one more than %d", got, before)
	}
}

// TestScored: the record on the wire.
func TestScored(t *testing.T) {
	d := driver(t, Config{ScoredBelow: 1})
	e := event(engagement.Open, "anna", "m-1", 0)
	e.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	pipe(d, event(engagement.Delivered, "anna", "m-1", -time.Hour))
	out := pipe(d, e)
	if len(out) != 2 { // the digest of the hour before, and this
		t.Fatalf("%d outputs", len(out))
	}
	o := out[1]
	if o.Topic != topics.Scored || string(o.Key) != "anna" || o.Event.Subject != "anna" || o.Event.Type != timing.ScoredType || o.Event.Traceparent != e.Trace || !o.Event.Time.Equal(e.Time) {
		t.Errorf("envelope %+v", o.Event)
	}
	var s timing.Scored
	dec := json.NewDecoder(bytes.NewReader(o.Event.Data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		t.Fatal(err)
	}
	if s.Event != e.ID || s.Kind != "open" || s.Local != "2026-01-05T09:00:00" || s.Zone != "Europe/Rome" || s.ResponseSeconds != 3600 || s.Model != timing.BuiltinVersion {
		t.Errorf("scored %+v", s)
	}
	if len(s.Tests) != 2 || s.Tests[0].Kind != timing.Burst || s.Tests[0].Observed != 1 || s.Tests[1].Kind != timing.Timing || s.Tests[1].Observed != 9 || s.Score.Worth <= 0 || s.Score.Best < s.Score.Now {
		t.Errorf("scored %+v", s)
	}
}

// TestPartitionCodec: what is stored of a partition is all of it.
func TestPartitionCodec(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	rng := rand.New(rand.NewPCG(1, 2))
	at := time.Duration(0)
	for i := range 3000 {
		at += time.Duration(rng.ExpFloat64() * float64(20*time.Minute))
		e := event(engagement.Delivered, fmt.Sprint("c-", rng.IntN(40)), fmt.Sprint("m-", rng.IntN(9)), at-time.Duration(rng.IntN(50))*time.Hour)
		if i%2 == 0 {
			e.Kind = engagement.Open
		}
		e.Channel = []string{"email", "sms"}[rng.IntN(2)]
		pipe(d, e)
		if i%100 == 0 {
			p := d.Partition()
			stored := p.append(nil)
			if len(stored) > 16<<10 {
				t.Fatalf("a partition takes %d bytes", len(stored))
			}
			var again Partition
			if err := again.decode(stored); err != nil {
				t.Fatal(err)
			}
			want := *p
			want.world, want.unstored = timing.World{Gaps: want.world.Gaps}, unstored{} // the rest of it is how it works something out
			if !reflect.DeepEqual(again, want) {
				t.Fatalf("after %d events the partition is stored incompletely", i)
			}
		}
	}
	stored := d.Partition().append(nil)
	for n := range stored {
		var p Partition
		if p.decode(stored[:n]) == nil {
			t.Fatalf("%d of %d bytes are a partition", n, len(stored))
		}
	}
}

// TestOrder: profiles do not depend on the order of arrival within two days.
func TestOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var events []*engagement.Event
	at := time.Duration(0)
	for range 400 {
		at += time.Duration(rng.ExpFloat64() * float64(9*time.Hour))
		kind := engagement.Delivered
		if rng.IntN(2) == 0 {
			kind = engagement.Reply // no machine rule looks at it: those have a memory, which has an order
		}
		events = append(events, event(kind, "anna", "", at))
	}
	a := driver(t, Config{ScoredBelow: .1})
	for _, e := range events {
		pipe(a, e)
	}
	b := driver(t, Config{ScoredBelow: .1})
	for i := 0; i+1 < len(events); i += 2 {
		if events[i+1].Time.Sub(events[i].Time) < 47*time.Hour {
			events[i], events[i+1] = events[i+1], events[i]
		}
	}
	for _, e := range events {
		pipe(b, e)
	}
	va, vb := a.State("anna").View(timing.Builtin(), "email", 2950*timing.Week), b.State("anna").View(timing.Builtin(), "email", 2950*timing.Week)
	if va.Phi != vb.Phi || va.Evidence != vb.Evidence {
		t.Errorf("evidence %+v and %+v", va.Evidence, vb.Evidence)
	}
}

func TestReadTotals(t *testing.T) {
	if got, err := ReadTotals(stream.Snapshot{}); err != nil || got != (Totals{}) {
		t.Errorf("of nothing: %+v, %v", got, err)
	}
}

func TestConfig(t *testing.T) {
	good := Config{
		Kafka: kafka.Config{Brokers: []string{"127.0.0.1:9092"}}, Redis: redis.Config{Addr: "127.0.0.1:6379"}, Run: config.Run{ID: "r1", Mode: "live"},
		DefaultZone: "Europe/Rome", ScoredBelow: .1,
	}
	bad := good
	bad.DefaultZone, bad.ScoredBelow, bad.DigestEvery, bad.Retention, bad.CacheMiB = "Rome", 2, time.Millisecond, 5, -1
	err := bad.Validate()
	for _, name := range []string{"DEFAULT_ZONE", "SCORED_BELOW", "DIGEST_EVERY", "RETENTION_DAYS", "CACHE_MIB"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
}

// TestMonitor: a day on which mail could have been answered is tested once it is settled, of a sample that stands for all.
func TestMonitor(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	const customers, days = 40, 60
	tested, active := 0., uint64(0)
	add := func(kind string, bins []uint32) {
		for _, n := range bins {
			if kind == timing.Burst {
				tested += float64(n)
			}
		}
	}
	for day := range days {
		for i := range customers {
			at := time.Duration(day)*24*time.Hour + time.Duration(i)*time.Minute
			out := pipe(d, event(engagement.Delivered, fmt.Sprint("c-", i), "", at))
			if i == 0 && day%2 == 0 {
				out = append(out, pipe(d, event(engagement.Open, "c-0", "", at+time.Hour))...)
			}
			for _, o := range out {
				var g timing.Digest
				if o.Topic != topics.Digests || json.Unmarshal(o.Event.Data, &g) != nil {
					continue
				}
				for _, tail := range g.Tails {
					add(tail.Kind, tail.Bins)
				}
				active += g.Active
			}
		}
	}
	for stratum := range timing.Strata {
		add(timing.Burst, d.Partition().tails[burstTail][stratum][:])
	}
	settled := float64(customers * (days - 3)) // the last three days are not
	// One in 32 of the days is looked at: the spread of their number is that of a Poisson law.
	if spread := 4 * math.Sqrt(settled/32) * 32; math.Abs(tested-settled) > spread {
		t.Errorf("the days tested stand for %v, want %v within %v", tested, settled, spread)
	}
	if want := uint64((days - 3 + 1) / 2); active+d.Partition().active != want {
		t.Errorf("%d active days, want %d", active, want)
	}
}

// Partitions that were stored before there were erasures are still read.
func TestPartitionOfVersion2(t *testing.T) {
	text, err := os.ReadFile("testdata/partition.v2.hex")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	var p, again Partition
	if err := p.decode(stored); err != nil {
		t.Fatal(err)
	}
	want := Totals{Accepted: 320, Human: 320}
	want.Kinds[engagement.Delivered], want.Kinds[engagement.Open], want.Kinds[engagement.Click] = 160, 80, 80
	if p.totals != want || p.engagements != 3 || len(p.tallies) != 4 || p.tallies[3].segment != "of bert" {
		t.Errorf("totals %+v, %d engagements, %d tallies", p.totals, p.engagements, len(p.tallies))
	}
	if err := again.decode(p.append(nil)); err != nil || !reflect.DeepEqual(again, p) {
		t.Errorf("what was read of version 2 is stored incompletely: %v", err)
	}
}

// Partitions that were stored before there were segments, gaps and crowds are still read.
func TestPartitionOfVersion1(t *testing.T) {
	text, err := os.ReadFile("testdata/partition.v1.hex")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	var p Partition
	if err := p.decode(stored); err != nil {
		t.Fatal(err)
	}
	want := Totals{Accepted: 240, Human: 240}
	want.Kinds[engagement.Delivered], want.Kinds[engagement.Open], want.Kinds[engagement.Click] = 160, 40, 40
	if p.totals != want || p.engagements != 1 || len(p.tallies) != 2 || p.tallies[0].channel != "email" || p.tallies[1].channel != "sms" {
		t.Errorf("totals %+v, %d engagements, %d tallies", p.totals, p.engagements, len(p.tallies))
	}
	var again Partition
	if err := again.decode(p.append(nil)); err != nil || !reflect.DeepEqual(again, p) {
		t.Errorf("what was read of version 1 is stored incompletely: %v", err)
	}
}

func attributes(customer, data string) stream.Record {
	e := stream.Event{ID: "crm-" + customer + data, Source: "/crm", Type: "io.tempismo.customer.v1", Subject: customer, Time: start, Data: []byte(data)}
	return stream.Record{Topic: topics.Attributes, Key: []byte(customer), Value: e.Append(nil)}
}

// TestAttributes: a customer's zone and segment are what was told last, and stand in everything that is told of the customer.
func TestAttributes(t *testing.T) {
	d := driver(t, Config{ScoredBelow: 1})
	if out := d.Pipe(attributes("anna", `{"zone":"Asia/Tokyo","segment":"premium","value":8}`)); len(out) != 0 {
		t.Fatalf("%+v", out)
	}
	pipe(d, event(engagement.Delivered, "anna", "m-1", 0))
	out := pipe(d, event(engagement.Open, "anna", "m-1", time.Hour))
	var s timing.Scored
	if err := json.Unmarshal(out[len(out)-1].Event.Data, &s); err != nil {
		t.Fatal(err)
	}
	if s.Zone != "Asia/Tokyo" || s.Segment != "premium" || s.Local != "2026-01-05T18:00:00" {
		t.Errorf("%+v", s)
	}
	pipe(d, event(engagement.Delivered, "bert", "m-1", time.Hour))
	var g timing.Digest
	out = pipe(d, event(engagement.Sent, "bert", "", 2*time.Hour))
	if err := json.Unmarshal(out[0].Event.Data, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Cells) < 2 || g.Cells[0].Segment != "premium" || g.Cells[0].Engaged != 1 || g.Cells[len(g.Cells)-1].Segment != "" || g.Cells[len(g.Cells)-1].Delivered != 1 {
		t.Errorf("cells %+v", g.Cells)
	}
	for _, none := range []string{`{}`, `{"zone":"Europe/Atlantis"}`} {
		d.Pipe(attributes("anna", `{"zone":"Asia/Tokyo","segment":"premium"}`))
		d.Pipe(attributes("anna", none))
		if p := d.State("anna"); p.Segment != "" || p.Zone != "" {
			t.Errorf("%s leaves segment %q, zone %q", none, p.Segment, p.Zone)
		}
	}
	there := event(engagement.Reply, "anna", "", 30*time.Hour)
	there.Zone = "Asia/Kolkata"
	pipe(d, there)
	d.Pipe(attributes("anna", `{}`))
	if p := d.State("anna"); p.Zone != "Asia/Kolkata" {
		t.Errorf("zone %q, although an event named one and nobody said otherwise", p.Zone)
	}
	before := d.Partition().append(nil)
	for _, row := range []struct{ name, says string }{
		{`{"consents":{"pixel":{"granted":false}}}`, "data.consents.pixel.at"}, {`{"segment":7}`, "segment"},
	} {
		out := d.Pipe(attributes("anna", row.name))
		if len(out) != 1 || out[0].Topic != "customer.attributes.v1.dlq" || !strings.Contains(out[0].Failed, row.says) {
			t.Errorf("%s: %+v", row.name, out)
		}
	}
	r := attributes("anna", `{}`)
	r.Key = []byte("bert")
	if out := d.Pipe(r); len(out) != 1 || !strings.Contains(out[0].Failed, "subject: is not the key") {
		t.Errorf("%+v", out)
	}
	if !bytes.Equal(before, d.Partition().append(nil)) {
		t.Error("attributes were counted as events")
	}
}

// TestSegments: a digest tells no more channels and segments apart than it promises, and loses nothing.
func TestSegments(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	const customers = 2 * maxTallies
	for i := range customers {
		id := fmt.Sprint("c-", i)
		d.Pipe(attributes(id, fmt.Sprintf(`{"segment":"s-%d"}`, i)))
		pipe(d, event(engagement.Delivered, id, "m-1", 0))
	}
	out := pipe(d, event(engagement.Sent, "bert", "", 2*time.Hour))
	var g timing.Digest
	if err := json.Unmarshal(out[0].Event.Data, &g); err != nil {
		t.Fatal(err)
	}
	delivered, segments := 0, map[string]int{}
	for _, c := range g.Cells {
		delivered += int(c.Delivered)
		segments[c.Segment] += int(c.Delivered)
	}
	if delivered != customers || len(segments) != maxTallies || segments[others] != customers-maxTallies+1 {
		t.Errorf("%d deliveries in %d segments, %d in others", delivered, len(segments), segments[others])
	}
}

// FuzzPartition: no bytes break the decoder, and what it reads is stored as it was read.
func FuzzPartition(f *testing.F) {
	text, err := os.ReadFile("testdata/partition.v1.hex")
	if err != nil {
		f.Fatal(err)
	}
	v1, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(v1)
	var p Partition
	if err := p.decode(v1); err != nil {
		f.Fatal(err)
	}
	f.Add(p.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p, again Partition
		if p.decode(b) != nil {
			return
		}
		stored := p.append(nil)
		if err := again.decode(stored); err != nil || !bytes.Equal(again.append(nil), stored) {
			t.Fatalf("%x became %x: %v", stored, again.append(nil), err)
		}
		p.tick(p.clock+1, &stepper{zone: time.UTC, every: 60})
	})
}
