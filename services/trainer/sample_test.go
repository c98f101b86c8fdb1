package trainer

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/domain/timing/fit"
	"github.com/tempismo/tempismo/pkg/stream"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC) // a Monday

func record(e engagement.Event) *stream.Record {
	return &stream.Record{Key: []byte(e.Subject), Value: e.Append(nil)}
}

// both is all histories of a sample, by customer and segment.
func both(s *sample) ([]fit.History, Counted) {
	learn, judge, counts := s.histories()
	all := append(learn, judge...)
	slices.SortStableFunc(all, func(a, b fit.History) int {
		if a.Customer < b.Customer {
			return -1
		}
		return 1
	})
	return all, counts
}

// TestTheSampleIsBounded: of many customers those with the smallest hashes stay, of many events the newest, and it is the same
// sample in whatever order partitions come.
func TestTheSampleIsBounded(t *testing.T) {
	const customers, most, events = 200, 30, 60
	var all []engagement.Event
	ids := named("c", customers, false)
	for _, id := range ids {
		for d := range 100 {
			all = append(all, event(id, fmt.Sprint("m", d), engagement.Open, noon.AddDate(0, 0, d)))
		}
	}
	slices.SortFunc(ids, func(a, b string) int {
		if timing.Hash(a, 0, sampling) < timing.Hash(b, 0, sampling) {
			return -1
		}
		return 1
	})
	want := slices.Sorted(slices.Values(ids[:most]))
	var first []fit.History
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 0))
		slices.SortStableFunc(all, func(a, b engagement.Event) int { return a.Time.Compare(b.Time) })
		if seed > 0 { // as if each customer were a partition of their own
			order := map[string]int{}
			for i, j := range r.Perm(customers) {
				order[ids[i]] = j
			}
			slices.SortStableFunc(all, func(a, b engagement.Event) int { return order[a.Subject] - order[b.Subject] })
		}
		s := newSample(Fitting{Customers: most, Events: events}, time.UTC, time.Time{}, true)
		for i := range all {
			s.add(record(all[i]))
			if len(s.by) > most || len(s.heap) > most {
				t.Fatalf("%d customers are held", len(s.by))
			}
			if i%97 > 0 {
				continue
			}
			for _, c := range s.heap {
				if len(c.moments) > events+events/slack {
					t.Fatalf("%d events of a customer are held", len(c.moments))
				}
			}
		}
		got, counts := both(s)
		var names []string
		for _, h := range got {
			names = append(names, h.Customer)
			if n := len(h.Events); n != events || h.Events[n-1].Hour-h.Events[0].Hour != 24*(events-1) {
				t.Errorf("%s has %d events over %d hours, not the newest %d", h.Customer, n, h.Events[n-1].Hour-h.Events[0].Hour, events)
			}
		}
		if !slices.Equal(names, want) {
			t.Errorf("the sample is %v, want %v", names, want)
		}
		if counts.Customers != most || counts.Events != most*events || counts.Dropped != most*(100-events) || counts.Records != int64(len(all)) {
			t.Errorf("counted %+v", counts)
		}
		if first == nil {
			first = got
		} else if !reflect.DeepEqual(got, first) {
			t.Error("another order of partitions gives another sample")
		}
	}
}

