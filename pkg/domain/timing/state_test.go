package timing

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"

	"os"
	"path/filepath"
	"slices"

	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite golden files")

// apply notes events in the order given, and returns what alarms they raised.
func apply(w *World, c *Channel, events []happening) (alarms []Test) {
	for _, e := range events {
		if e.engaged {
			alarms = append(alarms, c.Engaged(w, e.hour, e.minute).Alarms...)
		} else {
			alarms = append(alarms, c.Delivered(w, e.hour).Alarms...)
		}
	}
	return alarms
}

func drifts(alarms []Test) (n int) {
	for _, t := range alarms {
		if t.Kind == Drift {
			n++
		}
	}
	return n
}

// forget takes out what may depend on the order of arrival: whether, and at which mail, a silence was seen.
func forget(p *Profile) []byte {
	for i := range p.Channels {
		p.Channels[i].silent, p.Channels[i].streak = false, 0
	}
	return p.Append(nil)
}

// draw makes the events of a few weeks: clustered, so that hours repeat and days fill, with gaps of up to years.
func draw(t *rapid.T) []happening {
	at := simStart + rapid.Int64Range(0, 200*Week).Draw(t, "start")
	var events []happening
	for range rapid.IntRange(1, 60).Draw(t, "events") {
		at += rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(0, 60), rapid.Int64Range(0, 400), rapid.Int64Range(0, 150*Week)).Draw(t, "gap")
		events = append(events, happening{at, rapid.IntRange(0, 59).Draw(t, "minute"), rapid.Bool().Draw(t, "engaged")})
	}
	return events
}

// TestOrder: counters and hot hours are byte-identical under any order of arrival within Lateness.
func TestOrder(t *testing.T) {
	w := &World{Model: Builtin()}
	rapid.Check(t, func(t *rapid.T) {
		events := draw(t)
		var a, b Profile
		apply(w, a.Channel("email"), events)

		type arrival struct {
			at Hour
			e  happening
		}
		late := make([]arrival, len(events))
		for i, e := range events {
			late[i] = arrival{e.hour + rapid.Int64Range(0, Lateness).Draw(t, "delay"), e}
		}
		slices.SortStableFunc(late, func(a, b arrival) int { return int(a.at - b.at) })
		for i := range late {
			events[i] = late[i].e
		}
		apply(w, b.Channel("email"), events)
		if x, y := forget(&a), forget(&b); !bytes.Equal(x, y) {
			t.Fatalf("in order and late:\n%x\n%x", x, y)
		}
	})
}

