package bench

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Load describes the events that are measured with.
type Load struct {
	Events    int64              `json:"events" default:"3000000" help:"Events that are preloaded."`
	Customers int                `json:"customers" default:"200000" help:"Customers, whose shares of the mail follow Zipf's law."`
	Skew      float64            `json:"skew" default:"1" help:"Exponent of Zipf's law; 0: all get the same."`
	Mix       map[string]float64 `json:"mix" default:"delivered=60,open=29,click=9,reply=0.4,bounce=1,complaint=0.1,unsubscribe=0.5" mapsep:"," help:"Kinds of events by weight."`
	Machine   float64            `json:"machine" default:"0.1" help:"Share of opens that a machine does. Half of them say so, half are to be found out by their haste."`
	Span      time.Duration      `json:"span_ns" default:"4368h" help:"Event time over which the events are spread."`
	LZ4       bool               `json:"lz4" name:"lz4" help:"Have the producer compress its batches."`
	Seed      uint64             `json:"seed" default:"1" help:"Seed of everything that is drawn."`
}

// Validate names what cannot be.
func (l *Load) Validate() error {
	var errs []error
	if l.Events < 1000 {
		errs = append(errs, errors.New("--events: give at least 1000"))
	}
	if l.Customers < 1 || l.Customers >= sentinels {
		errs = append(errs, fmt.Errorf("--customers: give 1 to %d", sentinels-1))
	}
	for name, weight := range l.Mix {
		if _, ok := engagement.ParseKind(name); !ok || !(weight >= 0) {
			errs = append(errs, fmt.Errorf("--mix: %s=%v: name kinds of events, each with a weight", name, weight))
		}
	}
	if !(l.Mix["delivered"] > 0) {
		errs = append(errs, errors.New("--mix: delivered is missing: everything else answers a message"))
	}
	if l.Span < time.Hour {
		errs = append(errs, errors.New("--span: give at least 1h"))
	}
	return errors.Join(errs...)
}

// began is the event time of the first event: the same in every run, and in the past.
var began = time.Date(2026, 3, 2, 8, 15, 27, 0, time.UTC)

// sentinels is the first number of the customers whose events end a partition.
const sentinels = 90_000_000

// last is the campaign of the event that ends a partition: comparison jobs answer it, so that whoever waits sees the end.
const last = "last"

// Generator makes events in order of their time. What a customer does answers a message: an open comes at the hours that
// this customer keeps, or by chance, now and then several on one day; a click follows its open.
type Generator struct {
	load    Load
	rng     *rand.Rand
	zipf    *zipf
	step    float64 // seconds between two messages
	ratios  [engagement.Unsubscribe + 1]float64
	bounced float64 // share of the messages that are not delivered
	sent    float64 // messages, so far
	n       int64   // events, so far
	pending answers
	event   engagement.Event
	seen    []uint64 // bits of customers
}

// NewGenerator begins a load.
func NewGenerator(l Load) *Generator {
	g := &Generator{load: l, rng: rand.New(rand.NewPCG(l.Seed, 0x7e3779b97f4a7c15)), zipf: newZipf(l.Customers, l.Skew), seen: make([]uint64, l.Customers/64+1)}
	total, messages := 0.0, l.Mix["delivered"]+l.Mix["bounce"]
	for name, weight := range l.Mix {
		kind, _ := engagement.ParseKind(name) // validated
		g.ratios[kind] = weight / l.Mix["delivered"]
		total += weight
	}
	g.bounced = l.Mix["bounce"] / messages
	g.step = l.Span.Seconds() / (float64(l.Events) * messages / total)
	return g
}

// Next is the next event, which is good until the next call.
func (g *Generator) Next() *engagement.Event {
	at := began.Unix() + int64(g.sent*g.step)
	if len(g.pending) > 0 && g.pending[0].at <= at {
		a := heap.Pop(&g.pending).(answer)
		g.make(a)
		return &g.event
	}
	g.sent++
	a := answer{at: at, customer: uint32(g.zipf.next(g.rng)), message: g.n, kind: engagement.Delivered}
	if g.rng.Float64() < g.bounced {
		a.kind = engagement.Bounce
	} else {
		g.answer(a)
	}
	g.make(a)
	return &g.event
}

