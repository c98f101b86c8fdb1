package stream_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
)

// The simulation: processes work through a small log while a seeded source of misfortune makes operations fail, lose
// their replies, arrive late, kills or freezes processes, has partitions claimed by others, and rolls the store back,
// empties or splits it. Afterwards everything must be as if nothing had happened, or as docs/guarantees.md says. It runs
// in synctest bubbles, so that pauses and time-outs cost nothing.
//
// What is simulated is a plot (simscribe_test.go, simclerk_test.go, timers_sim_test.go), what happens to it a misfortune
// (simfault_test.go); a kind is one of each (simkind_test.go).

const simPartitions = 2

// plot is what is being simulated.
type plot struct {
	run      stream.Run
	services []service
	limits   map[string]int // largest record by topic, where it is small
	records  int
	sameIDs  bool                          // two outputs may have one id: a timer that is set again for the time at which it has fired
	write    func(g *writer, n int)        // appends n more records to the inputs
	settled  func(w *world) bool           // nil, or whether nothing is left to wait for when everything is read
	check    func(w *world) (wrong string) // what is wrong afterwards
}

// service is one job of a plot.
type service struct {
	name    string
	inputs  []string // declared names of everything that is read
	outputs []string
	extends func(before, now []byte) bool // whether a state can have become another; nil: it is not asked
	process func(ctx context.Context, rt stream.Runtime, version int) error
}

// world is one schedule.
type world struct {
	plot
	t      *testing.T
	m      misfortune
	log    *streamtest.Log
	store  *streamtest.Store
	seed   uint64
	counts counts

	budget      atomic.Int64
	over        atomic.Bool  // from here on nothing more happens
	outstanding atomic.Int64 // what has begun to happen and is not over

	rng      *rand.Rand   // of play alone
	era      atomic.Int64 // names the primary store: every split begins another
	mu       sync.Mutex
	fate     dice
	operated int // operations of the store, until it is remembered and until the crisis
	remember int
	strike   int
	crises   int // still to come
	restore  []func()
	procs    []*proc
	former   []*proc // that were replaced, and may not have come to their end
	noted    string  // the first violation seen on the way

	written map[string][][]stream.Record // what went into each topic and partition, which truncation takes from the log
	kept    map[string][]int64           // first offset that truncation left
	reach   map[string][]int64           // of the scribe's inputs: below it, what was committed may have been lost in a crisis
	current map[string][]int64           // the same, as it will be at the next crisis
	floor   map[string][]int64           // group offset at the first crisis: what was acknowledged before it
}

func newWorld(t *testing.T, seed uint64, k kind) *world {
	w := &world{
		plot: k.plot(), t: t, m: k.misfortune, log: streamtest.NewLog(), store: streamtest.NewStore(), seed: seed, rng: rand.New(rand.NewPCG(seed, 7)),
		written: map[string][][]stream.Record{}, kept: map[string][]int64{}, floor: map[string][]int64{}, reach: map[string][]int64{}, current: map[string][]int64{},
	}
	w.budget.Store(int64(w.m.budget))
	w.fate.state.Store(seed)
	if w.m.crisis != "" {
		w.crises = max(1, w.m.crises)
		w.schedule()
	}
	for _, s := range w.services {
		for _, topic := range s.outputs {
			w.create(topic)
		}
		for _, topic := range s.inputs {
			w.create(topic)
			w.create(topic + ".dlq")
		}
	}
	return w
}

func (w *world) create(topic string) {
	if w.written[topic] != nil {
		return
	}
	limit := 1 << 20
	if n := w.limits[topic]; n > 0 {
		limit = n
	}
	w.log.Create(w.run.Topic(topic), stream.TopicInfo{Partitions: simPartitions, MaxMessageBytes: limit})
	w.written[topic] = make([][]stream.Record, simPartitions)
	for _, offsets := range []map[string][]int64{w.kept, w.floor, w.reach, w.current} {
		offsets[topic] = make([]int64, simPartitions)
	}
}

// writer appends the records of a plot.
type writer struct {
	*world
	rng *rand.Rand
	n   int
	at  time.Time
}

func (g *writer) append(topic string, p int32, m stream.Message) {
	at := g.log.Append(g.run.Topic(topic), p, m)
	g.written[topic][p] = append(g.written[topic][p], stream.Record{Topic: topic, Partition: p, Offset: at, Key: m.Key, Value: m.Value, Headers: m.Headers, Time: m.Time})
}

