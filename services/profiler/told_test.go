package profiler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
)

// pixel is what the attributes say of pixels; nothing where the answer is empty.
func pixel(who, answer string, after time.Duration) stream.Record {
	if answer == "" {
		return attributes(who, `{}`)
	}
	return attributes(who, fmt.Sprintf(`{"consents":{"pixel":{"granted":%v,"at":%q}}}`, answer == "yes", start.Add(after).Format(time.RFC3339)))
}

func erasure(who, signal string, after time.Duration) stream.Record {
	x := customer.Erasure{Signals: []string{signal}, Before: start.Add(after)}
	e := stream.Event{ID: fmt.Sprint("er-", who, signal, after), Source: "/test", Type: customer.ErasureType, Subject: who, Time: x.Before, Data: x.Append(nil)}
	return stream.Record{Topic: topics.Erasures, Key: []byte(who), Value: e.Append(nil)}
}

// ordered lists the erasures among outputs.
func ordered(t testing.TB, out []streamtest.Output) (all []customer.Erasure) {
	for _, o := range out {
		if o.Topic != topics.Erasures {
			continue
		}
		var x customer.Erasure
		if err := x.Parse(o.Event.Data); err != nil || o.Event.Type != customer.ErasureType || o.Event.Subject != string(o.Key) {
			t.Fatalf("%+v: %v", o.Event, err)
		}
		all = append(all, x)
	}
	return all
}

const day = 24 * time.Hour

// TestRefusal: who refuses pixels is forgotten at once, is told of to everybody else, and is known from then on by what needs no
// pixel.
func TestRefusal(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	for i := range 40 {
		pipe(d, event(engagement.Delivered, "anna", fmt.Sprint("m-", i), time.Duration(i)*day))
		pipe(d, event(engagement.Open, "anna", fmt.Sprint("m-", i), time.Duration(i)*day+11*time.Hour))
	}
	out := d.Pipe(pixel("anna", "no", 30*day+time.Hour))
	if got := ordered(t, out); len(got) != 1 || !got[0].Before.Equal(start.Add(30*day+time.Hour)) || got[0].All() || got[0].Reason != withdrawn {
		t.Fatalf("ordered %+v", got)
	}
	if p := d.State("anna"); len(p.Channels) != 0 || p.Pixel().At == 0 || p.Pixel().Granted {
		t.Fatalf("%+v is left, although some of it came after the answer and before we knew", p)
	}
	if got := d.Pipe(pixel("anna", "no", 30*day+time.Hour)); len(got) != 0 {
		t.Errorf("an answer that is told again orders %+v", got)
	}
	forgotten := d.State("anna").Append(nil)
	pipe(d, event(engagement.Open, "anna", "m-35", 41*day))   // not consented
	pipe(d, event(engagement.Click, "anna", "m-10", 29*day))  // of before
	pipe(d, event(engagement.Delivered, "anna", "", 29*day))  // of before
	pipe(d, event(engagement.Bounce, "anna", "m-20", 29*day)) // of before, and of no profile's concern
	if !bytes.Equal(forgotten, d.State("anna").Append(nil)) {
		t.Error("what is not to be learned was learned")
	}
	totals := d.Partition().totals
	if totals.Unconsented != 1 || totals.Erased != 3 || totals.Accepted != 80 {
		t.Errorf("%+v", totals)
	}
	pipe(d, event(engagement.Delivered, "anna", "m-41", 41*day))
	pipe(d, event(engagement.Click, "anna", "m-41", 41*day+time.Hour))
	pipe(d, event(engagement.Reply, "anna", "m-41", 41*day+3*time.Hour))
	if v := d.State("anna").View(timing.Builtin(), "email", 2928*timing.Week); v.Evidence.EngagedDays != 1 || v.Evidence.Deliveries != 1 {
		t.Errorf("of a delivery, a click and a reply stands in the profile: %+v", v.Evidence)
	}
	out = d.Pipe(pixel("anna", "yes", 42*day))
	if got := ordered(t, out); len(got) != 1 || !got[0].Before.Equal(start.Add(42*day)) || got[0].Reason != renewed {
		t.Fatalf("ordered %+v", got)
	}
	pipe(d, event(engagement.Open, "anna", "m-41", 41*day+5*time.Hour)) // of before the consent
	if p := d.State("anna"); len(p.Channels) != 0 || p.Pixel().At != 0 && !p.Pixel().Granted {
		t.Errorf("the profile does not begin anew: %+v", p)
	}
	pipe(d, event(engagement.Open, "anna", "m-43", 43*day))
	if p := d.State("anna"); len(p.Channels) != 1 {
		t.Error("a consented open is not learned")
	}
	if got := d.Pipe(pixel("anna", "yes", 42*day)); len(got) != 0 {
		t.Errorf("a consent that is told again orders %+v", got)
	}
	if got := d.Pipe(pixel("bert", "yes", 0)); len(got) != 0 {
		t.Errorf("a consent of somebody who never refused orders %+v", got)
	}
}