// TestHistories: what becomes of the events of one customer.
func TestHistories(t *testing.T) {
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	of := func(kind engagement.Kind, message string, d time.Duration, change ...func(*engagement.Event)) engagement.Event {
		e := event("c", message, kind, at(d))
		e.Zone = ""
		for _, f := range change {
			f(&e)
		}
		return e
	}
	zone := func(name string) func(*engagement.Event) { return func(e *engagement.Event) { e.Zone = name } }
	base, _ := calendar.LocalHour(noon, time.UTC)
	open, mail := engagement.Open, engagement.Delivered
	for _, row := range []struct {
		sentence string
		events   []engagement.Event
		want     []fit.Event // hours from noon UTC
		counts   Counted     // machine, late, unreadable; events, where given
	}{
		{
			"an engagement knows the age of its message", []engagement.Event{of(mail, "m", 0), of(open, "m", 5*time.Hour+59*time.Minute), of(open, "other", 9*time.Hour)},
			[]fit.Event{{Hour: 0, Delivered: true}, {Hour: 5, Minute: 59, Age: 5}, {Hour: 9, Age: fit.UnknownAge}}, Counted{},
		},
		{
			"what repeats within an hour is one, at its first minute", []engagement.Event{of(mail, "m", 0), of(mail, "n", time.Minute), of(open, "m", 130*time.Minute), of(open, "m", 121*time.Minute), of(open, "n", 178*time.Minute)},
			[]fit.Event{{Hour: 0, Delivered: true}, {Hour: 2, Minute: 1, Age: 2}}, Counted{Events: 3},
		},
		{
			"what comes late stands in its place", []engagement.Event{of(open, "m", 50*time.Hour), of(open, "n", 10*time.Hour)},
			[]fit.Event{{Hour: 10, Age: fit.UnknownAge}, {Hour: 50, Age: fit.UnknownAge}}, Counted{},
		},
		{
			"what comes a week late is not counted", []engagement.Event{of(open, "m", 200*time.Hour), of(open, "n", 32*time.Hour), of(open, "n", 33*time.Hour)},
			[]fit.Event{{Hour: 33, Age: fit.UnknownAge}, {Hour: 200, Age: fit.UnknownAge}}, Counted{Late: 1},
		},
		{
			"machines are left out: flagged, and too soon after the delivery", []engagement.Event{
				of(mail, "m", 0), of(open, "m", 5*time.Second), of(open, "m", 40*time.Second), of(open, "m", 3*time.Hour, func(e *engagement.Event) { e.Actor = engagement.Machine }),
				of(open, "m", 4*time.Hour, func(e *engagement.Event) { e.Actor = engagement.Probable }), of(open, "m", 6*time.Hour),
			},
			[]fit.Event{{Hour: 0, Delivered: true}, {Hour: 6, Age: 6}}, Counted{Machine: 4},
		},
		{
			"only deliveries and engagements count", []engagement.Event{of(engagement.Sent, "m", 0), of(engagement.Bounce, "m", time.Hour), of(engagement.Unsubscribe, "m", 2*time.Hour), of(engagement.Reply, "m", 3*time.Hour)},
			[]fit.Event{{Hour: 3, Age: fit.UnknownAge}}, Counted{},
		},
		{
			"hours are local, by the zone that events name, and before they do by the one that they will", []engagement.Event{of(open, "a", 0), of(open, "b", 24*time.Hour, zone("Asia/Kolkata")), of(open, "c", 48*time.Hour)},
			[]fit.Event{{Hour: 5, Minute: 30, Age: fit.UnknownAge}, {Hour: 29, Minute: 30, Age: fit.UnknownAge}, {Hour: 53, Minute: 30, Age: fit.UnknownAge}}, Counted{},
		},
		{
			"a zone that does not exist is set aside, as by the profiler", []engagement.Event{of(open, "a", 0, zone("Mars/Olympus"))},
			nil, Counted{Unreadable: 1},
		},
		{
			"old history is left out", []engagement.Event{of(open, "a", -400*24*time.Hour), of(open, "b", 0)},
			[]fit.Event{{Hour: 0, Age: fit.UnknownAge}}, Counted{},
		},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			s := newSample(Fitting{Customers: 10, Events: 100}, time.UTC, time.Time{}, true)
			for _, e := range row.events {
				s.add(record(e))
			}
			all, counts := both(s)
			var got []fit.Event
			for _, h := range all {
				got = append(got, h.Events...)
			}
			for i := range got {
				got[i].Hour -= base
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("got  %+v\nwant %+v", got, row.want)
			}
			if counts.Machine != row.counts.Machine || counts.Late != row.counts.Late || counts.Unreadable != row.counts.Unreadable || row.counts.Events > 0 && counts.Events != row.counts.Events {
				t.Errorf("counted %+v, want %+v", counts, row.counts)
			}
		})
	}
}

