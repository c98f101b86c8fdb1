package profiler

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
)

// TestFeed: what is called a day without a feed, and what is not.
func TestFeed(t *testing.T) {
	ordinary := func(days int, expected, engaged int) (tides [][2]int) {
		for range days {
			tides = append(tides, [2]int{expected, engaged})
		}
		return tides
	}
	for _, row := range []struct {
		name  string
		tides [][2]int // expected and engaged hours by day
		down  []int    // days
	}{
		{"a day on which next to nobody engages", append(ordinary(10, 100, 90), [2]int{100, 17}), []int{10}},
		{"a day on which a fifth does", append(ordinary(10, 100, 90), [2]int{100, 19}), nil},
		{"where one in ten of what the model expects is ordinary it takes more mail to tell", append(ordinary(10, 100, 10), [2]int{100, 0}), nil},
		{"and with more it can be told", append(ordinary(10, 800, 80), [2]int{800, 15}, [2]int{800, 17}), []int{10}},
		{"before a week of ordinary days nothing is unusual", append(ordinary(6, 100, 90), [2]int{100, 0}), nil},
		{"few are too few to tell", append(ordinary(10, 66, 59), [2]int{66, 0}), nil},
		{"days without mail are nothing", append(ordinary(10, 100, 90), [2]int{0, 0}, [2]int{0, 0}, [2]int{100, 0}), []int{12}},
		{"a feed that stays down for a fortnight is how things are", append(ordinary(10, 100, 90), ordinary(40, 100, 0)...), []int{10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}},
		{"and one that is down again after a while is told again", slices.Concat(ordinary(10, 100, 90), ordinary(2, 100, 0), ordinary(3, 100, 90), ordinary(1, 100, 0)), []int{10, 11, 15}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var f feed
			const first = 20000
			var down []int
			clock := func(day int64) { f.judge(day*timing.Day, func(d int64) { down = append(down, int(d-first)) }) }
			for i, tide := range row.tides {
				clock(first + int64(i))
				f.expect(first+int64(i), uint64(tide[0])*millionths)
				for range tide[1] {
					f.engaged(first + int64(i))
				}
			}
			clock(first + int64(len(row.tides)) + 1)
			if !slices.Equal(down, row.down) {
				t.Errorf("down on %v, want %v", down, row.down)
			}
		})
	}
}

// A clock that jumps judges what is left of the days before, and keeps nothing of them.
func TestFeedAfterAJump(t *testing.T) {
	var f feed
	down := 0
	f.judge(20000*timing.Day, func(int64) {})
	for d := range int64(7) {
		f.expect(20000+d, 100*millionths)
	}
	f.judge(30000*timing.Day, func(int64) { down++ })
	if f.judged != 29999 || f.days != [feedDays]tide{} || down != 0 || f.ordinary != 7 {
		t.Errorf("%+v, %d down", f, down)
	}
}

// fold is a driver for towns: it does not look after every event whether states survive being stored.
type fold struct {
	*stream.Fold[Input, timing.Profile, Partition]
	t   *testing.T
	run stream.Run
	n   int64
}