// TestRefusalLapses: where the refusal is not told any more, opens of meanwhile stay unlearned, also where they come late.
func TestRefusalLapses(t *testing.T) {
	gone := stream.Record{Topic: topics.Attributes, Key: []byte("anna")}
	for name, r := range map[string]stream.Record{"another record": pixel("anna", "", 0), "no record": gone} {
		t.Run(name, func(t *testing.T) {
			d := driver(t, Config{ScoredBelow: .1})
			d.Pipe(attributes("anna", `{"zone":"Asia/Tokyo","segment":"premium","consents":{"pixel":{"granted":false,"at":"2026-01-05T00:00:00Z"}}}`))
			pipe(d, event(engagement.Click, "anna", "", 9*day))
			if got := ordered(t, d.Pipe(r)); len(got) != 1 || !got[0].Before.Equal(start.Add(9*day)) || got[0].Reason != lapsed {
				t.Errorf("ordered %+v", got)
			}
			pipe(d, event(engagement.Open, "anna", "", 9*day-time.Hour))
			if p := d.State("anna"); len(p.Channels) != 0 || p.Pixel().At != 0 || p.Zone != "" || p.Segment != "" {
				t.Errorf("%+v", p)
			}
		})
	}
}

// TestRefusedCountForNobody: mail to customers whose opens nobody sees is not held against what mail of everybody lets expect.
func TestRefusedCountForNobody(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	for i := range 200 {
		who := fmt.Sprint("c-", i)
		d.Pipe(pixel(who, "no", -day))
		pipe(d, event(engagement.Delivered, who, "m-1", 0))
		pipe(d, event(engagement.Open, who, "m-1", 2*time.Minute))
		pipe(d, event(engagement.Click, who, "m-1", 4*time.Minute))
	}
	d.Pipe(erasure("c-0", customer.SignalOpen, time.Hour))
	pipe(d, event(engagement.Reply, "c-0", "m-1", 6*time.Minute))
	var g timing.Digest
	out := pipe(d, event(engagement.Sent, "bert", "", 2*time.Hour))
	if err := json.Unmarshal(out[len(out)-1].Event.Data, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Cells) != 0 || g.Events != (timing.Events{Human: 400, Unconsented: 200, Erased: 1}) {
		t.Errorf("%+v", g)
	}
}

// TestEverythingIsErased: nothing is left of a customer but the instant of before which nothing is taken any more.
func TestEverythingIsErased(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	d.Pipe(attributes("anna", `{"zone":"Asia/Tokyo","segment":"premium"}`))
	pipe(d, event(engagement.Open, "anna", "m-1", 0))
	d.Pipe(erasure("anna", customer.SignalAll, day))
	if p := d.State("anna"); len(p.Channels) != 0 || p.Zone != "" || p.Home != "" || p.Segment != "" {
		t.Errorf("%+v is left", p)
	}
	left := d.State("anna").Append(nil)
	if len(left) > 20 {
		t.Errorf("%d bytes are left", len(left))
	}
	before := event(engagement.Click, "anna", "m-1", time.Hour)
	before.Zone = "Europe/Paris"
	pipe(d, before)
	d.Pipe(erasure("anna", customer.SignalAll, day))
	d.Pipe(erasure("anna", customer.SignalOpen, time.Hour))
	if !bytes.Equal(left, d.State("anna").Append(nil)) {
		t.Error("what was erased comes back")
	}
	for i := range timing.MaxChannels {
		after := event(engagement.Click, "anna", "m-1", 2*day)
		after.Channel = fmt.Sprint("c", i)
		pipe(d, after)
	}
	if out := pipe(d, before); len(out) != 0 { // in a ninth channel
		t.Errorf("what an erased customer did stands in %+v", out)
	}
	bad := erasure("anna", customer.SignalAll, day)
	bad.Key = []byte("bert")
	if out := d.Pipe(bad); len(out) != 1 || out[0].Topic != "customer.erasures.v1.dlq" {
		t.Errorf("%+v", out)
	}
}

