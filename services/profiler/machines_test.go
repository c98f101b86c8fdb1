package profiler

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/topics"
)

// judged is what ingest makes of an engagement with m-1, by lists of an operator's.
func judged(t *testing.T, kind engagement.Kind, after time.Duration, agent, link, addr string) *engagement.Event {
	t.Helper()
	l, err := engagement.ParseLists("date 2026-11-29\nmachine is mozilla/5.0\nprobable ends (khtml, like gecko)\nprobable network 198.51.100.0/24\nhoneypot contains /trap")
	if err != nil {
		t.Fatal(err)
	}
	e := event(kind, "anna", "m-1", after)
	e.ID, e.UserAgent, e.Link = e.ID+link, agent, link
	from, _ := netip.ParseAddr(addr)
	l.Judge(e, false, from)
	return e
}

// TestALaterClickShowsAPerson: what a machine or probably one has done is counted and not learned; what a person does to the same
// message afterwards is, and the response is measured at that.
func TestALaterClickShowsAPerson(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	var sum timing.Digest
	take := func(e *engagement.Event) {
		for _, o := range pipe(d, e) {
			if o.Topic != topics.Digests {
				continue
			}
			var g timing.Digest
			if err := json.Unmarshal(o.Event.Data, &g); err != nil {
				t.Fatal(err)
			}
			sum.Engagements += g.Engagements
			sum.ResponseCount += g.ResponseCount
			sum.ResponseSeconds += g.ResponseSeconds
		}
	}
	take(event(engagement.Delivered, "anna", "m-1", 0))
	take(judged(t, engagement.Open, 30*time.Second, "", "", ""))
	take(judged(t, engagement.Click, 5*time.Minute, "", "/a", "198.51.100.7"))
	take(judged(t, engagement.Open, time.Hour, "Mozilla/5.0", "", ""))
	take(judged(t, engagement.Open, 2*time.Hour, "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)", "", ""))
	take(event(engagement.Sent, "bert", "", 3*time.Hour)) // the clock goes on, and tells what was counted
	if got := d.Partition().totals; got.Machine != 1 || got.Probable != 3 || sum.Engagements != 0 || sum.ResponseCount != 0 {
		t.Fatalf("totals %+v, digests %+v; want one machine, three probable, nothing learned", got, sum)
	}
	take(judged(t, engagement.Click, 4*time.Hour, "", "/a", ""))
	take(judged(t, engagement.Click, 5*time.Hour, "", "/b", "198.51.100.7")) // the person's browser runs where the scanner does
	take(event(engagement.Sent, "bert", "", 6*time.Hour))
	if sum.Engagements != 2 || sum.ResponseCount != 1 || sum.ResponseSeconds != 4*3600 {
		t.Errorf("%d engagements, %d responses after %d s; want two engagements, and one response after four hours", sum.Engagements, sum.ResponseCount, sum.ResponseSeconds)
	}
}

// TestWishesAreNeverFiltered: unsubscriptions, complaints and replies are a person's however they look.
func TestWishesAreNeverFiltered(t *testing.T) {
	for _, kind := range []engagement.Kind{engagement.Unsubscribe, engagement.Complaint, engagement.Reply} {
		d := driver(t, Config{ScoredBelow: .1})
		pipe(d, event(engagement.Delivered, "anna", "m-1", 0))
		pipe(d, judged(t, kind, time.Second, "Mozilla/5.0", "/trap", "198.51.100.7"))
		if got := d.Partition().totals; got.Human != 2 || got.Probable != 0 || got.Machine != 0 {
			t.Errorf("%v: totals %+v", kind, got)
		}
	}
}

// TestClicksAroundAHoneypotAreNotLearned: the click on the honeypot is certain and counted, and so are those around it.
func TestClicksAroundAHoneypotAreNotLearned(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	pipe(d, event(engagement.Delivered, "anna", "m-1", 0))
	pipe(d, judged(t, engagement.Click, time.Hour, "", "/trap", ""))
	pipe(d, judged(t, engagement.Click, time.Hour+8*time.Second, "", "/a", ""))
	pipe(d, judged(t, engagement.Click, time.Hour-8*time.Second, "", "/b", ""))
	if got := d.Partition().totals; got.Human != 1 || got.Machine != 3 {
		t.Errorf("totals %+v, want three machines beside the delivery", got)
	}
	pipe(d, judged(t, engagement.Click, 3*time.Hour, "", "/a", ""))
	if got := d.Partition().totals; got.Human != 2 || got.Machine != 3 {
		t.Errorf("totals %+v, want the later click to be human", got)
	}
}