// answer schedules what a delivery brings about.
func (g *Generator) answer(a answer) {
	opened := g.opening(a)
	for kind := engagement.Open; kind <= engagement.Unsubscribe; kind++ {
		if kind == engagement.Bounce {
			continue
		}
		for n := g.times(g.ratios[kind]); n > 0; n-- {
			r := answer{at: opened, customer: a.customer, message: a.message, kind: kind}
			switch {
			case kind == engagement.Open && g.rng.Float64() < g.load.Machine:
				r.at = a.at + int64(g.rng.IntN(30))
				r.machine = g.rng.IntN(2) == 0
			case kind != engagement.Open:
				r.at += int64(2 + g.rng.IntN(300))
			}
			heap.Push(&g.pending, r)
			if kind == engagement.Open && g.rng.IntN(100) == 0 { // unusually attentive: again, in other hours of the day
				for again := range int64(2 + g.rng.IntN(3)) {
					heap.Push(&g.pending, answer{at: opened + (again+1)*3600, customer: a.customer, message: a.message, kind: kind})
				}
			}
		}
	}
}

// opening is when the message is read, if it is: at the customer's hour in two of three cases.
func (g *Generator) opening(a answer) int64 {
	const day = 24 * 3600
	if g.rng.IntN(3) == 0 {
		return a.at + 120 + int64(g.rng.ExpFloat64()*3*3600)
	}
	hour := int64(mix(uint64(a.customer)^g.load.Seed<<32) % day)
	read := a.at - a.at%day + hour + int64(g.rng.NormFloat64()*2700)
	for read < a.at+120 {
		read += day
	}
	return read
}

// times draws how often something happens that happens so often on average.
func (g *Generator) times(mean float64) int {
	n := int(mean)
	if g.rng.Float64() < mean-float64(n) {
		n++
	}
	return n
}

var (
	agents = [...]string{
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
	}
	campaigns = [...]string{"weekly-edit", "winter-preview", "new-arrivals", "back-in-stock", "care-and-repair", "members-day", "price-drop", "journal"}
)

// make fills the event.
func (g *Generator) make(a answer) {
	draw := mix(uint64(a.message) ^ g.load.Seed)
	e := &g.event
	*e = engagement.Event{
		ID: name("e-", g.n, 10), Source: "/ingest/sendgrid", Subject: customer(int64(a.customer)), Time: time.Unix(a.at, 0).UTC(),
		Kind: a.kind, Channel: "email", Message: name("m-", a.message, 10), Campaign: campaigns[draw%uint64(len(campaigns))], Provider: "sendgrid",
	}
	if a.customer%4 == 3 && draw>>16%4 == 0 { // a quarter has a second channel, for a quarter of their messages
		e.Channel = "push"
	}
	if a.kind == engagement.Open || a.kind == engagement.Click {
		e.UserAgent = agents[a.customer%uint32(len(agents))]
	}
	if a.kind == engagement.Click {
		e.Link = "https://shop.example/p/" + name("", int64(draw>>40), 8)
	}
	if a.machine {
		e.Actor, e.ActorRule = engagement.Machine, engagement.RuleProvider
	}
	g.n++
	g.seen[a.customer/64] |= 1 << (a.customer % 64)
}

// Seen is the number of customers who had an event.
func (g *Generator) Seen() int64 {
	var n int64
	for _, w := range g.seen {
		for ; w != 0; w &= w - 1 {
			n++
		}
	}
	return n
}

// answer is an event to come.
type answer struct {
	at       int64 // Unix seconds
	message  int64
	customer uint32
	kind     engagement.Kind
	machine  bool
}

type answers []answer

func (a answers) Len() int           { return len(a) }
func (a answers) Less(i, j int) bool { return a[i].at < a[j].at }
func (a answers) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *answers) Push(x any)        { *a = append(*a, x.(answer)) }
func (a *answers) Pop() any {
	old := *a
	x := old[len(old)-1]
	*a = old[:len(old)-1]
	return x
}

func customer(n int64) string { return name("C-", n, 8) }

// name is a prefix and a number of so many digits.
func name(prefix string, n int64, digits int) string {
	b := make([]byte, len(prefix)+digits)
	copy(b, prefix)
	for i := len(b) - 1; i >= len(prefix); i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return string(b)
}

// mix spreads bits (the finaliser of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// zipf draws k with a probability proportional to 1/(1+k)^s, by Walker's alias method; math/rand's asks for s > 1.
type zipf struct {
	keep  []float64
	alias []uint32
}

