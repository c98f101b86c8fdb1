package board

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

func rome(t testing.TB) *time.Location {
	z, err := calendar.Zone("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

type record struct {
	topic string
	value []byte
}

func event(t testing.TB, topic, source string, seq int, id, typ string, at time.Time, data any) record {
	t.Helper()
	b, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	ev := stream.Event{ID: id, Source: source, Type: typ, Subject: "C-1", Time: at, Sequence: fmt.Sprintf("%020d.%03d", seq, 0), Data: b}
	return record{topic, ev.Append(nil)}
}

func apply(t testing.TB, b *Board, rs ...record) {
	t.Helper()
	for _, r := range rs {
		if err := b.Apply(r.topic, r.value); err != nil {
			t.Fatal(err)
		}
	}
}

var start = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC) // a Monday

func TestACellIsFoundWhateverTheCustomersZone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.Int64Range(400_000, 600_000).Draw(t, "UTC hour of the digest")
		off := rapid.Int64Range(-lateReach-zoneReach, ahead+zoneReach).Draw(t, "distance")
		if got := hourOf(at, timing.HourOfWeek(at+off)); got != at+off {
			t.Fatalf("the cell at %+d hours is taken for one at %+d", off, got-at)
		}
	})
}

// digests makes hourly digests of three partitions over so many days.
func digests(t testing.TB, days int) []record {
	rnd := rand.New(rand.NewPCG(1, 2))
	var rs []record
	for h := range days * 24 {
		at := start.Add(time.Duration(h) * time.Hour)
		hour, _ := calendar.LocalHour(at, rome(t))
		for p := range 3 {
			d := timing.Digest{Minute: at, Seconds: 3600, Optimal: uint64(rnd.IntN(4)), Engagements: 4, Response: []uint32{20: 1, 50: 3}, Events: timing.Events{Human: 5, Machine: 1}}
			for _, segment := range []string{"premium", ""} {
				d.Cells = append(d.Cells, timing.Cell{Channel: "email", Segment: segment, How: timing.HourOfWeek(hour), Delivered: 12, Engaged: uint32(10 + rnd.IntN(5)), Expected: 24, ModelExpected: 12})
			}
			rs = append(rs, event(t, topics.Digests, fmt.Sprintf("/p/%d", p), h, fmt.Sprintf("d%d-%d", p, h), timing.DigestType, at, d))
		}
	}
	return rs
}

func TestTheSameRecordsGiveTheSameNumbersInAnyOrderOfPartitions(t *testing.T) {
	rs := digests(t, 20)
	one, other := New(rome(t)), New(rome(t))
	apply(t, one, rs...)
	for p := range 3 { // one partition after the other
		for i := p; i < len(rs); i += 3 {
			apply(t, other, rs[i])
		}
	}
	if a, b := one.Week(Filter{}), other.Week(Filter{}); !reflect.DeepEqual(a, b) {
		t.Error("the weeks differ")
	}
	if a, b := one.Figures(), other.Figures(); !reflect.DeepEqual(a, b) {
		t.Errorf("the figures differ: %+v %+v", a.Optimal.Last(), b.Optimal.Last())
	}
}

func TestARecordThatIsReadAgainChangesNothing(t *testing.T) {
	rs := digests(t, 3)
	b := New(rome(t))
	apply(t, b, rs...)
	want := b.Week(Filter{})
	apply(t, b, rs...)
	if got := b.Week(Filter{}); got.All != want.All {
		t.Errorf("read twice, %v become %v engaged hours", want.All.Engaged, got.All.Engaged)
	}
	if !later("00000000000000000007.1000", "00000000000000000007.999") || later("00000000000000000007.999", "00000000000000000007.1000") || !later("00000000000000000008.000", "00000000000000000007.1000") {
		t.Error("positions are not in order beyond a thousand outputs")
	}
}