// TestOrderOfALife: a year with everything in it, evidence and moves of habit included, gives the same bytes and the same
// drifts in any order of arrival within Lateness, however often it is stored and loaded in between.
func TestOrderOfALife(t *testing.T) {
	m := fitted()
	w := &World{Model: m}
	w.Gaps.Add(dayOf(simStart) + 360)
	tw := newTown(51)
	rng := tw.rng
	moves := 0
	for range 20 {
		r := tw.resident()
		r.rate *= 3
		events := tw.live(&r, simStart, 182, always)
		moved := r
		for how := range moved.phi {
			moved.phi[how] = r.phi[how/Day*Day+(how+16)%Day]
		}
		events = append(events, tw.live(&moved, simStart+182*Day, 182, always)...)
		events = append(events, happening{simStart + 400*Day, 0, false}) // settles everything

		var a, b Profile
		drift := func(alarms []Test) (d []Test) {
			for _, t := range alarms {
				if t.Kind == Drift {
					t.Days = 0 // since the event that brought it
					d = append(d, t)
				}
			}
			return d
		}
		inOrder := drift(apply(w, a.Channel("email"), events))
		moves += len(inOrder)

		type arrival struct {
			at Hour
			e  happening
		}
		late := make([]arrival, len(events))
		for i, e := range events {
			late[i] = arrival{e.hour + rng.Int64N(Lateness+1), e}
		}
		slices.SortStableFunc(late, func(a, b arrival) int { return int(a.at - b.at) })
		var shuffled []Test
		for _, l := range late {
			shuffled = append(shuffled, drift(apply(w, b.Channel("email"), []happening{l.e}))...)
			if rng.IntN(10) == 0 {
				if err := b.Decode(b.Append(nil)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if x, y := forget(&a), forget(&b); !bytes.Equal(x, y) {
			t.Fatalf("in order and late:\n%x\n%x", x, y)
		}
		if !slices.Equal(inOrder, shuffled) {
			t.Fatalf("drifts in order %+v, late %+v", inOrder, shuffled)
		}
	}
	if moves < 10 {
		t.Errorf("%d moves of habit in twenty lives: the test is too weak", moves)
	}
}

// TestViewsSettle: what a view knows before the days are settled is what the state knows after it.
func TestViewsSettle(t *testing.T) {
	m := fitted()
	w := &World{Model: m}
	tw := newTown(52)
	for range 20 {
		r := tw.resident()
		r.rate *= 3
		var p Profile
		c := p.Channel("email")
		events := tw.live(&r, simStart, 150, always)
		apply(w, c, events)
		at := c.head
		var before, after View
		w.Derive(&before, &p, "email", at, Everything)
		c.Delivered(w, at+Week) // settles everything
		c.received.drop(at + Week)
		w.Derive(&after, &p, "email", at, Everything)
		if before.Phi != after.Phi || before.Rate != after.Rate || before.Evidence != after.Evidence {
			t.Fatalf("before and after the days were settled: %+v, %+v", before.Evidence, after.Evidence)
		}
	}
}

// TestRepeats: what was told once and is told again within Memory changes nothing.
func TestRepeats(t *testing.T) {
	w := &World{Model: Builtin()}
	rapid.Check(t, func(t *rapid.T) {
		events := draw(t)
		var p Profile
		c := p.Channel("email")
		apply(w, c, events)
		before := forget(&p)
		for _, e := range events {
			if e.hour > c.head-Memory {
				var change Change
				if e.engaged {
					change = c.Engaged(w, e.hour, 59)
				} else {
					change = c.Delivered(w, e.hour)
				}
				if change.Result != Repeated {
					t.Fatalf("hour %d of %d: result %d, want Repeated", e.hour, c.head, change.Result)
				}
			} else if c.Delivered(w, e.hour).Result != Late {
				t.Fatalf("hour %d of %d: want Late", e.hour, c.head)
			}
		}
		if after := forget(&p); !bytes.Equal(before, after) {
			t.Fatalf("before and after:\n%x\n%x", before, after)
		}
	})
}

// TestCodec: a profile is what it was after it was stored and loaded, and goes on the same.
func TestCodec(t *testing.T) {
	w := &World{Model: Builtin()}
	rapid.Check(t, func(t *rapid.T) {
		events := draw(t)
		var kept, stored Profile
		for _, e := range events {
			channel := rapid.SampledFrom([]string{"email", "sms", "carrier-pigeon"}).Draw(t, "channel")
			apply(w, kept.Channel(channel), []happening{e})
			apply(w, stored.Channel(channel), []happening{e})
			b := stored.Append(nil)
			stored = Profile{}
			if err := stored.Decode(b); err != nil {
				t.Fatal(err)
			}
			if again := stored.Append(nil); !bytes.Equal(b, again) {
				t.Fatalf("stored and loaded:\n%x\n%x", b, again)
			}
		}
		if a, b := kept.Append(nil), stored.Append(nil); !bytes.Equal(a, b) {
			t.Fatalf("kept in memory and stored after every event:\n%x\n%x", a, b)
		}
	})
}

// TestMerge: merging does not mind which is merged into which, and two halves of a year make the whole.
func TestMerge(t *testing.T) {
	w := &World{Model: Builtin()}
	rapid.Check(t, func(t *rapid.T) {
		var events []happening
		at := simStart + rapid.Int64Range(0, 30*Week).Draw(t, "start")
		for range rapid.IntRange(2, 60).Draw(t, "events") {
			at += rapid.Int64Range(0, 100).Draw(t, "gap")
			events = append(events, happening{at, rapid.IntRange(0, 59).Draw(t, "minute"), rapid.Bool().Draw(t, "engaged")})
		}
		var whole, a, b Profile
		var left, right []happening
		for _, e := range events {
			if dayOf(e.hour)%2 == 0 { // whole days, so that no engaged day is counted twice
				left = append(left, e)
			} else {
				right = append(right, e)
			}
		}
		moved := drifts(apply(w, whole.Channel("email"), events)) + drifts(apply(w, a.Channel("email"), left)) + drifts(apply(w, b.Channel("email"), right))
		ab, ba := a.Channel("email").State, b.Channel("email").State
		ab.Merge(w, b.Channel("email").State)
		ba.Merge(w, a.Channel("email").State)
		if x, y := ab.append(nil), ba.append(nil); ab.seen && !bytes.Equal(x, y) {
			t.Fatalf("a with b and b with a:\n%x\n%x", x, y)
		}
		w := whole.Channel("email").State
		if len(left) == 0 || len(right) == 0 || w.landmark != ab.landmark || w.year != ab.year || w.Rhythm.quarter != ab.Rhythm.quarter || moved > 0 {
			return
		}
		if w.slow != ab.slow || w.fast != ab.fast || w.sent != ab.sent || w.engagedDays != ab.engagedDays || w.sentDays != ab.sentDays ||
			w.n != ab.n || w.days != ab.days || w.deliveries != ab.deliveries || w.first != ab.first || w.engaged != ab.engaged || w.received != ab.received {
			t.Fatalf("the halves make %+v, the whole is %+v", ab, w)
		}
	})
}

// TestHours checks the ring of bits against a plain set.
func TestHours(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		head := rapid.Int64Range(-1000, 1000).Draw(t, "head")
		var r hours
		set := map[Hour]bool{}
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			next := head + rapid.Int64Range(0, 200).Draw(t, "ahead")
			r.forget(head, next)
			head = next
			h := head - rapid.Int64Range(0, Memory-1).Draw(t, "age")
			r.add(h)
			set[h] = true
		}
		for h := head - Memory + 1; h <= head; h++ {
			if r.has(h) != set[h] {
				t.Fatalf("hour %d of %d: has %v, want %v", h, head, r.has(h), set[h])
			}
		}
		for d := dayOf(head) - 9; d <= dayOf(head)+2; d++ {
			var want uint32
			for i := range int64(Day) {
				if h := d*Day + i; set[h] && h > head-Memory && h <= head {
					want |= 1 << i
				}
			}
			if got := r.day(d, head); got != want {
				t.Fatalf("day %d, head %d: %024b, want %024b", d, head, got, want)
			}
		}
		var again hours
		d := decoder{b: r.append(nil, head)}
		if again.decode(&d, head); d.err != nil || len(d.b) > 0 {
			t.Fatalf("decode: %v, %d bytes left", d.err, len(d.b))
		}
		if !bytes.Equal(again.append(nil, head), r.append(nil, head)) {
			t.Fatal("decode of append differs")
		}
	})
}

