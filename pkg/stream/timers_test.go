package stream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
)

// diary is the state of a key of the alarm clock: what happened, and the timers set.
type diary struct {
	Entries []string
	Timers  map[string]time.Time
}

// rulebook is the state of the partition: the rule in force, adopted and not stored.
type rulebook struct{ rule string }

// order is a record for the alarm clock: words as in "set r1 10:05", "unset r1", "look", "nothing", with an event time.
type order struct {
	at    time.Time
	words []string
}

// clockAt reads an hour and minute of the day of the tests.
func clockAt(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", "2026-03-01 "+s)
	if err != nil {
		panic(err)
	}
	return t
}

// says makes a record: "10:00 set r1 10:05".
func says(key, what string) stream.Record {
	return stream.Record{Topic: "orders", Key: []byte(key), Value: []byte(what)}
}

// alarmClock is a job with timers: a timer that fires is entered in the diary with the time; one whose id is "again-N-M" sets
// itself anew N times, M minutes later.
func alarmClock() stream.Job[order, diary, rulebook] {
	return stream.Job[order, diary, rulebook]{
		Service: "clock",
		Inputs:  []stream.Input{{Topic: "orders", Table: true}, {Topic: "other"}, {Topic: "rules", Broadcast: true}},
		Outputs: []string{"rings"},
		Decode: func(r *stream.Record, in *order) (stream.Cause, error) {
			if len(r.Value) == 0 {
				*in = order{words: []string{"forget"}}
				return stream.Cause{}, nil
			}
			words := strings.Fields(string(r.Value))
			at, err := time.Parse("15:04", words[0])
			if err != nil {
				return stream.Cause{}, stream.Permanent(err)
			}
			*in = order{clockAt(at.Format("15:04")), words[1:]}
			return stream.Cause{ID: fmt.Sprintf("%s-%d", r.Value, r.Offset), Time: in.at}, nil
		},
		Step: func(c *stream.Context, s *diary, p *rulebook, in *order) error {
			if s == nil {
				return nil
			}
			s.note(c, p, strings.Join(in.words, " "))
			if s.Timers == nil {
				s.Timers = map[string]time.Time{}
			}
			switch in.words[0] {
			case "set":
				s.Timers[in.words[1]] = clockAt(in.words[2])
			case "now":
				s.Timers[in.words[1]] = c.Now()
			case "unset":
				delete(s.Timers, in.words[1])
			case "forget":
				clear(s.Timers)
			case "look":
				c.Emit(stream.Emission{Topic: "rings", Type: "t", Prefix: "r-", Subject: "k", Data: quoted("saw " + string(c.Lookup()))})
			}
			return nil
		},
		Adopt: func(p *rulebook, _ string, value []byte) error {
			p.rule = strings.TrimPrefix(string(value[5:]), " rule")
			return nil
		},
		Timers: &stream.Timers[diary, rulebook]{
			Topic: "ticks",
			Pending: func(s *diary, each func(string, time.Time)) {
				for id, due := range s.Timers {
					each(id, due)
				}
			},
			Fire: func(c *stream.Context, s *diary, p *rulebook, id string, due time.Time) error {
				if id == "broken" {
					return stream.Permanent(errors.New("the bell is broken"))
				}
				if id == "stuck" {
					return nil
				}
				delete(s.Timers, id)
				if f := strings.Split(id, "-"); f[0] == "again" && f[1] != "0" {
					n, _ := strconv.Atoi(f[1])
					m, _ := strconv.Atoi(f[2])
					s.Timers[fmt.Sprintf("again-%d-%d", n-1, m)] = due.Add(time.Duration(m) * time.Minute)
				}
				s.note(c, p, "fired "+id)
				c.Emit(stream.Emission{Topic: "rings", Type: "t", Prefix: "r-", Subject: "k", Data: quoted(fmt.Sprintf("%s %s at %s due %s", c.Cause().ID, id, c.Now().Format("15:04"), due.Format("15:04")) + string(c.Lookup()))})
				return nil
			},
		},
		State: stream.Codec[diary]{
			Append: func(dst []byte, s *diary) []byte { b, _ := json.Marshal(s); return append(dst, b...) },
			Decode: func(b []byte, s *diary) error { return json.Unmarshal(b, s) },
		},
	}
}

func quoted(s string) []byte { b, _ := json.Marshal(s); return b }

func (s *diary) note(c *stream.Context, p *rulebook, what string) {
	s.Entries = append(s.Entries, c.Now().Format("15:04")+" "+what+p.rule)
}

// rings lists the data of outputs without the cause's id.
func rings(out []streamtest.Output) (all []string) {
	for _, o := range out {
		var s string
		if err := json.Unmarshal(o.Event.Data, &s); err != nil {
			s = o.Failed
		}
		if _, after, ok := strings.Cut(s, " "); ok && strings.HasPrefix(s, "tk-") {
			s = after
		}
		all = append(all, s)
	}
	return all
}

