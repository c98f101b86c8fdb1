package ingest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

const (
	formerKey = "the-key-of-before-long-enough"
	newerKey  = "the-key-from-now-on-long-enough"
	newestKey = "the-key-of-the-year-after-long-enough"
)

// said is all that the ways in append of a customer, by topic: the ids under which, and what.
func (r *rig) said(who string) (names map[string]bool, requests []string) {
	r.t.Helper()
	names = map[string]bool{}
	r.answered(r.send("/v1/events", structured, event("a-"+who, who)))
	requests = r.answered(r.send("/v1/requests", plainJSON, strings.Replace(placed, "C-1", who, 1))).IDs
	r.answered(r.send("/v1/customers", plainJSON, fmt.Sprintf(`[{"subject":%q,"data":{}},{"subject":%q,"data":null}]`, who, who)))
	r.answered(r.send("/v1/consents", plainJSON, fmt.Sprintf(`{"subject":%q,"data":{"mailing":{"granted":true}}}`, who)))
	for _, topic := range []string{topics.Events, topics.Requests, topics.Attributes, topics.Consents} {
		for _, record := range r.appended(topic) {
			name := string(record.Key)
			names[name] = true
			if len(record.Value) == 0 { // nothing is known any more
				continue
			}
			if e, err := stream.ParseEvent(record.Value); err != nil || e.Subject != name || topic == topics.Requests && e.ID != requests[0] {
				r.t.Errorf("%s: %q: %s, %v", topic, name, record.Value, err)
			}
		}
	}
	return names, requests
}

// TestKeysAreExchanged: who was known before a key was exchanged stays who he is, whichever way what concerns him comes in, and
// what has no id gets the one that it had; who is new is known under the newest key.
func TestKeysAreExchanged(t *testing.T) {
	const anna, bruno, carla = "anna@example.com", "bruno@example.com", "carla@example.com"
	before := newRig(t, Config{Pseudonym: formerKey})
	_, wasPlaced := before.said(anna)
	under := func(keys config.Secret, who string) string { return Pseudonyms(keys, who)[0] }
	known := map[string]timing.Pixel{
		under(formerKey, anna):  {At: clock.Add(-time.Hour).UnixMilli()},
		under(newerKey, carla):  {At: clock.Add(-time.Hour).UnixMilli(), Granted: true},
		under(formerKey, carla): {At: clock.Add(-time.Hour).UnixMilli()}, // who has two is who he was last
	}
	for _, keys := range []config.Secret{newerKey + "," + formerKey, newestKey + "\n" + newerKey + "\n" + formerKey + "\n"} {
		for who, want := range map[string]string{anna: under(formerKey, anna), bruno: under(keys, bruno), carla: under(newerKey, carla)} {
			r := newRig(t, Config{Pseudonym: keys, Pixels: config.Pixels{Consent: "required"}})
			r.registered(known)
			names, requests := r.said(who)
			if len(names) != 1 || !names[want] {
				t.Errorf("%s is known as %v, want %s", who, names, want)
			}
			if who == anna && requests[0] != wasPlaced[0] {
				t.Errorf("the request is %s now, and was %s", requests[0], wasPlaced[0])
			}
			if b := r.best(r.ask(who, "channel", "email")); b.Customer != want {
				t.Errorf("the best times are those of %s, want %s", b.Customer, want)
			}
			// What was answered under the key of before counts.
			r.send("/v1/events", plainJSON, openedBy(who, 0))
			opens := 0
			for _, e := range r.events(topics.Events) {
				if e.ID == "o-"+who && e.Kind == engagement.Open {
					opens++
				}
			}
			if allowed := who == carla; (opens == 1) != allowed {
				t.Errorf("of %s %d opens were taken", who, opens)
			}
		}
	}
}

// TestTheIDOfAnEventTellsNobodysAddress: an id that was made of an address does not let it be tried out. Who was known before a key was
// exchanged keeps the ids of his events, so that one that is told again is the same; and senders' own ids stay.
func TestTheIDOfAnEventTellsNobodysAddress(t *testing.T) {
	const who = "anna@example.com"
	told := func(keys config.Secret) (theirs, own string) {
		r := newRig(t, Config{Pseudonym: keys})
		r.registered(map[string]timing.Pixel{Pseudonyms(formerKey, who)[0]: {}})
		e := new(engagement.Event)
		if err := e.Parse([]byte(event("a", who))); err != nil {
			t.Fatal(err)
		}
		e.ID = webhook.ID("brevo", "m-1", who, "opened", clock, "")
		var b batch
		r.server.gather(&b, &provider{name: "brevo"}, []webhook.Element{{Event: e}}, nil, nil, "")
		if err := r.server.settle(t.Context(), &b); err != nil || len(b.messages) != 1 {
			t.Fatalf("%d messages, %v", len(b.messages), err)
		}
		first, err := stream.ParseEvent(b.messages[0].Value)
		if err != nil {
			t.Fatal(err)
		}
		theirs = strings.Clone(first.ID)
		r.answered(r.send("/v1/events", structured, event("their-own", who)))
		return theirs, r.events(topics.Events)[0].ID
	}
	plain, _ := told("")
	former, own := told(formerKey)
	newer, _ := told(newerKey)
	both, _ := told(newerKey + "," + formerKey)
	if plain != webhook.ID("brevo", "m-1", who, "opened", clock, "") || former == plain || newer == former || both != former || own != "their-own" {
		t.Errorf("without a key %s, with one %s, with another %s, with both %s; a sender's own is %s", plain, former, newer, both, own)
	}
}