func newFold(t *testing.T) *fold {
	c := Config{ScoredBelow: .1, Model: timing.BuiltinVersion, DefaultZone: "Europe/Rome", Run: config.Run{ID: "town", Mode: "simulated"}}
	job, err := Job(c)
	if err != nil {
		t.Fatal(err)
	}
	f, err := stream.NewFold(job, run(c), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return &fold{f, t, run(c), 0}
}

func (f *fold) pipe(e *engagement.Event) (out []streamtest.Output) {
	published, err := f.Apply(&stream.Record{Topic: f.run.Topic(topics.Events), Offset: f.n, Key: []byte(e.Subject), Value: e.Append(nil), Time: start})
	if err != nil {
		f.t.Fatal(err)
	}
	f.n++
	for _, o := range published {
		event, err := stream.ParseEvent(o.Value)
		if err != nil {
			f.t.Fatal(err)
		}
		out = append(out, streamtest.Output{Output: o, Event: event})
	}
	return out
}

// TestOutage: for three days of a town nobody seems to read. Nobody is called silent for it, and afterwards all is as it was
// in a town where nothing failed.
func TestOutage(t *testing.T) {
	const customers, days, from, until = 300, 110, 85, 88
	type town struct {
		silences int
		gaps     []string
		totals   Totals
		rate     float64
	}
	live := func(outage bool) (out town) {
		d, rng := newFold(t), rand.New(rand.NewPCG(7, 8))
		var events []*engagement.Event
		for day := range days {
			for c := range customers {
				id, message := fmt.Sprint("c-", c), fmt.Sprint("m-", day)
				at := time.Duration(day)*24*time.Hour + time.Duration(c)*time.Second
				events = append(events, event(engagement.Delivered, id, message, at))
				if answered, hours := rng.Float64() < .4, rng.IntN(14); answered && (!outage || day < from || day >= until) {
					events = append(events, event(engagement.Open, id, message, at+time.Duration(hours)*time.Hour+2*time.Minute))
				}
			}
		}
		slices.SortStableFunc(events, func(a, b *engagement.Event) int { return a.Time.Compare(b.Time) })
		for _, e := range events {
			for _, o := range d.pipe(e) {
				switch o.Topic {
				case topics.Scored:
					var s timing.Scored
					if err := json.Unmarshal(o.Event.Data, &s); err != nil {
						t.Fatal(err)
					}
					for _, test := range s.Tests {
						if test.Kind == timing.Silence && e.Time.After(start.Add(from*24*time.Hour)) {
							out.silences++
						}
					}
				case topics.Digests:
					var g timing.Digest
					if err := json.Unmarshal(o.Event.Data, &g); err != nil {
						t.Fatal(err)
					}
					out.gaps = append(out.gaps, g.Gaps...)
				}
			}
		}
		out.totals = d.Partition().totals
		for c := range customers {
			v := d.State(fmt.Sprint("c-", c)).View(timing.Builtin(), "email", 2938*timing.Week)
			out.rate += v.Rate / customers
		}
		return out
	}
	with, without := live(true), live(false)
	if want := []string{"2026-03-31", "2026-04-01", "2026-04-02"}; !slices.Equal(with.gaps, want) || with.totals.Gaps != 3 {
		t.Errorf("days without a feed %v, %d in all, want %v", with.gaps, with.totals.Gaps, want)
	}
	if len(without.gaps) != 0 {
		t.Errorf("days without a feed %v in a town where nothing failed", without.gaps)
	}
	if with.silences > without.silences+customers/50 {
		t.Errorf("%d silences with an outage, %d without", with.silences, without.silences)
	}
	if ratio := with.rate / without.rate; ratio < .98 || ratio > 1.02 {
		t.Errorf("engaged hours per delivery %.3f with an outage, %.3f without", with.rate, without.rate)
	}
}

func TestCrowd(t *testing.T) {
	var c crowd
	hour := timing.Hour(500000)
	pass := func(engaged, bursts int) {
		c.tick(hour)
		hour++
		for i := range engaged {
			c.add(i < bursts)
		}
	}
	for range 100 {
		if pass(500, 10); c.everybody() {
			t.Fatal("an ordinary hour is called unusual")
		}
	}
	if pass(500, 28); c.everybody() {
		t.Error("three times the usual, with the hour before, is called far more")
	}
	if pass(500, 100); !c.everybody() {
		t.Error("ten times the usual is not called far more")
	}
	if pass(10, 0); !c.everybody() {
		t.Error("the next hour has hardly begun, and is forgotten already")
	}
	if pass(500, 10); c.everybody() {
		t.Error("an ordinary hour after an unusual one is called unusual")
	}
	c.tick(hour + 1)
	if c.now != [2]surge{} {
		t.Errorf("two hours later this is remembered: %+v", c.now)
	}
	hour += 2
	if pass(20, 19); c.everybody() {
		t.Error("nineteen bursts are called everybody")
	}
	for range 3000 { // how things are from now on
		pass(500, 60)
	}
	if c.everybody() {
		t.Error("what has been so for months is still called unusual")
	}
}

// TestEverybody: on the day of a sale everybody comes back again and again, and their bursts are marked.
func TestEverybody(t *testing.T) {
	const customers, days = 200, 60
	d, rng := newFold(t), rand.New(rand.NewPCG(9, 10))
	marked, plain := 0, 0
	look := func(e *engagement.Event) {
		for _, o := range d.pipe(e) {
			var s timing.Scored
			if o.Topic != topics.Scored || json.Unmarshal(o.Event.Data, &s) != nil {
				continue
			}
			for _, test := range s.Tests {
				switch {
				case test.Kind != timing.Burst || test.P >= timing.TwoSigma:
				case s.Everybody:
					marked++
				default:
					plain++
				}
			}
		}
	}
	for day := range days {
		for c := range customers {
			at := time.Duration(day)*24*time.Hour + time.Duration(c)*time.Second
			look(event(engagement.Delivered, fmt.Sprint("c-", c), fmt.Sprint("m-", day), at))
		}
		for c := range customers {
			if rng.IntN(3) == 0 {
				look(event(engagement.Open, fmt.Sprint("c-", c), fmt.Sprint("m-", day), time.Duration(day)*24*time.Hour+2*time.Hour+time.Duration(c)*time.Second))
			}
		}
	}
	if marked != 0 {
		t.Fatalf("%d bursts are everybody's on ordinary days", marked)
	}
	plain = 0
	for hour := range 6 {
		for c := range customers {
			look(event(engagement.Click, fmt.Sprint("c-", c), "sale", days*24*time.Hour+time.Duration(hour)*time.Hour+time.Duration(c)*time.Second))
		}
	}
	if plain > crowdMin+5 || marked < 3*customers {
		t.Errorf("on the day of a sale %d bursts are everybody's, %d of single customers", marked, plain)
	}
	if d.Partition().everybody == 0 {
		t.Error("scored events of an unusual hour are not counted")
	}
}