func TestTheWeekIsTheLastSevenDays(t *testing.T) {
	b := New(rome(t))
	apply(t, b, digests(t, 20)...)
	w := b.Week(Filter{})
	if got := w.All.Delivered; got != 167*3*2*12 { // the hour of the clock has just begun
		t.Errorf("%v delivered in a week, want %v", got, 167*3*2*12)
	}
	for i, c := range w.Cells {
		if timing.HourOfWeek(c.Hour) != i || c.Hour > w.Now || c.Hour <= w.Now-168 {
			t.Fatalf("cell %d is hour %d, the clock %d", i, c.Hour, w.Now)
		}
	}
	if half := b.Week(Filter{Segment: "premium"}).All.Delivered; half != w.All.Delivered/2 {
		t.Errorf("premium has %v of %v deliveries, want half", half, w.All.Delivered)
	}
	if half := b.Week(Filter{Unnamed: true}).All.Delivered; half != w.All.Delivered/2 {
		t.Errorf("customers without segment have %v of %v deliveries, want half", half, w.All.Delivered)
	}
	if none := b.Week(Filter{Channel: "sms"}); none.All.Delivered != 0 || none.Best != -1 {
		t.Errorf("sms has %v deliveries and a finding at %d, want neither", none.All.Delivered, none.Best)
	}
	// Expectations are scaled to what was engaged: the profiler's level cancels.
	if math.Abs(w.All.Ratio()-1) > 1e-9 || math.Abs(w.All.Model-w.All.Engaged) > 1e-6 {
		t.Errorf("over the week the ratio is %v, the model expects %v of %v", w.All.Ratio(), w.All.Model, w.All.Engaged)
	}
	sum := 0.0
	for _, c := range w.Cells {
		sum += c.Expected
		if c.Weak != (c.Expected < Floor) || c.Filling != (c.Hour >= w.Now-1) {
			t.Fatalf("cell of hour %d (now %d): %+v", c.Hour, w.Now, c)
		}
	}
	if math.Abs(sum-w.All.Engaged) > 1e-6 {
		t.Errorf("the cells expect %v, and %v were engaged", sum, w.All.Engaged)
	}
	if !w.Flat {
		t.Errorf("every hour is alike, and yet %d stands out with %v", w.Best, w.Peak)
	}
}

func TestLittleMailIsLittleEvidence(t *testing.T) {
	b := New(rome(t))
	for h, expected := range []float64{9, 11, 0, 80} {
		at := start.Add(time.Duration(h) * time.Hour)
		apply(t, b, event(t, topics.Digests, "/p", h+1, fmt.Sprint(h), timing.DigestType, at, timing.Digest{Minute: at, Seconds: 3600,
			Cells: []timing.Cell{{Channel: "email", How: h, Engaged: uint32(expected), Expected: expected, ModelExpected: expected}}}))
	}
	w := b.Week(Filter{})
	for h, weak := range []bool{true, false, true, false} {
		if w.Cells[h].Weak != weak {
			t.Errorf("%v expected: little evidence is %v", w.Cells[h].Expected, w.Cells[h].Weak)
		}
	}
}

func TestAnUnusualHourIsFlaggedAndChanceGivesAboutEight(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	now := start.Add(10 * 24 * time.Hour)
	flags := 0
	for week := range 20 {
		b := New(rome(t))
		for h := range 170 {
			at := now.Add(time.Duration(h-170) * time.Hour)
			hour, _ := calendar.LocalHour(at, rome(t))
			engaged := math.Round(100 + 10*rnd.NormFloat64())
			if h == 60 && week == 0 {
				engaged = 160
			}
			apply(t, b, event(t, topics.Digests, "/p", week*1000+h+1, fmt.Sprint(h), timing.DigestType, at, timing.Digest{Minute: at, Seconds: 3600,
				Cells: []timing.Cell{{Channel: "email", How: timing.HourOfWeek(hour), Delivered: 50, Engaged: uint32(engaged), Expected: 100, ModelExpected: 100}}}))
		}
		w := b.Week(Filter{})
		flags += w.Flags
		if week == 0 {
			hour, _ := calendar.LocalHour(now.Add((60-170)*time.Hour), rome(t))
			if c := w.Cells[timing.HourOfWeek(hour)]; c.Flag() != 2 || c.Z < 4 {
				t.Errorf("160 engaged hours where 100 are expected: z %.1f, flag %d", c.Z, c.Flag())
			}
		}
	}
	if mean := float64(flags) / 20; mean < 4.5 || mean > 11.5 {
		t.Errorf("chance alone flags %.1f cells of 168, the page says about 8", mean)
	}
}