// TestADeletionIsUnderEveryKey: whoever may have two profiles, because a key was exchanged just when he came for the first time, is
// forgotten under both; and nobody has to be asked.
func TestADeletionIsUnderEveryKey(t *testing.T) {
	const keys = newerKey + "," + formerKey
	r := newRig(t, Config{Pseudonym: keys})
	var b batch
	hubspot := &provider{name: "hubspot"}
	r.server.gather(&b, hubspot, []webhook.Element{{Erase: &webhook.Erase{Customer: "7", Before: clock}}}, nil, nil, "")
	if err := r.server.withhold(t.Context(), &b); err != nil || b.erased != 1 {
		t.Fatalf("%d erased, %v", b.erased, err)
	}
	if err := r.server.keep(t.Context(), topics.Events, hubspot, &b); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{topics.Erasures, topics.Attributes} {
		got := map[string]bool{}
		for _, record := range r.appended(topic) {
			got[string(record.Key)] = true
		}
		if names := Pseudonyms(keys, "7"); len(got) != 2 || !got[names[0]] || !got[names[1]] {
			t.Errorf("%s: %v", topic, got)
		}
	}
}

// TestNobodyIsTakenForSomebodyNew: where it cannot be looked up under which key a customer is known, nothing is taken, nor lost.
func TestNobodyIsTakenForSomebodyNew(t *testing.T) {
	r := newRig(t, Config{Pseudonym: newerKey + "," + formerKey}) // no profiler has run
	for way, send := range map[string]func() *http.Response{
		"/v1/events":    func() *http.Response { return r.send("/v1/events", structured, event("a", "C-1")) },
		"/v1/requests":  func() *http.Response { return r.send("/v1/requests", plainJSON, placed) },
		"/v1/customers": func() *http.Response { return r.send("/v1/customers", plainJSON, `{"subject":"C-1","data":null}`) },
		"best times":    func() *http.Response { return r.ask("C-1", "channel", "email") },
	} {
		if response := send(); response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: status %d", way, response.StatusCode)
		}
	}
	for _, topic := range []string{topics.Events, topics.Requests, topics.Attributes} {
		if n := len(r.appended(topic)); n != 0 {
			t.Errorf("%d records on %s", n, topic)
		}
	}
}

// TestWhatIsTooLargeLeavesNoDoubt: an event that is refused takes nobody else's place.
func TestWhatIsTooLargeLeavesNoDoubt(t *testing.T) {
	const keys = newerKey + "," + formerKey
	r := newRig(t, Config{Pseudonym: keys})
	anna := Pseudonyms(keys, "anna@example.com")[1]
	r.registered(map[string]timing.Pixel{anna: {}, Pseudonyms(keys, "large@example.com")[1]: {}})
	var b batch
	large, small := new(engagement.Event), new(engagement.Event)
	for who, e := range map[string]*engagement.Event{"large@example.com": large, "anna@example.com": small} {
		if err := e.Parse([]byte(event("a", who))); err != nil {
			t.Fatal(err)
		}
	}
	large.Link = strings.Repeat("x", engagement.MaxEvent)
	if r.server.add(&b, large, origin{}, "") == nil {
		t.Fatal("it is not too large")
	}
	if err := r.server.add(&b, small, origin{}, ""); err != nil {
		t.Fatal(err)
	}
	if err := r.server.settle(t.Context(), &b); err != nil || len(b.messages) != 1 || string(b.messages[0].Key) != anna {
		t.Errorf("%v, %d messages", err, len(b.messages))
	}
}

func TestValidatePseudonyms(t *testing.T) {
	for keys, want := range map[config.Secret]string{
		"":                                 "",
		newerKey:                           "",
		newerKey + ", " + formerKey:        "",
		"short," + formerKey:               "key 1 has fewer than 16",
		formerKey + "," + formerKey:        "key 2 stands there already",
		",":                                "has no key",
		newerKey + "\n" + formerKey + "\n": "",
	} {
		if err := ValidatePseudonyms(keys); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", string(keys), err)
		}
	}
}