// simulate returns what is wrong after the schedule of a seed, and what happened in it.
func simulate(t *testing.T, seed uint64, k kind) (wrong string, happened *counts) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, k)
		wrong, happened = w.play(), &w.counts
	})
	return wrong, happened
}

func (w *world) roll(n int) int { return w.rng.IntN(n) }

func (w *world) note(problem string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.noted == "" {
		w.noted = problem
	}
}

// play is the schedule: what happens beside what befalls single operations.
func (w *world) play() string {
	g := &writer{world: w, rng: rand.New(rand.NewPCG(w.rng.Uint64(), 9)), at: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	if !w.m.live {
		w.write(g, w.records)
	}
	for s := range w.services {
		w.start(s)
		if w.roll(2) == 0 || w.m.storm {
			w.start(s)
		}
	}
	restart := 15
	if w.m.storm {
		restart = 4
	}
	for turn := range 40 {
		time.Sleep(time.Duration(w.roll(400)) * time.Millisecond)
		if w.m.live && g.n < w.records {
			w.write(g, 1+w.roll(4))
		}
		for _, p := range slices.Clone(w.procs) { // replace the dead; now and then stop one in order
			if p.dead.Load() || w.roll(restart) == 0 && turn < 30 {
				w.replace(p, w.roll(2) == 0)
			}
		}
		if turn > 5 && g.n >= w.records && w.drained() && w.roll(3) == 0 {
			break
		}
	}
	w.write(g, max(0, w.records-g.n))
	w.over.Store(true)
	deadline := time.Now().Add(10 * time.Minute)
	for quiet := 0; quiet < 3; time.Sleep(500 * time.Millisecond) { // longer than owners go without asking the store
		quiet++
		if w.outstanding.Load() > 0 || !w.drained() {
			quiet = 0
		}
		for _, p := range slices.Clone(w.procs) {
			if p.dead.Load() {
				w.replace(p, false)
				quiet = 0
			}
		}
		if time.Now().After(deadline) {
			w.stop()
			return "not drained: " + w.positions()
		}
	}
	w.stop()
	if w.noted != "" {
		return w.noted
	}
	return w.check(w)
}

// replace stops a process and starts one of the same service, after the end of the first if wait.
func (w *world) replace(p *proc, wait bool) {
	p.cancel()
	if wait {
		<-p.done
	}
	w.mu.Lock()
	w.procs = slices.DeleteFunc(w.procs, func(x *proc) bool { return x == p })
	w.former = append(w.former, p)
	w.mu.Unlock()
	w.start(p.service)
}

func (w *world) stop() {
	for _, p := range w.procs {
		p.cancel()
	}
	for _, p := range append(w.procs, w.former...) {
		<-p.done
	}
}

// group names the state of a service in the primary store of an era.
func (w *world) group(service string, era int64) string { return inEra(w.run.Group(service), era) }

func inEra(group string, era int64) string {
	if era > 0 {
		return fmt.Sprintf("%s@%d", group, era)
	}
	return group
}

// state reads what is stored of a service's partition.
func (w *world) state(service string, p int32) (map[string]string, stream.Snapshot, error) {
	states := map[string]string{}
	s, err := w.store.Read(w.t.Context(), w.group(service, w.era.Load()), p, nil)
	if err == nil {
		err = w.store.Scan(w.t.Context(), w.group(service, w.era.Load()), p, func(k string, v []byte) bool {
			states[k] = string(v)
			return true
		})
	}
	return states, s, err
}

// drained says whether every partition has one owner, everything is read, and what was published for it acknowledged.
func (w *world) drained() bool {
	for i, s := range w.services {
		owned := int32(0)
		for _, p := range w.procs {
			if p.service == i {
				owned += p.owned.Load()
			}
		}
		if owned != simPartitions {
			return false
		}
		for p := range int32(simPartitions) {
			at, _ := w.store.Read(w.t.Context(), w.group(s.name, w.era.Load()), p, nil)
			for _, topic := range s.inputs {
				_, end, _ := w.log.Bounds(w.t.Context(), w.run.Topic(topic), p)
				if o, stored := at.Positions[topic]; !stored || o != end {
					return false
				}
				hint, ok := w.log.Offsets(w.run.Group(s.name), w.run.Topic(topic))[p]
				if !ok || hint < end {
					return false
				}
			}
		}
	}
	return w.settled == nil || w.settled(w)
}

func (w *world) positions() string {
	var b strings.Builder
	for _, s := range w.services {
		for p := range int32(simPartitions) {
			at, _ := w.store.Read(w.t.Context(), w.group(s.name, w.era.Load()), p, nil)
			fmt.Fprintf(&b, "%s %d: %v", s.name, p, at.Positions)
			for _, topic := range s.inputs {
				_, end, _ := w.log.Bounds(w.t.Context(), w.run.Topic(topic), p)
				fmt.Fprintf(&b, " %s %v of %d", topic, w.log.Offsets(w.run.Group(s.name), w.run.Topic(topic))[p], end)
			}
			b.WriteString("; ")
		}
	}
	return b.String()
}

// tidy says what is wrong with what is stored beside the states, after a shutdown in order.
func (w *world) tidy() string {
	if w.m.sabotage != "" { // it must show in what matters
		return ""
	}
	for _, s := range w.services {
		for p := range int32(simPartitions) {
			m, _ := w.store.Read(w.t.Context(), w.group(s.name, w.era.Load()), p, nil)
			switch {
			case len(m.Outbox) > 0:
				return fmt.Sprintf("%s %d: a clean shutdown left an outbox", s.name, p)
			case len(m.Rebuilding) > 0:
				return fmt.Sprintf("%s %d: still rebuilding %s", s.name, p, m.Rebuilding)
			}
			for _, topic := range s.inputs {
				hint := w.log.Offsets(w.run.Group(s.name), w.run.Topic(topic))[p]
				if hint != m.Positions[topic] {
					return fmt.Sprintf("%s %d: hint of %s is %d, position %d", s.name, p, topic, hint, m.Positions[topic])
				}
			}
		}
	}
	return ""
}

// heard is one output as a consumer accepts it.
type heard struct {
	partition                     int32
	key, id, source, offset, text string
}

// listen reads a topic as a consumer does that drops what is not above the highest position of its source in that
// partition. No id may be accepted twice. No two copies of an output may differ, for nothing is published that was not
// committed; but for those of a crisis, above what was acknowledged before it. An owner whose right a rollback has restored
// after he was fenced does not know what was acknowledged, and may publish it again.
func (w *world) listen(topic string) (all []heard, wrong string) {
	ids := map[string]string{}
	for p := range int32(simPartitions) {
		highest, copies := map[string]string{}, map[string]string{}
		for _, r := range w.log.Records(w.run.Topic(topic), p) {
			w.counts.add(outputs, 1)
			e, err := stream.ParseEvent(r.Value)
			if err != nil {
				return nil, err.Error()
			}
			var source, sequence string
			for _, h := range r.Headers {
				switch h.Key {
				case "source":
					source = string(h.Value)
				case "sequence":
					sequence = string(h.Value)
				}
			}
			if source != e.Source || sequence != e.Sequence || e.Subject != string(r.Key) {
				return nil, fmt.Sprintf("headers and envelope differ: %s %s %s", source, sequence, r.Value)
			}
			if before, ok := copies[source+sequence]; !ok {
				copies[source+sequence] = string(r.Value)
			} else {
				w.counts.add(repeated, 1)
				if before != string(r.Value) && (w.exact() || w.counts[revived].Load() == 0 && w.acknowledged(source, sequence)) {
					return nil, fmt.Sprintf("%s %d: published twice, and not the same:\n%s\n%s", topic, p, before, r.Value)
				}
			}
			if sequence <= highest[source] && w.m.sabotage != notDeduplicated {
				continue
			}
			highest[source] = sequence
			if other, ok := ids[e.ID]; ok && !w.sameIDs {
				return nil, fmt.Sprintf("%s: id %s stands for %s and %s %s", topic, e.ID, other, source, sequence)
			}
			ids[e.ID] = source + " " + sequence
			all = append(all, heard{p, e.Subject, e.ID, source, sequence, strings.Trim(string(e.Data), `"`)})
		}
	}
	return all, ""
}

// acknowledged says whether the group offset had proved before a crisis that an output was published.
func (w *world) acknowledged(source, sequence string) bool {
	topic, p, offset := position(source, sequence)
	return offset < w.floor[topic][p]
}

// position is where the record stands that caused an output.
func position(source, sequence string) (topic string, p int32, offset int64) {
	f := strings.Split(source, "/") // /tempismo/service/run/topic/partition
	fmt.Sscan(f[5], &p)
	fmt.Sscan(strings.TrimLeft(sequence[:19], "0")+sequence[19:20], &offset)
	return f[4], p, offset
}

// ordered says that the order of all records is fixed, and what is made of them.
func (w *world) ordered() bool { return !w.m.live && w.m.versions < 2 }

// exact says that outputs must be those of the committed execution, each once.
func (w *world) exact() bool {
	return w.counts[crises].Load() == 0 || w.ordered() && w.m.crisis != shortened
}