func TestFiguresHaveTheirIntervals(t *testing.T) {
	// Wilson, 10 of 40: a textbook value (Newcombe, Statistics in Medicine 17, 1998, gives the formula).
	p := share(10, 40)
	if math.Abs(p.Low-.1419) > .001 || math.Abs(p.High-.4019) > .001 || p.Value != .25 {
		t.Errorf("10 of 40: %+v", p)
	}
	if share(0, 0).Known || median(nil).Known || spread([8]float64{}, 100).Known || spread([8]float64{1}, 0).Known {
		t.Error("a figure is known of nothing")
	}
	bins := make([]uint64, timing.ResponseBins)
	bins[timing.ResponseBin(3600)] = 1000
	m := median(bins)
	low, high := timing.ResponseBounds(timing.ResponseBin(3600))
	if m.Value < low || m.Value > high || m.Low > m.Value || m.High < m.Value {
		t.Errorf("a thousand answers after about an hour: median %+v", m)
	}
	even := spread([8]float64{50, 50, 50, 50, 50, 50, 50, 50}, 1000)
	odd := spread([8]float64{0, 0, 0, 100, 100, 100, 100, 0}, 1000)
	if even.Value != 0 || math.Abs(odd.Value-50) > 1e-9 || odd.Low >= 50 || odd.High <= 50 {
		t.Errorf("even bands %+v, uneven bands %+v", even, odd)
	}
	b := New(rome(t))
	apply(t, b, digests(t, 40)...)
	f := b.Figures()
	if !f.Optimal.Last().Known || f.Optimal.Last().Value < .3 || f.Optimal.Last().Value > .45 {
		t.Errorf("optimal is 0 to 3 of 4, the figure says %+v", f.Optimal.Last())
	}
	if !f.Response.Last().Known || !f.Deviation.Last().Known || !f.Optimal.Points[0].Known {
		t.Error("five weeks do not fill the figures")
	}
}

func TestCalibrationIsTheShareBeyondTwoSigma(t *testing.T) {
	b := New(rome(t))
	bins := make([]uint32, timing.TailBins)
	for range 200_000 {
		bins[timing.TailBin(rand.Float64())]++
	}
	apply(t, b, event(t, topics.Digests, "/p", 1, "d", timing.DigestType, start, timing.Digest{Minute: start, Seconds: 60, Tails: []timing.Tail{{Kind: timing.Burst, Stratum: "5-19", Bins: bins}, {Kind: timing.Burst, Stratum: "0-4", Bins: []uint32{9999}}}}))
	if share, n := b.Calibration(); n != 200_000 || math.Abs(share-.02275) > .002 {
		t.Errorf("uniform p-values: %.4f of %d beyond 2 sigma, want 0.0228 of 200,000", share, n)
	}
}

func TestCalibrationForgetsAfterFourWeeks(t *testing.T) {
	b := New(rome(t))
	for i, day := range []int{0, 10, 27, 28} {
		at := start.AddDate(0, 0, day)
		apply(t, b, event(t, topics.Digests, "/p", i+1, fmt.Sprint(day), timing.DigestType, at, timing.Digest{Minute: at, Tails: []timing.Tail{
			{Kind: timing.Timing, Stratum: "20-99", Bins: []uint32{1, 2}}, {Kind: timing.Burst, Stratum: "0-4", Bins: []uint32{1}}, {Kind: timing.Act, Stratum: "0-4", Bins: []uint32{1}}, {Kind: timing.Burst, Stratum: "0-4", Bins: make([]uint32, 400)}, {Kind: timing.Burst, Stratum: "of a newer make", Bins: []uint32{1}},
		}}))
	}
	tails := b.Tails()
	if len(tails) != 2 || tails[0].Kind != timing.Burst || tails[1].Kind != timing.Timing || tails[1].Tests != 9 || tails[1].Bins[1] != 6 {
		t.Fatalf("the tests of the last 28 days: %+v", tails)
	}
	low, high := timing.TailBounds(1)
	if got := tails[1].Below(high); math.Abs(got-6./9) > 1e-12 {
		t.Errorf("6 of 9 lie below %v, not %v", high, got)
	}
	if got := tails[1].Below((low + high) / 2); math.Abs(got-3./9) > 1e-12 {
		t.Errorf("half of the bin's 6 of 9 lie below its middle, not %v", got)
	}
}