func TestAFoldFiresTimersInOrder(t *testing.T) {
	sim := stream.Run{ID: "s", Simulated: true}
	d := streamtest.NewDriver(t, alarmClock(), sim)
	d.Pipe(says("bob", "10:00 set r2 10:20"))
	d.Pipe(says("ann", "10:00 set r9 10:20"))
	d.Pipe(says("bob", "10:01 set r1 10:20"))
	d.Pipe(says("bob", "10:01 set again-2-3 10:15"))
	d.Pipe(says("ann", "10:01 set a0 10:40"))
	d.Pipe(says("ann", "10:01 set a9 10:19"))
	d.Pipe(says("ann", "10:02 unset a9"))
	d.Pipe(says("ann", "10:02 set a0 10:30"))
	if next, ok := d.Next(); !ok || next != (stream.Timer{Key: "bob", ID: "again-2-3", Due: clockAt("10:15")}) {
		t.Errorf("next %v", next)
	}
	got := rings(d.Advance(clockAt("10:21")))
	want := []string{"again-2-3 at 10:15 due 10:15", "again-1-3 at 10:18 due 10:18", "r9 at 10:20 due 10:20", "r1 at 10:20 due 10:20", "r2 at 10:20 due 10:20", "again-0-3 at 10:21 due 10:21"}
	if !slices.Equal(got, want) {
		t.Errorf("fired\n%q, want\n%q", got, want)
	}
	if got := rings(d.Advance(clockAt("23:00"))); !slices.Equal(got, []string{"a0 at 10:30 due 10:30"}) {
		t.Errorf("later %q", got)
	}
	if _, ok := d.Next(); ok {
		t.Error("a timer is left")
	}
}

func TestATimerNeverFiresEarly(t *testing.T) {
	job := alarmClock()
	due := clockAt("10:20").Add(time.Nanosecond)
	job.Step = func(_ *stream.Context, s *diary, _ *rulebook, in *order) error {
		s.Timers = map[string]time.Time{"a": due, "no timer": {}}
		return nil
	}
	d := streamtest.NewDriver(t, job, stream.Run{ID: "s", Simulated: true})
	d.Pipe(says("ann", "10:00 set"))
	if next, ok := d.Next(); !ok || !next.Due.Equal(clockAt("10:20").Add(time.Millisecond)) {
		t.Errorf("next %v", next)
	}
	if out := d.Advance(due); len(out) != 0 {
		t.Errorf("fired %q", rings(out))
	}
	if out := d.Advance(clockAt("10:21")); len(out) != 1 || !out[0].Event.Time.Equal(clockAt("10:20").Add(time.Millisecond)) {
		t.Errorf("fired %+v", out)
	}
}

func TestATombstoneReachesTheStep(t *testing.T) {
	for _, run := range []stream.Run{{ID: "r"}, {ID: "s", Simulated: true}} {
		d := streamtest.NewDriver(t, alarmClock(), run)
		d.Pipe(stream.Record{Topic: "orders", Key: []byte("ann"), Value: []byte("10:00 set a 10:20"), Time: clockAt("10:01")})
		if out := d.Pipe(stream.Record{Topic: "orders", Key: []byte("ann"), Time: clockAt("10:02")}); len(out) != 0 {
			t.Errorf("%+v", out)
		}
		want := []string{"10:01 set a 10:20", "10:02 forget"}
		if run.Simulated { // the time of writing is not of the run's time
			want = []string{"10:00 set a 10:20", "10:00 forget"}
		}
		if got := d.State("ann").Entries; !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		if _, ok := d.Next(); ok {
			t.Error("the timer is still pending")
		}
		if out := d.Pipe(stream.Record{Topic: "other", Key: []byte("ann")}); len(out) != 1 || out[0].Failed != "value: empty" {
			t.Errorf("a record without value on what is no table: %+v", out)
		}
	}
}

// clockBench is one worker of the alarm clock on a log and a store in memory, inside a synctest bubble. The bubble's clock
// starts at midnight of 2000-01-01, so live times are said relative to it.
type clockBench struct {
	*bench
	clock stream.Job[order, diary, rulebook]
}

func ringing(t *testing.T, run stream.Run, story func(b *clockBench)) {
	t.Helper()
	within(t, func(plain *bench) {
		b := &clockBench{bench: plain, clock: alarmClock()}
		b.rt.Run = run
		for _, topic := range []string{"orders", "other", "rules", "ticks", "orders.dlq", "other.dlq", "rules.dlq", "ticks.dlq", "rings"} {
			b.log.Create(run.Topic(topic), stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
		}
		story(b)
	})
}

func (b *clockBench) start() {
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- stream.Process(ctx, b.clock, b.rt) }()
	b.stop = func() error {
		cancel()
		b.stop = func() error { return nil }
		return <-done
	}
	b.settle()
}

// tell appends an order; at is its event time.
func (b *clockBench) tell(key, what string) {
	b.log.Append(b.rt.Run.Topic("orders"), 0, stream.Message{Key: []byte(key), Value: []byte(what)})
}

func (b *clockBench) rung() (all []string) {
	for _, r := range b.log.Records(b.rt.Run.Topic("rings"), 0) {
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, rings([]streamtest.Output{{Event: e}})...)
	}
	return all
}