// TestWhatIsToldMovesNoClock: a replay tells it before all events, whatever time it is of.
func TestWhatIsToldMovesNoClock(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	pipe(d, event(engagement.Click, "bert", "", 0))
	d.Pipe(erasure("anna", customer.SignalOpen, 90*day))
	late := stream.Event{ID: "crm-9", Source: "/crm", Type: customer.Type, Subject: "anna", Time: start.Add(90 * day), Data: []byte(`{"consents":{"pixel":{"granted":false,"at":"2027-01-01T00:00:00Z"}}}`)}
	out := d.Pipe(stream.Record{Topic: topics.Attributes, Key: []byte("anna"), Value: late.Append(nil)})
	if len(out) != 1 || !out[0].Event.Time.Equal(start) || !d.Now().Equal(start) {
		t.Errorf("the clock stands at %s after %+v", d.Now(), out)
	}
}

// line is a record of a history, of an instant.
type line struct {
	stream.Record
	at   time.Duration
	open bool
}

// history draws what becomes of one customer: engagements nearly in order, answers and erasures in order.
func history(t *rapid.T) (events, answers, erasures []line) {
	at := time.Duration(0)
	for i := range rapid.IntRange(1, 60).Draw(t, "events") {
		at += time.Duration(rapid.IntRange(0, 3000).Draw(t, "minutes")) * time.Minute
		kind := rapid.SampledFrom([]engagement.Kind{engagement.Delivered, engagement.Open, engagement.Open, engagement.Click, engagement.Reply}).Draw(t, "kind")
		e := event(kind, "anna", fmt.Sprint("m-", i/3), at-time.Duration(rapid.IntRange(0, 4).Draw(t, "late")*rapid.IntRange(0, 30).Draw(t, "hours"))*time.Hour)
		e.ID = fmt.Sprint(e.ID, i)
		e.Zone = rapid.SampledFrom([]string{"", "Asia/Tokyo", "America/New_York"}).Draw(t, "zone")
		events = append(events, line{stream.Record{Topic: topics.Events, Key: []byte("anna"), Value: e.Append(nil)}, e.Time.Sub(start), kind == engagement.Open})
	}
	instants := func(name string, most int) []time.Duration {
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.IntRange(-10, int(at/time.Minute)+100).Draw(t, name)) * time.Minute
		}), 0, most).Draw(t, name)
		slices.Sort(all)
		return slices.Compact(all)
	}
	for _, at := range instants("answers", 4) {
		answers = append(answers, line{pixel("anna", rapid.SampledFrom([]string{"yes", "no"}).Draw(t, "answer"), at), at, false})
	}
	for _, at := range instants("erasures", 2) {
		erasures = append(erasures, line{erasure("anna", rapid.SampledFrom([]string{customer.SignalOpen, customer.SignalAll}).Draw(t, "signal"), at), at, false})
	}
	return events, answers, erasures
}

// forbidden reports whether the profile may know nothing of l in the end: of an event of before an erasure or before an answer that
// is a refusal or ends one, or an open after a refusal that nothing ended.
func forbidden(l *line, answers, erasures []line) bool {
	for _, x := range erasures {
		if l.at < x.at {
			return true
		}
	}
	refused := false
	for _, a := range answers {
		no := bytes.Contains(a.Value, []byte(`"granted":false`))
		if (no || refused) && l.at < a.at {
			return true
		}
		refused = no
	}
	return refused && l.open
}