// model is the built-in one under another name.
func model(t testing.TB, version string) *timing.Model {
	data, err := timing.Builtin().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := timing.ParseModel(data)
	if err != nil {
		t.Fatal(err)
	}
	m.Version = version
	return m
}

func TestTheModelInForceIsTheLastOnePublished(t *testing.T) {
	b := New(rome(t))
	put := func(version string, hour int) {
		apply(t, b, event(t, topics.Models, "/tempismo/trainer/"+version+fmt.Sprint(hour), 1, "m", timing.ModelType, start.Add(time.Duration(hour)*time.Hour), model(t, version)))
	}
	put("a", 0)
	put("b", 2)
	put("a", 0) // of another partition
	put("c", 1)
	if v := b.Models(); len(v) != 3 || v[0].Model.Version != "b" || v[1].Model.Version != "c" || v[2].Model.Version != "a" {
		t.Errorf("%+v", v)
	}
	put("a", 3) // pinned: published again
	if v := b.Models(); len(v) != 3 || v[0].Model.Version != "a" || v[1].Model.Version != "b" {
		t.Errorf("a version that is published again is in force again: %+v", v)
	}
	for i := range 2 * maxVersions {
		put(fmt.Sprint("v", i), 4+i)
	}
	if v := b.Models(); len(v) != maxVersions || v[0].Model.Version != fmt.Sprint("v", 2*maxVersions-1) {
		t.Errorf("%d versions, in force %s", len(v), v[0].Model.Version)
	}
	if !b.Clock().IsZero() {
		t.Errorf("the trainer's clock moves the customers': %v", b.Clock())
	}
}

func TestThePolicyInForceIsTheLastOneApplied(t *testing.T) {
	b := New(rome(t))
	if p, applied := b.Policy(); applied || p.Version != decision.Default().Version || p.Closed == nil {
		t.Errorf("before any was applied: %s, %v", p.Version, applied)
	}
	for i, put := range []struct {
		version string
		hour    int
		want    string
	}{{"2", 2, "2"}, {"1", 1, "2"}, {"2", 2, "2"}, {"3", 3, "3"}} { // partitions are read side by side
		p := decision.Default()
		p.Version = put.version
		apply(t, b, event(t, topics.Policies, fmt.Sprint("/tempismo/operator/", i), 1, "p", decision.PolicyType, start.Add(time.Duration(put.hour)*time.Hour), json.RawMessage(p.Append(nil))))
		if p, applied := b.Policy(); !applied || p.Version != put.want {
			t.Errorf("after %s: %s, %v", put.version, p.Version, applied)
		}
	}
	if !b.Clock().IsZero() {
		t.Errorf("the operator's clock moves the customers': %v", b.Clock())
	}
}