func (b *clockBench) diary(key string) (s diary) {
	snap, err := b.store.Read(b.Context(), b.rt.Run.Group("clock"), 0, []string{key})
	if err == nil && len(snap.Values[0]) > 0 {
		err = json.Unmarshal(snap.Values[0], &s)
	}
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func (b *clockBench) ticks() int { return len(b.log.Records(b.rt.Run.Topic("ticks"), 0)) }

func TestATimerOfALiveRunFiresWhenItIsDue(t *testing.T) {
	ringing(t, stream.Run{ID: "r1"}, func(b *clockBench) {
		b.clock.Step = func(c *stream.Context, s *diary, _ *rulebook, in *order) error {
			s.Timers = map[string]time.Time{}
			if in.words[0] == "set" {
				d, err := time.ParseDuration(in.words[2])
				if err != nil {
					return err
				}
				s.Timers[in.words[1]] = c.Now().Add(d)
			}
			return nil
		}
		b.tell("ann", "10:00 set r1 20m")
		b.tell("bob", "10:00 set r1 10m")
		b.start()
		b.sleep(9 * time.Minute)
		b.expect("before", b.rung(), []string(nil))
		b.sleep(time.Minute)
		b.expect("bob's", b.rung(), []string{"r1 at 00:10 due 00:10"})
		b.tell("ann", "10:00 unset r1")
		b.tell("bob", "10:00 set r2 50m")
		b.settle()
		b.expect("stopped", b.stop(), nil)
		b.sleep(2 * time.Hour)
		b.start()
		b.expect("a timer that came due while nobody worked", b.rung(), []string{"r1 at 00:10 due 00:10", "r2 at 02:10 due 01:00"})
		b.expect("ticks", b.ticks(), 2)
		b.expect("fired", b.seen.sum(func(r *stream.Report) int { return r.Fired }), 2)
		b.expect("appended", b.seen.sum(func(r *stream.Report) int { return r.Ticks }), 2)
		b.expect("late", b.seen.sum(func(r *stream.Report) int { return int(r.Late.Minutes()) }), 70)
	})
}

func TestATimerOfASimulatedRunFiresBeforeTheRecordBeyondIt(t *testing.T) {
	ringing(t, stream.Run{ID: "s", Simulated: true}, func(b *clockBench) {
		b.tell("ann", "10:00 set a 10:30")
		b.tell("bob", "10:05 set b 10:20")
		b.tell("ann", "10:10 set again-1-5 10:28")
		b.tell("ann", "10:25 set c 10:26")
		b.tell("ann", "10:31 nothing")
		b.tell("bob", "10:31 now n")
		b.tell("bob", "10:31 set d 11:00")
		b.start()
		want := []string{"b at 10:20 due 10:20", "c at 10:26 due 10:26", "again-1-5 at 10:28 due 10:28", "a at 10:30 due 10:30", "n at 10:31 due 10:31"}
		b.expect("rung", b.rung(), want)
		b.log.Append("sim.s.ticks", 0, stream.ClockTick(b.rt.Run, clockAt("10:59")))
		b.settle()
		want = append(want, "again-0-5 at 10:33 due 10:33")
		b.expect("up to 10:59", b.rung(), want)
		b.log.Append("sim.s.ticks", 0, stream.ClockTick(b.rt.Run, clockAt("11:00")))
		b.settle()
		want = append(want, "d at 11:00 due 11:00")
		b.expect("up to 11:00", b.rung(), want)
		b.expect("bob", b.diary("bob").Entries, []string{"10:05 set b 10:20", "10:20 fired b", "10:31 now n", "10:31 fired n", "10:31 set d 11:00", "11:00 fired d"})
	})
}

// tick makes a tick of the alarm clock's by hand.
func tick(source, key, timer, due, after string) stream.Message {
	e := stream.Event{ID: "x", Source: source, Type: stream.TickType, Subject: key, Time: clockAt(due), Data: fmt.Appendf(nil, `{"timer":%q,"due":%q}`, timer, clockAt(due).Format(time.RFC3339))}
	m := stream.Message{Key: []byte(key), Value: e.Append(nil), Headers: []stream.Header{{Key: "source", Value: []byte(source)}}}
	if after != "" {
		m.Headers = append(m.Headers, stream.Header{Key: "after", Value: []byte(after)})
	}
	return m
}

func TestOnlyTheTickOfThePendingTimerFiresIt(t *testing.T) {
	const ours = "/tempismo/clock/r1/ticks/0"
	for _, c := range []struct {
		name  string
		tick  stream.Message
		times int
		fires bool
		stale int
		why   string // of a dead letter
	}{
		{"ours", tick(ours, "ann", "a", "10:20", ""), 1, true, 0, ""},
		{"ours, appended twice", tick(ours, "ann", "a", "10:20", ""), 2, true, 1, ""},
		{"of another run", tick("/tempismo/clock/r0/ticks/0", "ann", "a", "10:20", ""), 1, false, 1, ""},
		{"of another service", tick("/tempismo/other/r1/ticks/0", "ann", "a", "10:20", ""), 1, false, 1, ""},
		{"of another partition", tick("/tempismo/clock/r1/ticks/1", "ann", "a", "10:20", ""), 1, false, 1, ""},
		{"of the time before it was set anew", tick(ours, "ann", "a", "10:10", ""), 1, false, 1, ""},
		{"of a timer that is not pending", tick(ours, "ann", "b", "10:20", ""), 1, false, 1, ""},
		{"of a key that is not known", tick(ours, "bob", "a", "10:20", ""), 1, false, 1, ""},
		{"without key", tick(ours, "", "a", "10:20", ""), 1, false, 0, "key: empty"},
		{"a clock tick in a live run", stream.ClockTick(stream.Run{ID: "r1"}, clockAt("23:00")), 1, false, 0, "key: empty"},
		{"no envelope", stream.Message{Key: []byte("ann"), Value: []byte("?")}, 1, false, 0, "cloudevent: invalid character '?' looking for beginning of value"},
		{"of another type", stream.Message{Key: []byte("ann"), Value: []byte(`{"specversion":"1.0","id":"x","source":"s","type":"t","data":{}}`)}, 1, false, 0, `type: "t" is not io.tempismo.tick.v1`},
		{"without a due time", stream.Message{Key: []byte("ann"), Value: []byte(`{"specversion":"1.0","id":"x","source":"s","type":"io.tempismo.tick.v1","data":{"timer":"a"}}`)}, 1, false, 0, "data.due: missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ringing(t, stream.Run{ID: "r1"}, func(b *clockBench) {
				b.rt.Store = deafStore{b.store} // the worker appends none
				b.tell("ann", "10:00 set a 10:10")
				b.tell("ann", "10:00 set a 10:20")
				b.start()
				for range c.times {
					b.log.Append("ticks", 0, c.tick)
				}
				b.settle()
				want := []string(nil)
				if c.fires {
					want = []string{"a at 10:20 due 10:20"}
				}
				b.expect("rung", b.rung(), want)
				b.expect("stale", b.seen.sum(func(r *stream.Report) int { return r.Stale }), c.stale)
				failed := ""
				for _, r := range b.log.Records("ticks.dlq", 0) {
					for _, h := range r.Headers {
						if h.Key == "__connect.errors.exception.message" {
							failed = string(h.Value)
						}
					}
				}
				b.expect("dead letter", failed, c.why)
			})
		})
	}
}