func TestChannelsAreHistoriesOfTheirOwn(t *testing.T) {
	s := newSample(Fitting{Customers: 10, Events: 100}, time.UTC, time.Time{}, true)
	for i, channel := range []string{"email", "sms", "email"} {
		e := event("c", "", engagement.Click, noon.Add(time.Duration(i)*time.Hour))
		e.Channel = channel
		s.add(record(e))
	}
	all, counts := both(s)
	if len(all) != 2 || len(all[0].Events) != 2 || len(all[1].Events) != 1 || counts.Customers != 1 {
		t.Errorf("%+v of %d customers", all, counts.Customers)
	}
}

func TestWhatIsNoEventIsCountedAndLeftOut(t *testing.T) {
	s := newSample(Fitting{Customers: 10, Events: 100}, time.UTC, noon, true)
	good := event("c", "m", engagement.Open, noon)
	s.add(&stream.Record{Key: []byte("c"), Value: []byte("{")})
	s.add(&stream.Record{Key: []byte("somebody else"), Value: good.Append(nil)})
	future := event("c", "m", engagement.Open, noon.Add(2*time.Minute))
	s.add(record(future))
	if all, counts := both(s); len(all) != 0 || counts.Unreadable != 3 || counts.Records != 3 {
		t.Errorf("%+v of %+v", all, counts)
	}
}

// told is a record of what is told of a customer from outside.
func told(id, typ, data string) *stream.Record {
	e := stream.Event{ID: "1", Source: "/crm", Type: typ, Subject: id, Time: noon, Data: []byte(data)}
	return &stream.Record{Key: []byte(id), Value: e.Append(nil)}
}

func attributes(id, data string) *stream.Record { return told(id, "io.tempismo.customer.v1", data) }

// TestNoModelIsFittedOnWhatIsErased: of a customer who refuses pixels nothing is left in the sample, of one with an erasure what came
// after.
func TestNoModelIsFittedOnWhatIsErased(t *testing.T) {
	const yes, no = `{"consents":{"pixel":{"granted":true,"at":"2026-03-01T00:00:00Z"}}}`, `{"consents":{"pixel":{"granted":false,"at":"2026-03-01T00:00:00Z"}}}`
	s := newSample(Fitting{Customers: 10, Events: 100}, time.UTC, time.Time{}, true)
	for _, id := range []string{"erased", "refusing", "refused", "gone", "asked", "broken"} {
		for day := range 10 {
			s.add(record(event(id, fmt.Sprint("m-", day), engagement.Delivered, noon.AddDate(0, 0, day))))
			s.add(record(event(id, fmt.Sprint("m-", day), engagement.Open, noon.AddDate(0, 0, day).Add(2*time.Hour))))
		}
	}
	for id, answers := range map[string][]string{"refusing": {yes, no}, "refused": {no, yes}, "asked": {yes}, "gone": {no}} {
		for _, data := range answers {
			s.know(attributes(id, data))
		}
	}
	s.know(&stream.Record{Key: []byte("gone")})
	for _, id := range []string{"erased", "nobody"} {
		s.forget(told(id, "io.tempismo.erasure.v1", `{"signals":["open"],"erased_before":"2026-03-06T13:00:00Z"}`)) // between a delivery and its open
	}
	s.forget(told("broken", "io.tempismo.erasure.v1", `{"signals":["open"]}`))
	all, counts := both(s)
	got := map[string]int{}
	for _, h := range all {
		got[h.Customer] = len(h.Events)
		if h.Customer == "erased" && h.Events[0].Delivered {
			t.Error("the first that is left of an erased customer is of before the erasure")
		}
	}
	want := map[string]int{"erased": 11, "refused": 20, "gone": 20, "asked": 20, "broken": 20}
	if !reflect.DeepEqual(got, want) || counts.Erased != 9+20 || counts.Unreadable != 1 || counts.Customers != 5 {
		t.Errorf("got %v, want %v; %+v", got, want, counts)
	}
}

