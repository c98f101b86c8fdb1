package ingest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// placed is a request as people write it by hand.
const placed = `{"subject":"C-1","data":{"action":"place","channel":"email","message":"winter-preview","priority":2,"deadline":"2026-12-08T17:00:00Z","on_deviation":true}}`

// appended reads back the records of a topic.
func (r *rig) appended(topic string) []stream.Record {
	r.t.Helper()
	var all []stream.Record
	for p := range int32(partitions) {
		all = append(all, r.out.log.Records(topic, p)...)
	}
	return all
}

// answered reads the answer to what was taken.
func (r *rig) answered(response *http.Response) (answer struct {
	Accepted int
	IDs      []string
}) {
	r.t.Helper()
	if response.StatusCode != http.StatusAccepted {
		r.t.Fatalf("got status %d: %+v", response.StatusCode, r.problem(response))
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		r.t.Fatal(err)
	}
	return answer
}

var plainJSON = map[string]string{"Content-Type": "application/json"}

// What stands on the topic is what somebody would write there who does not use the API.
func TestARequestIsCompletedAndAppended(t *testing.T) {
	r := newRig(t, Config{})
	answer := r.answered(r.send("/v1/requests", plainJSON, placed))
	records := r.appended(topics.Requests)
	if answer.Accepted != 1 || len(answer.IDs) != 1 || len(records) != 1 {
		t.Fatalf("answered %+v, appended %d", answer, len(records))
	}
	e, err := stream.ParseEvent(records[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	if string(records[0].Key) != "C-1" || e.Subject != "C-1" || e.Type != decision.RequestType || e.ID != answer.IDs[0] || !e.Time.Equal(clock) || e.Source != "/ingest/requests" || !validTrace(e.Traceparent) {
		t.Errorf("key %q, envelope %+v", records[0].Key, e)
	}
	var got decision.Request
	if err := got.Parse(e.ID, e.Data); err != nil || got.Message != "winter-preview" || got.Priority != 2 || !got.OnDeviation {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestNoRequestsAreAccepted(t *testing.T) {
	r := newRig(t, Config{})
	if answer := r.answered(r.send("/v1/requests", plainJSON, "[]")); answer.Accepted != 0 || answer.IDs == nil {
		t.Errorf("answered %+v", answer)
	}
}

func TestARequestSentAgainIsTheSameRequest(t *testing.T) {
	other := strings.Replace(placed, "winter", "spring", 1)
	named := strings.Replace(placed, "{", `{"id":"r-5512",`, 1)
	key := func(k string) map[string]string {
		return map[string]string{"Content-Type": "application/json", "Idempotency-Key": k}
	}
	ids := func(header map[string]string, body string) string {
		r := newRig(t, Config{})
		return strings.Join(r.answered(r.send("/v1/requests", header, body)).IDs, " ")
	}
	plain := ids(plainJSON, placed)
	for _, tt := range []struct {
		name      string
		got, want string
		same      bool
	}{
		{"its own id counts", ids(plainJSON, named), "r-5512", true},
		{"its own id counts before the key", ids(key("k"), named), "r-5512", true},
		{"without an id, what it says", ids(plainJSON, placed), plain, true},
		{"another customer's is another", ids(plainJSON, strings.Replace(placed, "C-1", "C-2", 1)), plain, false},
		{"another message is another", ids(plainJSON, other), plain, false},
		{"under one key, its place", ids(key("k"), "["+placed+","+placed+"]"), ids(key("k"), "["+other+","+placed+"]"), true},
		{"under another key it is another", ids(key("k"), placed), ids(key("l"), placed), false},
	} {
		if (tt.got == tt.want) != tt.same {
			t.Errorf("%s: got %s and %s", tt.name, tt.got, tt.want)
		}
	}
	if two := strings.Fields(ids(key("k"), "["+placed+","+placed+"]")); len(two) != 2 || two[0] == two[1] {
		t.Errorf("two places in one body are %v", two)
	}
}

func TestRequestsAndCustomersAreRefusedAsAWhole(t *testing.T) {
	change := func(from, to string) string {
		if !strings.Contains(placed, from) {
			t.Fatalf("%s is not in the request", from)
		}
		return strings.Replace(placed, from, to, 1)
	}
	for _, tt := range []struct {
		name, path, body string
		wrong            wrong // the reason is compared by what it contains
	}{
		{"a request without a customer", "/v1/requests", change(`"subject":"C-1",`, ""), wrong{0, "subject", "required"}},
		{"a request without a channel", "/v1/requests", change(`"channel":"email",`, ""), wrong{0, "data.channel", ""}},
		{"a request without a deadline", "/v1/requests", change(`"deadline":"2026-12-08T17:00:00Z",`, ""), wrong{0, "data.deadline", ""}},
		{"a request with a deadline that is no time", "/v1/requests", change(`"2026-12-08T17:00:00Z"`, `"soon"`), wrong{0, "data.deadline", ""}},
		{"a request of another type", "/v1/requests", change(`{`, `{"type":"io.tempismo.customer.v1",`), wrong{0, "type", decision.RequestType}},
		{"a request of another version", "/v1/requests", change(`{`, `{"specversion":"2.0",`), wrong{0, "specversion", "1.0"}},
		{"a request with a number as customer", "/v1/requests", change(`"C-1"`, `7`), wrong{0, "subject", "number"}},
		{"a request from tomorrow", "/v1/requests", change(`{`, `{"time":"2026-12-04T09:42:00Z",`), wrong{0, "time", "ahead"}},
		{"a long id", "/v1/requests", change(`{`, `{"id":"`+strings.Repeat("x", 257)+`",`), wrong{0, "id", "256"}},
		{"the second of two", "/v1/requests", "[" + placed + `,{"subject":"C-1"}]`, wrong{1, "data", "required"}},
		{"an action that does not exist", "/v1/requests", change(`"place"`, `"postpone"`), wrong{0, "data.action", ""}},
		{"a cancellation of nothing", "/v1/requests", `{"subject":"C-1","data":{"action":"cancel"}}`, wrong{0, "id", "required"}},
		{"what is no object", "/v1/requests", `[7]`, wrong{0, "", "number"}},
		{"a customer with a number as zone", "/v1/customers", `{"subject":"C-1","data":{"zone":7}}`, wrong{0, "data.zone", "number"}},
		{"a customer without data", "/v1/customers", `{"subject":"C-1"}`, wrong{0, "data", "required"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			p := r.problem(r.send(tt.path, plainJSON, tt.body))
			if p.Status != http.StatusBadRequest || len(p.Errors) != 1 || p.Errors[0].Index != tt.wrong.Index || p.Errors[0].Field != tt.wrong.Field || !strings.Contains(p.Errors[0].Reason, tt.wrong.Reason) {
				t.Errorf("got %+v, want %+v", p, tt.wrong)
			}
			if n := len(r.appended(topics.Requests)) + len(r.appended(topics.Attributes)); n != 0 {
				t.Errorf("%d records were appended nevertheless", n)
			}
		})
	}
}

func TestCustomersAreTold(t *testing.T) {
	r := newRig(t, Config{})
	body := `[{"subject":"C-1","data":{"zone":"Europe/Rome","segment":"premium","consents":{"mailing":{"granted":true,"at":"2026-05-12T08:00:00Z"}},"preferred":[{"days":["tue"],"from":"10:00","to":"12:00"}]}},
{"subject":"C-1","data":null}]`
	if answer := r.answered(r.send("/v1/customers", plainJSON, body)); answer.Accepted != 2 {
		t.Errorf("accepted %d", answer.Accepted)
	}
	records := r.appended(topics.Attributes)
	if len(records) != 2 || string(records[0].Key) != "C-1" || string(records[1].Key) != "C-1" || len(records[1].Value) != 0 {
		t.Fatalf("appended %+v", records)
	}
	e, err := stream.ParseEvent(records[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	var a customer.Attributes
	if err := a.Parse(e.Data); err != nil || e.Type != customer.Type || e.Subject != "C-1" || a.Segment != "premium" || a.Consents.Mailing == nil {
		t.Errorf("envelope %+v, attributes %+v: %v", e, a, err)
	}
}

// A customer has one name, whichever way what concerns the customer comes in, and the real one is not written anywhere.
func TestPseudonymsAreTheSameEverywhere(t *testing.T) {
	r := newRig(t, Config{Pseudonym: "a key of some length"})
	const id = "anna@example.com"
	r.answered(r.send("/v1/events", structured, event("a", id)))
	r.answered(r.send("/v1/requests", plainJSON, strings.Replace(placed, "C-1", id, 1)))
	r.answered(r.send("/v1/customers", plainJSON, fmt.Sprintf(`[{"subject":%q,"data":{}},{"subject":%q,"data":null}]`, id, id)))
	names := map[string]bool{}
	for _, topic := range []string{topics.Events, topics.Requests, topics.Attributes} {
		for _, record := range r.appended(topic) {
			names[string(record.Key)] = true
			if strings.Contains(string(record.Value), "anna") {
				t.Errorf("%s: %s", topic, record.Value)
			}
		}
	}
	if len(names) != 1 || names[id] {
		t.Errorf("one customer is known as %v", names)
	}
}

// An id that is made of what a request says must not tell who the customer is to whoever can guess.
func TestAnIDIsMadeOfThePseudonym(t *testing.T) {
	var ids [2]string
	for i, key := range []config.Secret{"a key of some length", "another key of some length"} {
		r := newRig(t, Config{Pseudonym: key})
		ids[i] = r.answered(r.send("/v1/requests", plainJSON, placed)).IDs[0]
	}
	if ids[0] == ids[1] {
		t.Errorf("under two keys the id is %s", ids[0])
	}
}

func TestTheAPIWantsATokenEverywhere(t *testing.T) {
	r := newRig(t, Config{Tokens: "first-token-of-many"})
	for i, response := range []*http.Response{
		r.send("/v1/events", structured, event("a", "C-1")),
		r.send("/v1/requests", plainJSON, placed),
		r.send("/v1/customers", plainJSON, `{"subject":"C-1","data":null}`),
		r.do(http.MethodGet, "/v1/customers/C-1/best-times?channel=email", nil, ""),
	} {
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("way %d: status %d", i, response.StatusCode)
		}
	}
}