// deafStore shows its owner no timers.
type deafStore struct{ *streamtest.Store }

func (s deafStore) Claim(ctx context.Context, group string, partition int32) (stream.Lease, error) {
	l, err := s.Store.Claim(ctx, group, partition)
	return deafLease{l}, err
}

type deafLease struct{ stream.Lease }

func (deafLease) Due(context.Context, time.Time, int) (due []stream.Timer, next time.Time, err error) {
	return nil, next, nil
}

func TestATickWaitsForThePositionsAtWhichItWasMade(t *testing.T) {
	ringing(t, stream.Run{ID: "r1"}, func(b *clockBench) {
		b.rt.Store = deafStore{b.store}
		b.tell("ann", "10:00 set a 10:20")
		b.log.Append("ticks", 0, tick("/tempismo/clock/r1/ticks/0", "ann", "a", "10:20", "former=7 orders=2 other=1"))
		b.start()
		b.expect("at the start", b.rung(), []string(nil))
		b.tell("ann", "10:00 nothing")
		b.settle()
		b.expect("when one of two is reached", b.rung(), []string(nil))
		b.log.Append("other", 0, stream.Message{Key: []byte("bob"), Value: []byte("10:00 nothing")})
		b.settle()
		b.expect("when both are", b.rung(), []string{"a at 10:20 due 10:20"})
		b.expect("nobody else was held up", b.diary("ann").Entries, []string{"00:00 set a 10:20", "00:00 nothing", "10:20 fired a"})
		b.log.Append("ticks", 0, tick("/tempismo/clock/r1/ticks/0", "ann", "b", "10:30", "orders=4"))
		b.tell("ann", "10:00 set b 10:30")
		b.settle()
		b.expect("the next waits for its own", len(b.rung()), 1)
		b.tell("ann", "10:00 nothing")
		b.settle()
		b.expect("until they are reached", b.rung(), []string{"a at 10:20 due 10:20", "b at 10:30 due 10:30"})
	})
}

func TestTicksOfOthersDoNotWait(t *testing.T) {
	ringing(t, stream.Run{ID: "r1"}, func(b *clockBench) {
		b.rt.Store = deafStore{b.store}
		b.log.Append("ticks", 0, tick("/tempismo/clock/r0/ticks/0", "ann", "a", "10:20", "orders=1000"))
		b.tell("ann", "10:00 set a 10:20")
		b.start()
		b.log.Append("ticks", 0, tick("/tempismo/clock/r1/ticks/0", "ann", "a", "10:20", "orders=1"))
		b.settle()
		b.expect("rung", b.rung(), []string{"a at 10:20 due 10:20"})
	})
}

func TestATimerThatIsSetAnewGetsOneTick(t *testing.T) {
	ringing(t, stream.Run{ID: "s", Simulated: true}, func(b *clockBench) {
		for _, what := range []string{"set a 10:30", "set a 10:20", "set a 10:30", "unset b", "set c 10:05", "unset c"} {
			b.tell("ann", "10:00 "+what)
		}
		b.tell("ann", "11:00 nothing")
		b.start()
		b.expect("rung", b.rung(), []string{"a at 10:30 due 10:30"})
		b.expect("ticks", b.ticks(), 1)
	})
}

func TestACommitCarriesTheTimersThatChanged(t *testing.T) {
	ringing(t, stream.Run{ID: "r1"}, func(b *clockBench) {
		var committed [][]stream.Timer
		b.rt.Store = committedStore{b.store, &committed}
		b.start()
		b.tell("ann", "10:00 set a 10:30")
		b.tell("ann", "10:00 set b 10:31")
		b.settle()
		b.tell("ann", "10:00 nothing")
		b.settle()
		b.tell("ann", "10:00 set a 10:32")
		b.settle()
		b.tell("ann", "10:00 unset a")
		b.settle()
		b.expect("timers", committed[len(committed)-4:], [][]stream.Timer{
			{{Key: "ann", ID: "a", Due: clockAt("10:30")}, {Key: "ann", ID: "b", Due: clockAt("10:31")}},
			{},
			{{Key: "ann", ID: "a", Due: clockAt("10:32")}},
			{{Key: "ann", ID: "a"}},
		})
	})
}

// committedStore notes the timers of every commit.
type committedStore struct {
	*streamtest.Store
	timers *[][]stream.Timer
}

func (s committedStore) Claim(ctx context.Context, group string, partition int32) (stream.Lease, error) {
	l, err := s.Store.Claim(ctx, group, partition)
	return committedLease{l, s.timers}, err
}

type committedLease struct {
	stream.Lease
	timers *[][]stream.Timer
}

func (l committedLease) Commit(ctx context.Context, c *stream.Commit) error {
	*l.timers = append(*l.timers, slices.Clone(c.Timers))
	return l.Lease.Commit(ctx, c)
}

