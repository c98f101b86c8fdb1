package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
func alarmClock() stream.Job[order, diary, struct{}] {
	return stream.Job[order, diary, struct{}]{
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
		Step: func(c *stream.Context, s *diary, _ *struct{}, in *order) error {
			if s == nil {
				return nil
			}
			s.note(c, strings.Join(in.words, " "))
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
		Adopt: func(*struct{}, string, []byte) error { return nil },
		Timers: &stream.Timers[diary, struct{}]{
			Topic: "ticks",
			Pending: func(s *diary, each func(string, time.Time)) {
				for id, due := range s.Timers {
					each(id, due)
				}
			},
			Fire: func(c *stream.Context, s *diary, _ *struct{}, id string, due time.Time) error {
				if id == "broken" {
					return errors.New("the bell is broken")
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
				s.note(c, "fired "+id)
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

func (s *diary) note(c *stream.Context, what string) {
	s.Entries = append(s.Entries, c.Now().Format("15:04")+" "+what)
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
	d.Pipe(says("bob", "10:00 set b2 10:20"))
	d.Pipe(says("ann", "10:00 set a1 10:20"))
	d.Pipe(says("bob", "10:01 set b1 10:20"))
	d.Pipe(says("bob", "10:01 set again-2-3 10:15"))
	d.Pipe(says("ann", "10:01 set a0 10:40"))
	d.Pipe(says("ann", "10:01 set a9 10:19"))
	d.Pipe(says("ann", "10:02 unset a9"))
	d.Pipe(says("ann", "10:02 set a0 10:30"))
	if next, ok := d.Next(); !ok || next != (stream.Timer{Key: "bob", ID: "again-2-3", Due: clockAt("10:15")}) {
		t.Errorf("next %v", next)
	}
	got := rings(d.Advance(clockAt("10:21")))
	want := []string{"again-2-3 at 10:15 due 10:15", "again-1-3 at 10:18 due 10:18", "a1 at 10:20 due 10:20", "b1 at 10:20 due 10:20", "b2 at 10:20 due 10:20", "again-0-3 at 10:21 due 10:21"}
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
	clock stream.Job[order, diary, struct{}]
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
		b.clock.Step = func(c *stream.Context, s *diary, _ *struct{}, in *order) error {
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