// merge draws an interleaving that keeps the order of each topic. Where it is timely, whatever was told of an instant comes before
// the first event of after.
func merge(t *rapid.T, timely bool, events []line, others ...[]line) (all []line) {
	at := make([][]line, len(events)+1) // what comes before the event of that place
	for _, o := range others {
		place := 0
		for _, l := range o {
			limit := len(events)
			if timely {
				if i := slices.IndexFunc(events, func(e line) bool { return e.at >= l.at }); i >= 0 {
					limit = i
				}
			}
			place = rapid.IntRange(place, limit).Draw(t, "place")
			first := 0 // behind what stands there of the same topic
			for i := range at[place] {
				if at[place][i].Topic == l.Topic {
					first = i + 1
				}
			}
			at[place] = slices.Insert(at[place], rapid.IntRange(first, len(at[place])).Draw(t, "among"), l)
		}
	}
	for i, told := range at {
		all = append(all, told...)
		if i < len(events) {
			all = append(all, events[i])
		}
	}
	return all
}

// profile is what the profiler holds of the customer after lines, and the erasures that it ordered.
func profile(t testing.TB, lines []line) (stored []byte, more []line) {
	d := driver(t, Config{ScoredBelow: .1})
	for _, l := range lines {
		for _, x := range ordered(t, d.Pipe(l.Record)) {
			at := x.Before.Sub(start)
			more = append(more, line{erasure("anna", x.Signals[0], at), at, false})
		}
	}
	return d.State("anna").Append(nil), more
}

// TestWhatIsErasedLeavesNoTrace: whatever the order in which events, answers and erasures come, the profile is in the end the one of
// a customer who never did what is erased or not consented, byte for byte.
func TestWhatIsErasedLeavesNoTrace(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		events, answers, erasures := history(r)
		all := merge(r, false, events, answers, erasures)
		without := slices.DeleteFunc(slices.Clone(all), func(l line) bool {
			return l.Topic == topics.Events && forbidden(&l, answers, erasures)
		})
		got, _ := profile(t, all)
		want := new(timing.Profile).Append(nil)
		if len(without) > 0 {
			want, _ = profile(t, without)
		}
		if !bytes.Equal(got, want) {
			r.Fatalf("of %d lines, %d of them allowed, the profile is\n%x, and without what is erased\n%x", len(all), len(without), got, want)
		}
	})
}

// TestErasuresComeInAnyOrder: as long as whatever is told of an instant comes before the events of after, the profile does not depend
// on the order.
func TestErasuresComeInAnyOrder(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		events, answers, erasures := history(r)
		a, _ := profile(t, merge(r, true, events, answers, erasures))
		b, _ := profile(t, merge(r, true, events, answers, erasures))
		if !bytes.Equal(a, b) {
			r.Fatalf("%x in one order, %x in another", a, b)
		}
	})
}

// TestAReplayBringsNothingBack: a new run that is given the events, the erasures of the first one and of the answers only the last, for
// the others are compacted away, ends with the same profile; and with nothing erased in it, whatever comes first.
func TestAReplayBringsNothingBack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		events, answers, erasures := history(r)
		first, more := profile(t, merge(r, true, events, answers, erasures))
		last := answers[max(0, len(answers)-1):]
		logged := slices.Concat(erasures, more)
		slices.SortStableFunc(logged, func(a, b line) int { return int(a.at - b.at) })

		if again, _ := profile(t, merge(r, true, events, last, logged)); !bytes.Equal(first, again) {
			r.Fatalf("%x is replayed as %x", first, again)
		}
		all := merge(r, false, events, last, logged)
		without := slices.DeleteFunc(slices.Clone(all), func(l line) bool {
			return l.Topic == topics.Events && forbidden(&l, answers, erasures)
		})
		got, _ := profile(t, all)
		if len(without) == 0 {
			return
		}
		if want, _ := profile(t, without); !bytes.Equal(got, want) {
			r.Fatalf("a replay in another order holds\n%x, and without what is erased\n%x", got, want)
		}
	})
}