func TestAnIndexThatWentAstrayIsPutRight(t *testing.T) {
	for _, run := range []stream.Run{{ID: "r1"}, {ID: "s", Simulated: true}} {
		ringing(t, run, func(b *clockBench) {
			b.tell("ann", "00:00 set a 23:00")
			b.start()
			b.expect("stopped", b.stop(), nil)
			snap, err := b.store.Read(b.Context(), run.Group("clock"), 0, nil)
			if err != nil {
				b.Fatal(err)
			}
			lease, err := b.store.Claim(b.Context(), run.Group("clock"), 0)
			if err != nil {
				b.Fatal(err)
			}
			past := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
			c := stream.Commit{Base: snap.Positions, Next: snap.Positions, Partition: snap.Partition, Partitions: 1,
				Timers: []stream.Timer{{Key: "ann", ID: "a", Due: past}, {Key: "ann", ID: "ghost", Due: past}, {Key: "nobody", ID: "ghost", Due: past}}}
			if err := lease.Commit(b.Context(), &c); err != nil {
				b.Fatal(err)
			}
			b.start()
			b.expect("ticks in vain", b.ticks(), 3)
			b.expect("index", fmt.Sprint(b.store.Timers(run.Group("clock"), 0)), fmt.Sprint([]stream.Timer{{Key: "ann", ID: "a", Due: clockAt("23:00")}}))
			b.expect("rung", b.rung(), []string(nil))
		})
	}
}

func TestNoTicksAreAppendedWhileALostStateIsRebuilt(t *testing.T) {
	ringing(t, stream.Run{ID: "r1"}, func(b *clockBench) {
		const soon = 10 * time.Minute
		b.rt.BatchRecords = 1
		b.clock.Step = func(c *stream.Context, s *diary, _ *rulebook, in *order) error {
			s.Timers = map[string]time.Time{in.words[1]: c.Now().Add(soon)}
			return nil
		}
		b.tell("ann", "10:00 set a")
		b.start()
		b.sleep(soon)
		b.tell("ann", "10:00 set b")
		b.sleep(soon)
		b.tell("ann", "10:00 set c")
		b.settle()
		b.expect("stopped", b.stop(), nil)
		b.sleep(soon)
		b.store.Lose("tempismo.r1.clock", 0)
		b.start()
		b.expect("rung once each", b.rung(), []string{"a at 00:10 due 00:10", "b at 00:20 due 00:20", "c at 00:30 due 00:30"})
		b.expect("ticks", b.ticks(), 3)
	})
}

func TestARebuiltSimulatedRunTakesTheTicksThatItHasMade(t *testing.T) {
	ringing(t, stream.Run{ID: "s", Simulated: true}, func(b *clockBench) {
		b.rt.BatchRecords = 1
		for i := range 20 {
			b.tell("ann", fmt.Sprintf("10:%02d set t%d 10:%02d", i, i%3, i+2))
		}
		b.start()
		rung, ticks := b.rung(), b.ticks()
		b.expect("stopped", b.stop(), nil)
		b.store.Lose("sim.s.clock", 0)
		b.start()
		b.expect("rung", b.rung(), rung)
		b.expect("ticks", b.ticks(), ticks)
	})
}

// heldLog gives nothing of a topic until it may.
type heldLog struct {
	*streamtest.Log
	topic string
	may   chan struct{}
}