func TestSplit(t *testing.T) {
	for _, row := range []struct {
		minute int
		own    uint64
		near   Hour
	}{{0, 32, 9}, {15, 48, 9}, {29, 63, 9}, {30, 64, 11}, {45, 48, 11}, {59, 33, 11}} {
		own, near := split(10, row.minute)
		if own != row.own || near != row.near {
			t.Errorf("minute %d: %d of 64 stay and the rest goes to %d; want %d and %d", row.minute, own, near, row.own, row.near)
		}
		if want := math.Round(64 * math.Abs(float64(row.minute)/60-.5)); float64(unit-own) != want {
			t.Errorf("minute %d: %d go to the neighbour, the formula says %v", row.minute, unit-own, want)
		}
	}
}

// TestDecay: an engaged hour counts half after 13 weeks, whatever the landmark did in between.
func TestDecay(t *testing.T) {
	w := &World{Model: Builtin()}
	for _, weeks := range []int64{13, 26, 39, 52, 104, 130, 156, 208} {
		var p Profile
		c := p.Channel("email")
		for i := range int64(40) {
			c.Engaged(w, simStart+51*Week+2*i, 30)
		}
		later := simStart + (51+weeks)*Week
		c.Engaged(w, later+10*Day, 30) // settles everything before
		n := c.decayed(later) * float64(c.engagement())
		if want := 40 * math.Exp2(-float64(weeks)/13); math.Abs(n-want) > .03*want+.01 {
			t.Errorf("after %d weeks 40 engaged hours count %.3f, want %.3f", weeks, n, want)
		}
	}
}