func TestStoriesAreTheMostTellingOfTheirKind(t *testing.T) {
	b := New(rome(t))
	seq := 0
	add := func(id, kind string, day int, d deviation.Deviation) {
		seq++
		if d.Kind = kind; d.Evidence.EngagedHours == 0 {
			d.Evidence.EngagedHours = 30
		}
		apply(t, b, event(t, topics.Deviations, "/q", seq, id, deviation.Type, start.AddDate(0, 0, day), d))
	}
	told := func() (ids [3]string) {
		for i, r := range b.Stories() {
			ids[i] = r.ID
		}
		return ids
	}
	if got := told(); got != [3]string{} {
		t.Errorf("stories out of nothing: %v", got)
	}
	add("d2", timing.Drift, 3, deviation.Deviation{Observed: 1, Expected: 22, Z: 5}) // three hours, over midnight
	add("d0", timing.Drift, 0, deviation.Deviation{Observed: 20, Expected: 8, Evidence: timing.Evidence{EngagedHours: 7}})
	add("d1", timing.Drift, 0, deviation.Deviation{Observed: 16, Expected: 8, Z: 2.1})
	add("s1", timing.Silence, 1, deviation.Deviation{Z: -2.5})
	add("s2", timing.Silence, 2, deviation.Deviation{Z: -2.1})
	add("r1", timing.Reactivation, 2, deviation.Deviation{Z: 6})
	if got := told(); got != [3]string{"d1", "s1", ""} {
		t.Errorf("stories %v", got)
	}
	add("b1", timing.Burst, 1, deviation.Deviation{Z: 3})
	add("b2", timing.Burst, 1, deviation.Deviation{Z: 2.5})
	add("b3", timing.Burst, 4, deviation.Deviation{Z: 3})
	if got := told(); got != [3]string{"d1", "s1", "b3"} {
		t.Errorf("of two as telling, the newer one: %v", got)
	}
	add("b4", timing.Burst, StoryDays, deviation.Deviation{Z: 2.1})
	if got := told(); got != [3]string{"d2", "s1", "b3"} {
		t.Errorf("four weeks later: %v", got)
	}
}

func TestNothingGrowsWithoutBounds(t *testing.T) {
	b := New(rome(t))
	for i := range 1000 {
		at := start.Add(time.Duration(i) * time.Hour)
		apply(t, b, event(t, topics.Digests, "/p", i+1, fmt.Sprint(i), timing.DigestType, at, timing.Digest{Minute: at, Cells: []timing.Cell{{Channel: fmt.Sprint("c", i%300), Segment: fmt.Sprint("s", i), Engaged: 1, Expected: 1, How: 500}, {Channel: fmt.Sprint("c", i%300), Segment: fmt.Sprint("s", i), Engaged: 1, Expected: 1, How: timing.HourOfWeek((at.Unix() - 4*86400) / 3600)}}, Response: make([]uint32, 5000)}))
		apply(t, b, event(t, topics.Deviations, "/q", i+1, fmt.Sprint("v", i), deviation.Type, at, deviation.Deviation{Kind: timing.Burst}))
	}
	b.Tick()
	if len(b.series) > 3*maxSeries || len(b.deviations.recent) != 1 || len(b.deviations.recent[timing.Burst].rows) > kept || len(b.deviations.shown) > Shown || len(b.days[uint64(b.Figures().Today)%maxDays].responses) > maxBins {
		t.Errorf("%d series, %d rows, %d shown", len(b.series), len(b.deviations.recent[timing.Burst].rows), len(b.deviations.shown))
	}
	if got := b.Week(Filter{}).All.Engaged; got != 168-1 {
		t.Errorf("folding segments together loses counts: %v engaged hours in the last week, want 167", got)
	}
}

func TestAFeedShowsTheNewestAndSamplesACrowd(t *testing.T) {
	b := New(rome(t))
	seq := 0
	add := func(id string, at time.Time) {
		seq++
		apply(t, b, event(t, topics.Deviations, "/q", seq, id, deviation.Type, at, deviation.Deviation{Kind: timing.Burst}))
	}
	for i := range 200 { // out of order, as partitions are read
		add(fmt.Sprint("old", i), start.Add(time.Duration(i*37%200)*time.Minute))
	}
	if rows, _ := b.Tick(); len(rows) != Shown || !rows[0].Time.Equal(start.Add(199*time.Minute)) || rows[Shown-1].Time.Before(start.Add(150*time.Minute)) {
		t.Errorf("the first look shows %d rows, the newest of %v", len(rows), rows[0].Time)
	}
	for i := range 100 {
		add(fmt.Sprint("new", i), start.Add(201*time.Minute))
	}
	rows, _ := b.Tick()
	f := b.Deviations()
	if len(rows) != perTick || f.OneIn != 20 || f.LastHour != 100+58 || len(f.Rows) != Shown {
		t.Errorf("of 100 rows in a second %d are shown, 1 in %v, %d in the last hour", len(rows), f.OneIn, f.LastHour)
	}
	for i := 1; i < len(f.Rows); i++ {
		if f.Rows[i].Time.After(f.Rows[i-1].Time) {
			t.Fatalf("row %d is newer than the one above", i)
		}
	}
	if rows, _ := b.Tick(); len(rows) != 0 {
		t.Errorf("%d rows out of nothing", len(rows))
	}
}