func (l heldLog) Open(ctx context.Context, topic string, partition int32, offset int64) (stream.Cursor, error) {
	if topic == l.topic {
		select {
		case <-l.may:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c, err := l.Log.Open(ctx, topic, partition, offset)
	if topic == l.topic {
		c = &lateCursor{Cursor: c, end: offset}
	}
	return c, err
}

// lateCursor answers first what was true when nothing had come yet.
type lateCursor struct {
	stream.Cursor
	end     int64
	fetches int
}

func (c *lateCursor) Fetch(ctx context.Context, maxBytes int, wait time.Duration) ([]stream.Record, error) {
	switch c.fetches++; c.fetches {
	case 1:
		return nil, nil
	case 2:
		time.Sleep(100 * time.Millisecond)
	}
	return c.Cursor.Fetch(ctx, maxBytes, wait)
}

func (c *lateCursor) End() int64 {
	if c.fetches == 1 {
		return c.end
	}
	return c.Cursor.End()
}

func TestATimerThatDoesNotGoAwayIsAMistakeOfTheProgram(t *testing.T) {
	for _, c := range []struct{ timer, why string }{
		{"broken", "fire: the bell is broken"},
		{"stuck", `timer "stuck" is still pending with the due time 2026-03-01T10:10:00Z at which it fired`},
	} {
		ringing(t, stream.Run{ID: "s", Simulated: true}, func(b *clockBench) {
			b.tell("ann", "10:00 set "+c.timer+" 10:10")
			b.tell("ann", "10:20 nothing")
			var log bytes.Buffer
			b.rt.Logger = slog.New(slog.NewTextHandler(&log, nil))
			b.start()
			b.expect("alarm", b.seen.now().standing, []string{"step"})
			b.expect("stopped", b.stop(), nil)
			if !strings.Contains(strings.ReplaceAll(log.String(), `\`, ""), c.why) {
				t.Error(log.String())
			}
			b.expect("state", b.diary("ann").Entries, []string{"10:00 set " + c.timer + " 10:10"})
			b.expect("ticks", b.ticks(), 1)
		})
	}
}

func TestATickOfAnotherHistoryDoesNotBlockASimulatedRun(t *testing.T) {
	ringing(t, stream.Run{ID: "s", Simulated: true}, func(b *clockBench) {
		b.tell("ann", "10:00 set a 10:10")
		b.tell("ann", "10:00 set b 10:30")
		b.tell("ann", "10:20 nothing")
		// It was made when all three had been taken, and stands before the tick without which the third cannot be.
		b.log.Append("sim.s.ticks", 0, tick("/tempismo/clock/s/ticks/0", "ann", "b", "10:30", "orders=3"))
		b.tell("ann", "10:40 nothing")
		b.start()
		b.expect("rung", b.rung(), []string{"a at 10:10 due 10:10", "b at 10:30 due 10:30"})
		b.expect("entries", b.diary("ann").Entries, []string{"10:00 set a 10:10", "10:00 set b 10:30", "10:10 fired a", "10:20 nothing", "10:30 fired b", "10:40 nothing"})
		b.expect("ticks: of another history, of a, of b", b.ticks(), 3)
	})
}

func TestWhereABatchOfTicksEndsDoesNotShow(t *testing.T) {
	for _, batch := range []int{1, 100} {
		ringing(t, stream.Run{ID: "s", Simulated: true}, func(b *clockBench) {
			b.rt.BatchRecords = batch
			b.tell("ann", "10:00 set a 10:10")
			b.tell("ann", "10:12 set a 10:10")
			b.tell("ann", "10:20 nothing")
			for range 2 { // the first one's acknowledgement was lost
				b.log.Append("sim.s.ticks", 0, tick("/tempismo/clock/s/ticks/0", "ann", "a", "10:10", "orders=1"))
			}
			b.start()
			b.expect("rung", b.rung(), []string{"a at 10:10 due 10:10", "a at 10:12 due 10:10"})
			b.expect("ticks", b.ticks(), 2)
		})
	}
}

func TestALimitIsThatOfOneRecord(t *testing.T) {
	for _, batch := range []int{1, 100} {
		ringing(t, stream.Run{ID: "s", Simulated: true}, func(b *clockBench) {
			b.rt.BatchRecords = batch
			second := func(n int) time.Time { return time.Now().Add(time.Duration(n) * time.Second) }
			clock := stream.ClockTick(b.rt.Run, clockAt("10:30"))
			clock.Time = second(0)
			b.log.Append("sim.s.ticks", 0, clock)
			b.log.Append("sim.s.orders", 0, stream.Message{Key: []byte("ann"), Value: []byte("10:00 set a 10:25"), Time: second(1)})
			b.log.Append("sim.s.orders", 0, stream.Message{Key: []byte("ann"), Value: []byte("10:06 nothing"), Time: second(2)})
			b.log.Append("sim.s.rules", 0, stream.Message{Value: []byte("10:30 rule at 10:30"), Time: second(3)}) // a fires before it
			b.log.Append("sim.s.orders", 0, stream.Message{Key: []byte("ann"), Value: []byte("10:10 set b 10:28"), Time: second(4)})
			b.log.Append("sim.s.orders", 0, stream.Message{Key: []byte("ann"), Value: []byte("10:15 nothing"), Time: second(5)})
			b.log.Append("sim.s.orders", 0, stream.Message{Key: []byte("ann"), Value: []byte("10:40 nothing"), Time: second(6)})
			b.start()
			b.expect("entries", b.diary("ann").Entries, []string{"10:00 set a 10:25", "10:06 nothing", "10:25 fired a", "10:25 set b 10:28 at 10:30", "10:25 nothing at 10:30", "10:28 fired b at 10:30", "10:40 nothing at 10:30"})
		})
	}
}

func TestNothingPublishedBeforeAClockTickIsOverlooked(t *testing.T) {
	ringing(t, stream.Run{ID: "s", Simulated: true}, func(b *clockBench) {
		b.tell("ann", "10:00 set a 10:10")
		b.start()
		hold := make(chan struct{})
		b.expect("stopped", b.stop(), nil)
		b.rt.Log = heldLog{b.log, "sim.s.orders", hold}
		b.start() // reads the clock tick at once, but the order before it late
		b.tell("ann", "10:05 unset a")
		b.log.Append("sim.s.ticks", 0, stream.ClockTick(b.rt.Run, clockAt("11:00")))
		b.settle()
		close(hold)
		b.settle()
		b.expect("rung", b.rung(), []string(nil))
		b.expect("entries", b.diary("ann").Entries, []string{"10:00 set a 10:10", "10:05 unset a"})
	})
}

// A rule comes into force in its place among clock ticks, by the times at which they were written.
func TestAClockTickHoldsForWhatWasWrittenAfterIt(t *testing.T) {
	run := stream.Run{ID: "s", Simulated: true}
	for _, c := range []struct {
		name        string
		clock, rule int // when they are written, in seconds
		entries     []string
	}{
		{"the rule after it", 5, 6, []string{"10:00 set a 10:10", "10:00 set b 10:30", "10:10 fired a", "10:20 nothing", "10:30 fired b", "11:00 nothing at 2"}},
		{"the rule before it", 5, 4, []string{"10:00 set a 10:10", "10:00 set b 10:30", "10:10 fired a", "10:20 nothing", "10:30 fired b at 2", "11:00 nothing at 2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ringing(t, run, func(b *clockBench) {
				second := func(n int) time.Time { return time.Now().Add(time.Duration(n) * time.Second) }
				say := func(at int, what string) {
					b.log.Append("sim.s.orders", 0, stream.Message{Key: []byte("ann"), Value: []byte(what), Time: second(at)})
				}
				say(0, "10:00 set a 10:10")
				say(0, "10:00 set b 10:30")
				say(1, "10:20 nothing") // waits for a, whose tick stands behind the clock tick
				tick := stream.ClockTick(run, clockAt("10:40"))
				tick.Time = second(c.clock)
				b.log.Append("sim.s.ticks", 0, tick)
				b.log.Append("sim.s.rules", 0, stream.Message{Value: []byte("10:00 rule at 2"), Time: second(c.rule)})
				say(7, "11:00 nothing")
				b.start()
				b.expect("entries", b.diary("ann").Entries, c.entries)
			})
		})
	}
}

func TestAGroupHasLagUntilAClockTickHasHadItsEffect(t *testing.T) {
	ringing(t, stream.Run{ID: "s", Simulated: true}, func(b *clockBench) {
		b.tell("ann", "10:00 set a 10:30")
		b.start()
		b.expect("stopped", b.stop(), nil)
		may := make(chan struct{})
		b.rt.Log = mutedLog{b.log, may}
		b.log.Append("sim.s.ticks", 0, stream.ClockTick(b.rt.Run, clockAt("11:00")))
		b.start()
		taken := func() int64 { return b.log.Offsets("sim.s.clock", "sim.s.ticks")[0] }
		b.expect("while no tick can be written", taken(), 0)
		close(may)
		b.settle()
		b.expect("rung", b.rung(), []string{"a at 10:30 due 10:30"})
		b.expect("in the end", taken(), 2)
	})
}

// mutedLog accepts no ticks until it may.
type mutedLog struct {
	*streamtest.Log
	may chan struct{}
}

func (l mutedLog) Producer(ctx context.Context) (stream.Producer, error) {
	p, err := l.Log.Producer(ctx)
	return mutedProducer{p, l.may}, err
}

type mutedProducer struct {
	stream.Producer
	may chan struct{}
}

func (p mutedProducer) Produce(ctx context.Context, topic string, partition int32, m []stream.Message) (int64, error) {
	if strings.HasSuffix(topic, "ticks") {
		<-p.may
	}
	return p.Producer.Produce(ctx, topic, partition, m)
}

func TestARepeatedRecordLetsNothingFire(t *testing.T) {
	ringing(t, stream.Run{ID: "s", Simulated: true}, func(b *clockBench) {
		for _, what := range []string{"10:00 set a 10:10", "10:20 nothing"} { // upstream has published another version of it again
			b.log.Append("sim.s.orders", 0, stream.Message{Key: []byte("ann"), Value: []byte(what), Headers: []stream.Header{
				{Key: "source", Value: []byte("/up")}, {Key: "sequence", Value: []byte("00000000000000000007.000")}}})
		}
		b.start()
		b.expect("rung", b.rung(), []string(nil))
		b.expect("duplicates", b.seen.sum(func(r *stream.Report) int { return r.Duplicates }), 1)
	})
}

func TestATickOnTheWire(t *testing.T) {
	ringing(t, stream.Run{ID: "s", Simulated: true}, func(b *clockBench) {
		b.tell("ann", `10:00 set a"1" 10:10`)
		b.tell("ann", "10:20 nothing")
		b.start()
		r := b.log.Records("sim.s.ticks", 0)[0]
		b.expect("key", string(r.Key), "ann")
		b.expect("value", string(r.Value), `{"specversion":"1.0","id":"tk-e030c41cdefe4251af0cc694","source":"/tempismo/clock/s/ticks/0","type":"io.tempismo.tick.v1","subject":"ann","time":"2026-03-01T10:10:00Z","datacontenttype":"application/json","data":{"timer":"a\"1\"","due":"2026-03-01T10:10:00Z","after":{"orders":1,"other":0,"rules":0}}}`)
		b.expect("headers", fmt.Sprintf("%s", r.Headers), "[{content-type application/cloudevents+json} {source /tempismo/clock/s/ticks/0} {after orders=1 other=0 rules=0}]")
		c := stream.ClockTick(b.rt.Run, clockAt("10:40"))
		b.expect("clock tick", string(c.Value), `{"specversion":"1.0","id":"ck-1772361600000","source":"/tempismo/clock/s","type":"io.tempismo.tick.v1","time":"2026-03-01T10:40:00Z","datacontenttype":"application/json","data":{"timer":"","due":"2026-03-01T10:40:00Z"}}`)
	})
}

func TestALookupShowsWhatTheOtherServiceKnows(t *testing.T) {
	for _, run := range []stream.Run{{ID: "r1"}, {ID: "s", Simulated: true}} {
		ringing(t, run, func(b *clockBench) {
			var read []string
			store := &peekedStore{Store: b.store, keys: &read}
			b.rt.Store = store
			b.clock.Lookup = &stream.Lookup[order, diary, rulebook]{
				Service: "profiler", Input: "events",
				Wanted: func(in *order) bool { return in.words[0] == "look" },
				Result: func(c *stream.Context, s *diary, _ *rulebook, in *order, seen stream.Seen) []byte {
					who := "tick"
					if in != nil {
						who = in.words[0]
					}
					return fmt.Appendf(nil, " %s after %d entries: %q at %s, rebuilding %v, partial %v", who, len(s.Entries), seen.Value, seen.Position, seen.Rebuilding, seen.Partial)
				},
			}
			b.tell("ann", "00:00 look")
			b.tell("bob", "00:00 nothing")
			b.tell("ann", "00:00 look")
			b.start()
			b.expect("asked once for a key, and for none that is not wanted", read, []string{"ann"})
			lease, err := b.store.Claim(b.Context(), run.Group("profiler"), 0)
			if err != nil {
				b.Fatal(err)
			}
			c := stream.Commit{Next: map[string]int64{"events": 8, "models": 1}, Keys: []string{"ann"}, Values: [][]byte{[]byte("reads at 10")}, Partitions: 1}
			if err := lease.Commit(b.Context(), &c); err != nil {
				b.Fatal(err)
			}
			store.fail = 2
			b.tell("ann", "00:00 now n")
			b.settle()
			base := c.Next
			c = stream.Commit{Base: base, Next: map[string]int64{"events": 9, "models": 1}, Rebuilding: []byte("events=20"), Partial: true, Partitions: 1}
			if err := lease.Commit(b.Context(), &c); err != nil {
				b.Fatal(err)
			}
			b.tell("zoe", "00:00 look")
			b.settle()
			b.expect("told", b.rung(), []string{
				`saw  look after 0 entries: "" at , rebuilding true, partial false`,
				`saw  look after 1 entries: "" at , rebuilding true, partial false`,
				`n at 00:00 due 00:00 tick after 3 entries: "reads at 10" at events:0:7, rebuilding false, partial false`,
				`saw  look after 0 entries: "" at events:0:8, rebuilding true, partial true`,
			})
			b.expect("retries", b.seen.now().retries, []string{"look up", "look up"})
		})
	}
}

// peekedStore notes the keys of look-ups, and fails some.
type peekedStore struct {
	*streamtest.Store
	keys *[]string
	fail int
}

func (s *peekedStore) Peek(ctx context.Context, group string, partition int32, keys []string) (stream.Snapshot, error) {
	*s.keys = append(*s.keys, keys...)
	if s.fail > 0 {
		s.fail--
		return stream.Snapshot{}, errors.New("no answer")
	}
	return s.Store.Peek(ctx, group, partition, keys)
}

func TestWhatAStepMayKnowOfItsRecord(t *testing.T) {
	job := alarmClock()
	var told []string
	step := job.Step
	job.Step = func(c *stream.Context, s *diary, p *rulebook, in *order) error {
		told = append(told, fmt.Sprint(c.Positions()), c.ID("r-", 0))
		return step(c, s, p, in)
	}
	fold, err := stream.NewFold(job, stream.Run{ID: "r1"}, 3, 8)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i, r := range []stream.Record{
		{Topic: "orders", Partition: 3, Offset: 5, Key: []byte("ann"), Value: []byte("10:00 look")},
		{Topic: "other", Partition: 3, Offset: 0, Key: []byte("ann"), Value: []byte("no time")},
		{Topic: "orders", Partition: 3, Offset: 9, Key: []byte("ann"), Value: []byte("10:01 look")},
	} {
		out, err := fold.Apply(&r)
		if err != nil || len(out) != 1 {
			t.Fatal(i, out, err)
		}
		if e, err := stream.ParseEvent(out[0].Value); err == nil {
			ids = append(ids, e.ID)
		}
	}
	want := []string{"map[orders:3:5]", ids[0], "map[orders:3:9 other:3:0]", ids[1]}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestPositionsSurviveATakeover(t *testing.T) {
	ringing(t, stream.Run{ID: "r1"}, func(b *clockBench) {
		var told map[string]string
		step := b.clock.Step
		b.clock.Step = func(c *stream.Context, s *diary, p *rulebook, in *order) error {
			told = c.Positions()
			return step(c, s, p, in)
		}
		b.log.Append("other", 0, stream.Message{Key: []byte("ann"), Value: []byte("10:00 nothing")})
		b.tell("ann", "10:00 nothing")
		b.start()
		b.expect("stopped", b.stop(), nil)
		b.tell("ann", "10:00 nothing")
		b.start()
		b.expect("positions", told, map[string]string{"orders": "0:1", "other": "0:0"})
	})
}

func TestAFoldUsesRecordedLookups(t *testing.T) {
	job := alarmClock()
	job.Lookup = &stream.Lookup[order, diary, rulebook]{
		Service: "profiler", Input: "events",
		Wanted: func(in *order) bool { return in.words[0] == "look" },
		Result: func(*stream.Context, *diary, *rulebook, *order, stream.Seen) []byte { panic("looked up again") },
	}
	fold, err := stream.NewFold(job, stream.Run{ID: "s", Simulated: true}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	fold.Recorded(func(r *stream.Record) []byte {
		return fmt.Appendf(nil, " %s %d %s %s", r.Topic, r.Offset, r.Key, r.Time.Format("15:04"))
	})
	var got []string
	collect := func(out []stream.Output, err error) {
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range out {
			e, err := stream.ParseEvent(o.Value)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, rings([]streamtest.Output{{Event: e}})...)
		}
	}
	for i, what := range []string{"10:00 set a 10:05", "10:01 look", "10:02 nothing"} {
		collect(fold.Apply(&stream.Record{Topic: "sim.s.orders", Offset: int64(i), Key: []byte("ann"), Value: []byte(what), Time: clockAt("12:00")}))
	}
	collect(fold.Advance(clockAt("10:05")))
	want := []string{"saw  sim.s.orders 1 ann 12:00", "a at 10:05 due 10:05 sim.s.ticks 0 ann 10:05"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whatever stands in the tick log, it fires no timer but the one it names, and the partition moves on.
func FuzzTick(f *testing.F) {
	f.Add([]byte("ann"), tick("", "ann", "a", "10:20", "").Value)
	f.Add([]byte{}, stream.ClockTick(stream.Run{ID: "s"}, clockAt("10:20")).Value)
	f.Add([]byte("ann"), []byte(`{"specversion":"1.0","id":"x","source":"s","type":"io.tempismo.tick.v1","data":{"timer":"a","due":"9999-12-31T23:59:59.999999999Z"}}`))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		for _, run := range []stream.Run{{ID: "r1"}, {ID: "s", Simulated: true}} {
			d := streamtest.NewDriver(t, alarmClock(), run)
			d.Pipe(says("ann", "10:00 set a 10:30"))
			for _, o := range d.Pipe(stream.Record{Topic: "ticks", Key: key, Value: value, Headers: []stream.Header{{Key: "source", Value: []byte("/tempismo/clock/" + run.ID + "/ticks/0")}}}) {
				if due := clockAt("10:30").Format(time.RFC3339); o.Failed == "" && !bytes.Contains(value, []byte(due[:10])) {
					t.Errorf("fired by %s", value)
				}
			}
			d.Pipe(says("ann", "10:00 nothing"))
		}
	})
}