func TestAttributes(t *testing.T) {
	s := newSample(Fitting{Customers: 10, Events: 100}, time.UTC, time.Time{}, true)
	for _, id := range []string{"at home", "travelling", "gone", "broken"} {
		e := event(id, "m", engagement.Open, noon)
		if e.Zone = ""; id == "travelling" {
			e.Zone = "America/New_York"
		}
		s.add(record(e))
		s.know(attributes(id, `{"zone":"Asia/Tokyo","segment":"premium"}`))
	}
	s.know(attributes("nobody", `{"segment":"premium"}`))
	s.know(&stream.Record{Key: []byte("gone")})
	s.know(attributes("broken", `{"segment":7}`))
	all, counts := both(s)
	got := map[string][2]any{}
	base, _ := calendar.LocalHour(noon, time.UTC)
	for _, h := range all {
		got[h.Customer] = [2]any{h.Segment, h.Events[0].Hour - base}
	}
	want := map[string][2]any{"at home": {"premium", int64(9)}, "travelling": {"premium", int64(-5)}, "gone": {"", int64(0)}, "broken": {"premium", int64(9)}}
	if !reflect.DeepEqual(got, want) || counts.Unreadable != 1 {
		t.Errorf("got %v, want %v; %+v", got, want, counts)
	}
}

// TestTheSampleCountsWhatProfilesCount holds the sample to the profile, event by event: the same engaged hours and the same
// deliveries, whatever comes in whatever order.
func TestTheSampleCountsWhatProfilesCount(t *testing.T) {
	kinds := []engagement.Kind{engagement.Delivered, engagement.Delivered, engagement.Open, engagement.Open, engagement.Click, engagement.Reply, engagement.Bounce}
	rapid.Check(t, func(t *rapid.T) {
		s := newSample(Fitting{Customers: 1, Events: 10_000}, time.UTC, time.Time{}, true)
		w := timing.World{Model: timing.Builtin()}
		var p timing.Profile
		engaged, sent := 0, 0
		at := noon
		for i := range rapid.IntRange(1, 60).Draw(t, "events") {
			at = at.Add(time.Duration(rapid.OneOf(rapid.IntRange(-90, 90), rapid.IntRange(0, 3600*30), rapid.IntRange(-3600*250, 3600*250)).Draw(t, "seconds")) * time.Second)
			e := event("c", fmt.Sprint("m", rapid.IntRange(0, 4).Draw(t, "message")), rapid.SampledFrom(kinds).Draw(t, "kind"), at)
			e.ID, e.Zone = fmt.Sprint(i), ""
			e.Actor = engagement.Actor(rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "actor"))
			e.Link = rapid.SampledFrom([]string{"", "/a", "/b"}).Draw(t, "link")
			s.add(record(e))

			hour, minute := calendar.LocalHour(e.Time, time.UTC)
			switch { // as the profiler does
			case e.Kind == engagement.Delivered:
				r := p.Channel(e.Channel).Delivered(&w, hour).Result
				if r == timing.Counted {
					sent++
				}
				if r != timing.Late {
					p.Sent(&e)
				}
			case e.Kind.Engaged() && e.Actor != engagement.Machine && p.Answered(&e).Actor == engagement.Human:
				if p.Channel(e.Channel).Engaged(&w, hour, minute).Result == timing.Counted {
					engaged++
				}
			}
		}
		all, _ := both(s)
		got, mail := 0, 0
		for _, h := range all {
			for i, e := range h.Events {
				if e.Delivered {
					mail++
				} else {
					got++
				}
				if i > 0 && (h.Events[i-1].Hour > e.Hour) {
					t.Fatalf("hours out of order: %+v", h.Events)
				}
			}
		}
		if got != engaged || mail != sent {
			t.Fatalf("the sample has %d engaged hours and %d deliveries, the profile counted %d and %d", got, mail, engaged, sent)
		}
	})
}
