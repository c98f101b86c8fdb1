package bench

import (
	"bytes"
	"encoding/json"
	"math"
	mathrand "math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/stream"
)

func testLoad() Load {
	return Load{Events: 50_000, Customers: 1000, Skew: 1, Machine: .2, Span: 26 * 7 * 24 * time.Hour, Seed: 3,
		Mix: map[string]float64{"delivered": 60, "open": 28, "click": 10, "bounce": 2}}
}

func TestEventsAreThoseOfTheirSeed(t *testing.T) {
	same, other := testLoad(), testLoad()
	other.Seed++
	a, b, c := NewGenerator(testLoad()), NewGenerator(same), NewGenerator(other)
	differ := false
	for range 20_000 {
		x := a.Next().Append(nil)
		if y := b.Next().Append(nil); !bytes.Equal(x, y) {
			t.Fatalf("one seed makes\n%s\nand\n%s", x, y)
		}
		differ = differ || !bytes.Equal(x, c.Next().Append(nil))
	}
	if !differ {
		t.Error("another seed makes the same events")
	}
}

func TestEventsAreWhatTheLoadSays(t *testing.T) {
	l := testLoad()
	g := NewGenerator(l)
	kinds, customers := map[engagement.Kind]float64{}, map[string]bool{}
	delivered := map[string]time.Time{}
	var before time.Time
	machines, opens, most := 0.0, 0.0, 0
	by := map[string]int{}
	for range l.Events {
		e := g.Next()
		var read engagement.Event
		if err := read.Parse(e.Append(nil)); err != nil {
			t.Fatalf("%s: %v", e.Append(nil), err)
		}
		if e.Time.Before(before) {
			t.Fatalf("%s comes after %s", e.Time, before)
		}
		before = e.Time
		kinds[e.Kind]++
		customers[e.Subject] = true
		by[e.Subject]++
		most = max(most, by[e.Subject])
		switch at, ok := delivered[e.Message]; {
		case e.Kind == engagement.Delivered:
			delivered[e.Message] = e.Time
		case e.Kind != engagement.Bounce && (!ok || e.Time.Before(at)):
			t.Fatalf("%s of a message that was not delivered", e.Append(nil))
		}
		if e.Kind == engagement.Open {
			opens++
			if e.Actor == engagement.Machine {
				machines++
			}
		}
	}
	for kind, want := range map[engagement.Kind]float64{engagement.Delivered: .6, engagement.Open: .28, engagement.Click: .1, engagement.Bounce: .02} {
		if got := kinds[kind] / float64(l.Events); math.Abs(got-want) > .02 {
			t.Errorf("the share of %s is %.3f, not %.3f", kind, got, want)
		}
	}
	if share := machines / opens; math.Abs(share-l.Machine/2) > .02 {
		t.Errorf("the share of opens that say to be a machine's is %.3f, not half of %.2f", share, l.Machine)
	}
	if got := g.Seen(); got != int64(len(customers)) {
		t.Errorf("%d customers were seen, but %d had an event", got, len(customers))
	}
	if span := before.Sub(began); span < l.Span*9/10 || span > l.Span*11/10 {
		t.Errorf("the events span %s, not %s", span, l.Span)
	}
	// Of 1,000 customers by Zipf's law the first has 1/(1 + 1/2 + ... + 1/1000) = 1/7.49.
	if share := float64(most) / float64(l.Events); math.Abs(share-1/7.49) > .02 {
		t.Errorf("the first customer has a share of %.3f, not %.3f", share, 1/7.49)
	}
}