// TestGolden holds the bytes of a few profiles. A change here is a new encoding: raise encodingVersion.
func TestGolden(t *testing.T) {
	w := &World{Model: Builtin()}
	h := int64(simStart)
	stories := []struct {
		name   string
		events []happening
	}{
		{"one open", []happening{{h + 9, 41, true}}},
		{"one delivery", []happening{{h + 9, 0, false}}},
		{"a fortnight", []happening{{h + 9, 0, false}, {h + 10, 12, true}, {h + 33, 0, false}, {h + 81, 0, false}, {h + 92, 50, true}, {h + 93, 2, true}, {h + 14*Day, 0, false}}},
		{"out of order", []happening{{h + 50, 5, true}, {h + 9, 41, true}, {h + 30, 10, true}, {h + 8, 0, false}}},
		{"over a new year of weeks", []happening{{h + 9, 41, true}, {h + 30*Week, 5, true}, {h + 60*Week, 10, true}, {h + 130*Week, 10, true}, {h + 131*Week, 0, false}}},
		{"every hour of a week", func() (e []happening) {
			for i := range int64(Week) {
				e = append(e, happening{h + i, int(i % 60), i%3 > 0})
			}
			return e
		}()},
	}
	var out strings.Builder
	for _, s := range stories {
		p := Profile{Zone: "Europe/Rome"}
		apply(w, p.Channel("email"), s.events)
		fmt.Fprintf(&out, "%s\n%s\n\n", s.name, hex.EncodeToString(p.Append(nil)))
	}
	file := filepath.Join("testdata", "profiles.golden")
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("encoded profiles differ from %s:\n%s", file, out.String())
	}
}