func newZipf(n int, s float64) *zipf {
	w, sum := make([]float64, n), 0.0
	for k := range w {
		w[k] = math.Pow(float64(1+k), -s)
		sum += w[k]
	}
	z := &zipf{keep: w, alias: make([]uint32, n)}
	var small, large []uint32
	for k := range w {
		w[k] *= float64(n) / sum
		z.alias[k] = uint32(k)
		if w[k] < 1 {
			small = append(small, uint32(k))
		} else {
			large = append(large, uint32(k))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		z.alias[s] = l
		w[l] -= 1 - w[s]
		if w[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	return z
}

func (z *zipf) next(rng *rand.Rand) int {
	k := rng.IntN(len(z.keep))
	if rng.Float64() < z.keep[k] {
		return k
	}
	return int(z.alias[k])
}

// Preloaded is what lies in the log.
type Preloaded struct {
	Events    int64   // without those that end the partitions
	Bytes     int64   // of keys and values
	Customers int64   // that had an event
	Sizes     []int64 // records by partition, the one at its end included
}

// records is everything in the log.
func (p *Preloaded) records() int64 { return p.Events + int64(len(p.Sizes)) }

// preload writes the events, and one more into each partition, a day or two after the others, which ends it.
func (s *System) preload(ctx context.Context, g *Generator) (*Preloaded, error) {
	began := time.Now()
	w, err := s.newLoader(g.load.LZ4, 5*time.Millisecond)
	if err != nil {
		return nil, err
	}
	defer w.client.Close()
	p := &Preloaded{Sizes: make([]int64, s.Partitions)}
	chunks := make(chan []*kgo.Record, 16) // making and producing on two goroutines, in one order
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		defer close(chunks)
		chunk := make([]*kgo.Record, 0, 1024)
		put := func(r *kgo.Record) bool {
			if chunk = append(chunk, r); len(chunk) < cap(chunk) {
				return true
			}
			select {
			case chunks <- chunk:
				chunk = make([]*kgo.Record, 0, 1024)
				return true
			case <-stop:
				return false
			}
		}
		for range g.load.Events {
			if !put(s.record(g.Next())) {
				return
			}
		}
		for _, r := range s.ends(g) {
			if !put(r) {
				return
			}
		}
		select {
		case chunks <- chunk:
		case <-stop:
		}
	}()
	for chunk := range chunks {
		for _, r := range chunk {
			p.Sizes[r.Partition]++
			p.Bytes += int64(len(r.Key) + len(r.Value))
			w.produce(ctx, r)
		}
		if err := w.err(); err != nil {
			return nil, err
		}
	}
	if err := w.flush(ctx); err != nil {
		return nil, err
	}
	for i, n := range p.Sizes {
		if n < 2 {
			return nil, fmt.Errorf("partition %d has got no event but its last: give more customers, or fewer partitions", i)
		}
	}
	p.Events, p.Customers = g.load.Events, g.Seen()
	s.say("preloaded %d events of %d customers in %.1f s, %.0f bytes each", p.Events, p.Customers, time.Since(began).Seconds(), float64(p.Bytes)/float64(p.records()))
	return p, nil
}

// record is an event in the partition of its customer.
func (s *System) record(e *engagement.Event) *kgo.Record {
	b := append(make([]byte, 0, 512), e.Subject...)
	key := b[:len(b):len(b)]
	return &kgo.Record{Key: key, Value: e.Append(b)[len(key):], Partition: stream.Partition(key, s.Partitions)}
}

// ends is one record for each partition.
func (s *System) ends(g *Generator) []*kgo.Record {
	var out []*kgo.Record
	at := began.Add(g.load.Span + 2*digestEvery).Truncate(digestEvery) // a digest of what came before is due
	for p, n := int32(0), int64(sentinels); p < s.Partitions; n++ {
		id := customer(n)
		if stream.Partition([]byte(id), s.Partitions) != p {
			continue
		}
		e := engagement.Event{ID: name("z-", int64(p), 10), Source: "/ingest/sendgrid", Subject: id, Time: at, Kind: engagement.Delivered,
			Channel: "email", Message: name("m-", int64(p), 10), Campaign: last, Provider: "sendgrid"}
		out = append(out, s.record(&e))
		p++
	}
	return out
}

// loader produces to the run's events.
type loader struct {
	client *kgo.Client
	failed atomic.Pointer[error]
}

func (s *System) newLoader(lz4 bool, linger time.Duration) (*loader, error) {
	codec := kgo.NoCompression()
	if lz4 {
		codec = kgo.Lz4Compression()
	}
	c, err := s.client(kgo.DefaultProduceTopic(s.events()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(linger), kgo.ProducerBatchMaxBytes(900_000), kgo.MaxBufferedRecords(400_000))
	if err != nil {
		return nil, err
	}
	return &loader{client: c}, nil
}

func (l *loader) produce(ctx context.Context, r *kgo.Record) {
	l.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
		if err != nil {
			l.failed.CompareAndSwap(nil, &err)
		}
	})
}

func (l *loader) err() error {
	if p := l.failed.Load(); p != nil {
		return fmt.Errorf("preload: %w", *p)
	}
	return nil
}

func (l *loader) flush(ctx context.Context) error {
	if err := l.client.Flush(ctx); err != nil {
		return fmt.Errorf("preload: %w", err)
	}
	return l.err()
}