func TestLoadsThatCannotBe(t *testing.T) {
	for name, spoil := range map[string]func(*Load){
		"no events":         func(l *Load) { l.Events = 0 },
		"no customers":      func(l *Load) { l.Customers = 0 },
		"no such kind":      func(l *Load) { l.Mix["sneeze"] = 1 },
		"nothing to answer": func(l *Load) { delete(l.Mix, "delivered") },
		"no time":           func(l *Load) { l.Span = 0 },
	} {
		l := testLoad()
		if err := l.Validate(); err != nil {
			t.Fatal(err)
		}
		if spoil(&l); l.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestLightJob is the job by hand: five days of one engagement and one of three, which is out of the ordinary only where
// the days before differ.
func TestLightJob(t *testing.T) {
	day := began.Unix()
	play := func(counts ...int) (told []int, s lightState) {
		for d, n := range counts {
			at := day + int64(d)*86400
			s.note(at, false)
			for range n {
				if s.note(at, true) {
					told = append(told, d)
				}
			}
		}
		return told, s
	}
	if told, s := play(1, 1, 1, 1, 1, 1, 3); len(told) != 0 || s.deviation() != 0 {
		t.Errorf("days that are all alike have no deviation, but %v was told", told)
	}
	told, s := play(1, 3, 1, 3, 1, 3, 5, 9) // mean 2, deviation 1.095 after six days; 5 is beyond
	if len(told) != 2 || told[0] != 6 || told[1] != 7 {
		t.Errorf("told were days %v, not 6 and 7, each once", told)
	}
	if s.days() != 7 || math.Abs(s.float(lightMean)-17.0/7) > 1e-12 || s.int(lightToday) != 9 {
		t.Errorf("after seven days: %d days, mean %v, today %d", s.days(), s.float(lightMean), s.int(lightToday))
	}
	hour := began.Hour()
	if got := s.int(lightDelivered + 4*hour); got != 8 {
		t.Errorf("%d deliveries in hour %d, not 8", got, hour)
	}
}

func TestMarks(t *testing.T) {
	e := engagement.Event{ID: "e-0000000250", Subject: "C-00000001", Campaign: "journal"}
	var s lightState
	record := stream.Record{Value: s.append(nil, &e, "deviation")}
	if share, ok := byEvent(1000)(&record); !ok || share != .25 {
		t.Errorf("event 250 of 1000 is at %v, %v", share, ok)
	}
	record.Value = s.append(nil, &e, last)
	if share, ok := byEvent(1000)(&record); !ok || share != 1 {
		t.Errorf("the last is at %v, %v", share, ok)
	}
	record = stream.Record{Partition: 1, Headers: []stream.Header{{Key: "sequence", Value: []byte("00000000000000000049.001")}}}
	if share, ok := bySequence([]int64{1, 100})(&record); !ok || share != .5 {
		t.Errorf("offset 49 of 100 is at %v, %v", share, ok)
	}
	record = stream.Record{Partition: 1, Value: []byte("100 of 100")}
	if share, ok := byCount([]int64{1, 200})(&record); !ok || share != .5 {
		t.Errorf("100 read of 200 that were written is at %v, %v", share, ok)
	}
	for name, m := range map[string]mark{"event": byEvent(10), "sequence": bySequence([]int64{1}), "count": byCount([]int64{1})} {
		if _, ok := m(&stream.Record{Value: []byte("{}")}); ok {
			t.Errorf("%s: a record that says nothing is a mark", name)
		}
	}
}

func TestUsageOfThisProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	before := usage(os.Getpid())
	for x := 0; usage(os.Getpid()).CPU < before.CPU+.05; x++ { // ends, because this is work
	}
	if before.RSS < 1<<20 || before.Peak < before.RSS {
		t.Errorf("memory: %+v", before)
	}
	if u := usage(1 << 30); u != (Usage{}) {
		t.Errorf("a process that does not exist has used %+v", u)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if pid := listener(ln.Addr().String()); pid != os.Getpid() {
		t.Errorf("%d listens at %s, not %d", pid, ln.Addr(), os.Getpid())
	}
	ln.Close()
	if pid := listener(ln.Addr().String()); pid != 0 {
		t.Errorf("%d listens where nobody does", pid)
	}
}

func TestQuantiles(t *testing.T) {
	var ms []float64
	for i := range 1000 {
		ms = append(ms, float64(999-i))
	}
	if q := quantiles(ms); q.Count != 1000 || q.P50 != 500 || q.P99 != 990 || q.P999 != 999 || q.Max != 999 {
		t.Errorf("%+v", q)
	}
	if q := quantiles(nil); q.Count != 0 {
		t.Errorf("%+v", q)
	}
}

// TestRatiosAreOfPairs: a provider is held against the slice beside it, and against the batches of its round; what the kernel's clock cannot tell
// is left out.
func TestRatiosAreOfPairs(t *testing.T) {
	slice := func(each int, requests int64, cpu float64) sample {
		return sample{each: each, requests: requests, seconds: 2, ingest: cpu, cores: 2, all: 3, gen: 1.2, bytes: 400}
	}
	var rounds []map[string]turn
	for i := range 3 {
		slow := float64(i + 1) // the machine, which is another one in each round
		round := map[string]turn{}
		for _, who := range senders {
			round[who.name] = turn{bare: slice(who.each, 1000, .2*slow), provider: slice(who.each, 500, .2*slow)}
		}
		rounds = append(rounds, round)
	}
	short := rounds[0]["resend"]
	short.bare.ingest = 0
	rounds[0]["resend"] = short
	f := figures(rounds, true)
	if len(f.Providers) != len(senders) || len(f.Bare) != 2 || f.Bare[0].Each != 1 || f.Bare[1].Each != together || f.Bare[0].Speed != nil {
		t.Fatalf("%+v", f)
	}
	for _, r := range f.Providers {
		batches := 2.0
		if r.Each == 1 {
			batches = 2 * together
		}
		if *r.Cost != (Spread{2, 2, 2}) || *r.Speed != (Spread{.5, .5, .5}) || math.Abs(r.Batches.Median-batches) > 1e-9 || math.Abs(r.CPU*float64(r.Each)-800) > 1e-9 {
			t.Errorf("%s: cost %v, speed %v, against batches %v, %v us an event", r.Sender, r.Cost, r.Speed, r.Batches, r.CPU)
		}
		if r.Generator != .3 || r.Idle != .25 || r.saturated() {
			t.Errorf("%s: the generator has %v, idle are %v", r.Sender, r.Generator, r.Idle)
		}
	}
	if full := (IngestRow{Generator: .3, Idle: .01}); !full.saturated() {
		t.Error("a full machine is not told")
	}
}

// TestWhatIsSentIsOfItsCustomers: every event is of a customer who has consented, of now, and of a kind that every provider knows.
func TestWhatIsSentIsOfItsCustomers(t *testing.T) {
	k, err := newKeys("http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	rng, now := mathrand.New(mathrand.NewPCG(1, 2)), time.Now()
	kinds := map[engagement.Kind]int{}
	for range 5000 {
		e := draw(rng, 7, now)
		if err := e.Validate(); err != nil || e.Subject < number(0) || e.Subject > number(6) || e.Time.After(now) || now.Sub(e.Time) > 3*time.Minute || (e.Link != "") != (e.Kind == engagement.Click) {
			t.Fatalf("%+v: %v", e, err)
		}
		kinds[e.Kind]++
	}
	for kind, want := range map[engagement.Kind]float64{engagement.Delivered: .6, engagement.Open: .29, engagement.Click: .09, engagement.Bounce: .02} {
		if got := float64(kinds[kind]) / 5000; math.Abs(got-want) > .03 {
			t.Errorf("the share of %v is %.3f, not %.2f", kind, got, want)
		}
	}
	for _, who := range append([]sender{bare(1), bare(together)}, senders...) {
		events := make([]*engagement.Event, who.each)
		for i := range events {
			events[i] = draw(rng, 7, now)
		}
		body, header, err := who.request(k, events, now)
		if err != nil || !json.Valid(body) || header == nil {
			t.Errorf("%s: %s, %v: %v", who.name, body, header, err)
		}
	}
}