func TestARareKindIsNotPushedOutByACommonOne(t *testing.T) {
	b := New(rome(t))
	add := func(seq int, kind string) {
		apply(t, b, event(t, topics.Deviations, "/q", seq, fmt.Sprint("v", seq), deviation.Type, start.Add(time.Duration(seq)*time.Minute), deviation.Deviation{Kind: kind}))
	}
	add(1, timing.Drift)
	for i := range 2 * kept {
		add(2+i, timing.Burst)
	}
	rows := b.Customer("C-1")
	if len(rows) != kept+1 || rows[kept].Kind != timing.Drift || rows[0].ID != fmt.Sprint("v", 1+2*kept) {
		t.Errorf("%d rows, the oldest a %s", len(rows), rows[len(rows)-1].Kind)
	}
}

func TestAnOutcomeJoinsItsDecision(t *testing.T) {
	b := New(rome(t))
	d := decision.Decision{Reason: decision.Burst, ExpiresAt: start.Add(time.Hour), MadeFrom: decision.MadeFrom{Policy: "p1"}}
	apply(t, b,
		event(t, topics.Decisions, "/d", 1, "d-1", decision.SendNowType, start, d),
		event(t, topics.Outcomes, "/o", 1, "o-1", decision.OutcomeType, start, decision.Outcome{Decision: "d-1", Connector: "webhook", Result: decision.Attempting}),
		event(t, topics.Outcomes, "/o", 2, "o-2", decision.OutcomeType, start, decision.Outcome{Decision: "d-1", Connector: "webhook", Result: decision.Accepted}),
		event(t, topics.Outcomes, "/o2", 1, "o-1", decision.OutcomeType, start, decision.Outcome{Decision: "d-1", Connector: "webhook", Result: decision.Attempting}),
	)
	b.Tick()
	f := b.Decisions()
	if len(f.Rows) != 1 || f.Rows[0].Kind != "send_now" || f.Rows[0].Outcome == nil || f.Rows[0].Outcome.Result != decision.Accepted || f.SentNow != 1 {
		t.Errorf("the decision's row: %+v", f.Rows)
	}
	if rows := b.Customer("C-1"); len(rows) != 1 || rows[0].Outcome == nil {
		t.Errorf("the customer's rows: %+v", rows)
	}
}

func TestWhatCannotBeReadIsAnErrorAndChangesNothing(t *testing.T) {
	b := New(rome(t))
	for _, r := range []record{
		{topics.Digests, []byte("not json")},
		{topics.Digests, []byte(`{"specversion":"1.0","id":"x","source":"/p","type":"t","time":"2026-12-03T09:00:00Z","datacontenttype":"application/json","sequence":"00000000000000000001.000","data":[]}`)},
		{topics.Decisions, []byte(`{"specversion":"1.0","id":"x","source":"/p","type":"t","time":"2026-12-03T09:00:00Z","data":{}}`)},
		{topics.Outcomes, []byte(`{"specversion":"1.0","id":"x","source":"/p","type":"t","time":"2026-12-03T09:00:00Z","data":{}}`)},
		{topics.Models, []byte(`{"specversion":"1.0","id":"x","source":"/p","type":"t","time":"2026-12-03T09:00:00Z","data":{"version":"bad"}}`)},
		{topics.Policies, []byte(`{"specversion":"1.0","id":"x","source":"/p","type":"t","time":"2026-12-03T09:00:00Z","data":{"version":"bad"}}`)},
	} {
		if err := b.Apply(r.topic, r.value); err == nil {
			t.Errorf("%s: %s is accepted", r.topic, r.value)
		}
	}
	if !b.Clock().IsZero() || len(b.seen) != 0 {
		t.Errorf("the clock is %v, %d positions are kept", b.Clock(), len(b.seen))
	}
}