// TestSecondVersion: profiles of version 2 are read as they were written. What it did not know is one byte in what is written
// now, after zone and segment, which are a byte each in these.
func TestSecondVersion(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "profiles.v2.golden"))
	if err != nil {
		t.Fatal(err)
	}
	for story := range strings.SplitSeq(strings.TrimSpace(string(golden)), "\n\n") {
		name, second, _ := strings.Cut(story, "\n")
		b, err := hex.DecodeString(second)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var p Profile
		if err := p.Decode(b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, want := hex.EncodeToString(p.Append(nil)), "04"+second[2:6]+"00"+second[6:]; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestThirdVersion: profiles of version 3 are read as they were written. Of consents it knew only that there was a refusal, which was
// an erasure as well.
func TestThirdVersion(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "profiles.v3.golden"))
	if err != nil {
		t.Fatal(err)
	}
	for story := range strings.SplitSeq(strings.TrimSpace(string(golden)), "\n\n") {
		name, third, _ := strings.Cut(story, "\n")
		b, err := hex.DecodeString(third)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var p Profile
		if err := p.Decode(b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, want := hex.EncodeToString(p.Append(nil)), "04"+third[2:]; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	var p Profile
	if err := p.Decode([]byte{3, 1, 0, toldPixel | toldErasure, 200, 1, 0, 0, 0, 0}); err != nil || p.Told != (Pixel{At: 200}) || !p.Erased(time.UnixMilli(199)) {
		t.Errorf("%+v, %v", p, err)
	}
	future := byte(encodingVersion + 1)
	if err := new(Profile).Decode([]byte{future, 0}); !errors.Is(err, ErrProfile) || !strings.Contains(err.Error(), fmt.Sprint("version ", future)) {
		t.Errorf("a version of the future: %v", err)
	}
}

// TestObservable: whether an open may be noted follows from the last answer, wherever it stands, and from what counts without one.
func TestObservable(t *testing.T) {
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	for _, row := range []struct {
		name              string
		told, said        Pixel
		required, assumed bool // of an open at 50
	}{
		{"never asked", Pixel{}, Pixel{}, false, true},
		{"consented before", Pixel{40, true}, Pixel{}, true, true},
		{"consented later", Pixel{60, true}, Pixel{}, false, true},
		{"consented beside the attributes", Pixel{}, Pixel{40, true}, true, true},
		{"refused", Pixel{40, false}, Pixel{}, false, false},
		{"refused later, which is told already", Pixel{60, false}, Pixel{}, false, false},
		{"withdrawn beside the attributes", Pixel{30, true}, Pixel{40, false}, false, false},
		{"given again in the attributes", Pixel{45, true}, Pixel{40, false}, true, true},
		{"both at one instant", Pixel{40, true}, Pixel{40, false}, false, false},
		{"both at one instant, the other way round", Pixel{40, false}, Pixel{40, true}, false, false},
	} {
		p := Profile{Told: row.told, Said: row.said}
		if got := p.Observable(at(50), false); got != row.required {
			t.Errorf("%s, consent required: %v", row.name, got)
		}
		if got := p.Observable(at(50), true); got != row.assumed {
			t.Errorf("%s, consent assumed: %v", row.name, got)
		}
	}
}

// TestAnswersComeInAnyOrder: answers and erasures lead to the same, in whatever order they are told.
func TestAnswersComeInAnyOrder(t *testing.T) {
	tell := []func(*Profile){
		func(p *Profile) { p.Say(Pixel{10, true}) },
		func(p *Profile) { p.Say(Pixel{20, false}) },
		func(p *Profile) { p.EraseAll(time.UnixMilli(30)) },
		func(p *Profile) { p.Say(Pixel{30, true}) },
		func(p *Profile) { p.Say(Pixel{25, false}) },
	}
	for i := range 120 {
		var p Profile
		left := slices.Clone(tell)
		for n := i; len(left) > 0; {
			k := n % len(left)
			n /= len(left)
			left[k](&p)
			left = slices.Delete(left, k, k+1)
		}
		if p.Said != (Pixel{30, true}) || !p.Erased(time.UnixMilli(29)) {
			t.Fatalf("order %d: %+v", i, p)
		}
	}
	var p Profile
	p.Say(Pixel{20, true})
	p.EraseAll(time.UnixMilli(30))
	if p.Said != (Pixel{}) {
		t.Errorf("%+v is left of what is erased", p.Said)
	}
}

func FuzzDecode(f *testing.F) {
	m := fitted()
	w := &World{Model: m}
	tw := newTown(5)
	for range 3 {
		r := tw.resident()
		p := Profile{Zone: "Asia/Tokyo"}
		apply(w, p.Channel("email"), tw.live(&r, simStart, 90, always))
		apply(w, p.Channel("letter"), tw.live(&r, simStart, 9, always))
		f.Add(p.Append(nil))
	}
	f.Add([]byte{})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	told := Profile{Zone: "Asia/Tokyo", Home: "Europe/Rome", Told: Pixel{At: 1, Granted: false}}
	told.Erase(time.UnixMilli(1))
	f.Add(told.Append(nil))
	for _, file := range []string{"profiles.v2.golden", "profiles.v3.golden"} {
		golden, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.SplitSeq(string(golden), "\n") {
			if b, err := hex.DecodeString(line); err == nil {
				f.Add(b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Profile
		if err := p.Decode(b); err != nil {
			if !errors.Is(err, ErrProfile) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		stored := p.Append(nil)
		var again Profile
		if err := again.Decode(stored); err != nil {
			t.Fatalf("own bytes do not decode: %v", err)
		}
		if !bytes.Equal(again.Append(nil), stored) {
			t.Fatal("stored and loaded differ")
		}
		for i := range p.Channels {
			c := &p.Channels[i]
			if head, ok := c.Head(); ok {
				v := p.View(m, c.Name, head)
				for _, phi := range v.Phi {
					if math.IsNaN(phi) || phi < 0 {
						t.Fatalf("attention %v", phi)
					}
				}
				c.Engaged(w, head+1, 3)
				c.Delivered(w, head+1000)
			}
		}
	})
}
