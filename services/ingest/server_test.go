package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"go.uber.org/goleak"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/ingest/webhook/sendgrid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is the time of every test.
var clock = time.Date(2026, 12, 3, 9, 42, 0, 0, time.UTC)

const partitions = 4

// rig is a server whose writer appends to a log in memory, and can be held up.
type rig struct {
	t       testing.TB
	server  *server
	out     *heldWriter
	store   *streamtest.Store
	handler http.Handler
}

// heldWriter appends to a log in memory; while it is held, appending waits, and it fails as often as failures says.
type heldWriter struct {
	log      *streamtest.Log
	run      stream.Run
	mu       sync.Mutex
	gate     chan struct{} // closed when appends may go on; nil if they may
	failures int
	away     string         // topic to which nothing can be appended
	largest  map[string]int // bytes that a record of a topic may have; all, where it says nothing
}

// lose lets nothing be appended to a topic any more; empty: everything can be again.
func (w *heldWriter) lose(topic string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = topic
}

// hold holds appends up until the function that it returns is called.
func (w *heldWriter) hold() (release func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gate := make(chan struct{})
	w.gate = gate
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.gate = nil
		close(gate)
	}
}

func (w *heldWriter) WriteAll(ctx context.Context, topic string, messages []stream.Message) error {
	w.mu.Lock()
	gate, fails, away := w.gate, w.failures > 0, w.away == topic
	if fails {
		w.failures--
	}
	w.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fails || away {
		return errors.New("the broker is away")
	}
	for _, m := range messages {
		if most, ok := w.largest[topic]; ok && len(m.Value) > most {
			return kafka.ErrTooLarge
		}
	}
	for _, m := range messages {
		w.log.AppendKeyed(w.run.Topic(topic), m)
	}
	return nil
}

func newRig(t testing.TB, c Config) *rig {
	t.Helper()
	if c.Run.ID == "" {
		c.Run = config.Run{ID: "r1", Mode: "live"}
	}
	if c.Pixels.Consent == "" {
		c.Pixels.Consent = "assumed" // no profiler runs beside it
	}
	c = c.withDefaults()
	run := stream.Run{ID: c.Run.ID, Simulated: c.Run.Simulated()}
	r := &rig{t: t, out: &heldWriter{log: streamtest.NewLog(), run: run}, store: streamtest.NewStore()}
	for _, topic := range []string{topics.Events, topics.DeadLetter(topics.Events), topics.Requests, topics.Attributes, topics.Consents, topics.Erasures} {
		r.out.log.Create(run.Topic(topic), stream.TopicInfo{Partitions: partitions, MaxMessageBytes: 1 << 20})
	}
	var err error
	if r.server, err = newServer(c, r.out, r.store, partitions, app.Settings{}.WithDefaults(), func() time.Time { return clock }); err != nil {
		t.Fatal(err)
	}
	r.handler = r.server.handler()
	return r
}

// events reads back what was appended, in the order of partitions and offsets.
func (r *rig) events(topic string) []engagement.Event {
	r.t.Helper()
	var events []engagement.Event
	for p := range int32(partitions) {
		for _, record := range r.out.log.Records(topic, p) {
			var e engagement.Event
			if err := e.Parse(record.Value); err != nil {
				r.t.Fatalf("appended %s: %v", record.Value, err)
			}
			if string(record.Key) != e.Subject || stream.Partition(record.Key, partitions) != p {
				r.t.Errorf("event of %q has key %q in partition %d", e.Subject, record.Key, p)
			}
			events = append(events, e)
		}
	}
	return events
}

// contract is openapi.yaml.
var contract = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("../../schemas/openapi.yaml")
	if err != nil {
		return nil, err
	}
	doc.Servers = nil
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.FileBodyDecoder)
	openapi3filter.RegisterBodyDecoder("application/cloudevents-batch+json", openapi3filter.JSONBodyDecoder)
	return legacy.NewRouter(doc)
})

// send posts and holds the answer to openapi.yaml.
func (r *rig) send(path string, header map[string]string, body string) *http.Response {
	r.t.Helper()
	return r.do(http.MethodPost, path, header, body)
}

// do answers a request and holds it to openapi.yaml: the answer always, the request if it was accepted.
func (r *rig) do(method, path string, header map[string]string, body string) *http.Response {
	r.t.Helper()
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	for k, v := range header {
		request.Header.Set(k, v)
	}
	recorder := httptest.NewRecorder()
	r.handler.ServeHTTP(recorder, request)
	response := recorder.Result()
	content := recorder.Body.Bytes()
	response.Body = io.NopCloser(bytes.NewReader(content))

	router, err := contract()
	if err != nil {
		r.t.Fatal(err)
	}
	route, params, err := router.FindRoute(request)
	if err != nil {
		r.t.Fatal(err)
	}
	request.Body = io.NopCloser(strings.NewReader(body))
	in := &openapi3filter.RequestValidationInput{Request: request, PathParams: params, Route: route, Options: &openapi3filter.Options{
		IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}}
	if response.StatusCode < 300 {
		if err := openapi3filter.ValidateRequest(r.t.Context(), in); err != nil {
			r.t.Errorf("an accepted request is not in openapi.yaml: %v", err)
		}
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: response.StatusCode, Header: response.Header, Options: in.Options}
	if err := openapi3filter.ValidateResponse(r.t.Context(), out.SetBodyBytes(content)); err != nil {
		r.t.Errorf("the answer is not in openapi.yaml: %v\n%s", err, content)
	}
	return response
}

// problem reads problem details.
type problem struct {
	Title  string
	Status int
	Detail string
	Errors []wrong
}

func (r *rig) problem(response *http.Response) (p problem) {
	r.t.Helper()
	if got := response.Header.Get("Content-Type"); got != "application/problem+json" {
		r.t.Errorf("content type is %q", got)
	}
	if err := json.NewDecoder(response.Body).Decode(&p); err != nil {
		r.t.Fatal(err)
	}
	if p.Status != response.StatusCode || p.Title == "" || p.Detail == "" {
		r.t.Errorf("incomplete problem %+v with status %d", p, response.StatusCode)
	}
	return p
}

const liveTopic = topics.Events

func event(id, subject string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/test","type":"io.tempismo.engagement.v1","subject":%q,"time":"2026-12-03T09:41:52Z","data":{"kind":"open","channel":"email"}}`, id, subject)
}

var structured = map[string]string{"Content-Type": "application/cloudevents+json"}

func TestEventsAreAccepted(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header map[string]string
		body   string
		want   []string // ids
	}{
		{"one, structured", structured, event("a", "C-1"), []string{"a"}},
		{"one, structured, with a charset", map[string]string{"Content-Type": "application/cloudevents+json; charset=utf-8"}, event("a", "C-1"), []string{"a"}},
		{"one, as plain JSON", map[string]string{"Content-Type": "application/json"}, event("a", "C-1"), []string{"a"}},
		{"many, as plain JSON", map[string]string{"Content-Type": "application/json"}, "[" + event("a", "C-1") + "," + event("b", "C-1") + "]", []string{"a", "b"}},
		{"many, as a batch", map[string]string{"Content-Type": "application/cloudevents-batch+json"}, " [" + event("a", "C-1") + "\n,\t" + event("b", "C-1") + "] ", []string{"a", "b"}},
		{"an empty batch", map[string]string{"Content-Type": "application/cloudevents-batch+json"}, "[]", nil},
		{"lines", map[string]string{"Content-Type": "application/x-ndjson"}, event("a", "C-1") + "\r\n\n" + event("b", "C-1"), []string{"a", "b"}},
		{"binary mode", map[string]string{"Content-Type": "application/json", "ce-specversion": "1.0", "ce-id": "a%20%22b%22", "ce-source": "/test", "ce-type": engagement.Type,
			"ce-subject": "C-1", "ce-time": "2026-12-03T09:41:52Z"}, `{"kind":"open","channel":"email"}`, []string{`a "b"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			response := r.send("/v1/events", tt.header, tt.body)
			if response.StatusCode != http.StatusAccepted {
				t.Fatalf("got status %d: %+v", response.StatusCode, r.problem(response))
			}
			var answer struct{ Accepted int }
			if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Accepted != len(tt.want) {
				t.Errorf("accepted %d (%v), want %d", answer.Accepted, err, len(tt.want))
			}
			var got []string
			for _, e := range r.events(liveTopic) {
				got = append(got, e.ID)
			}
			if strings.Join(got, " ") != strings.Join(tt.want, " ") {
				t.Errorf("appended %q, want %q", got, tt.want)
			}
		})
	}
}

func TestEventsAreRefusedAsAWhole(t *testing.T) {
	batch := map[string]string{"Content-Type": "application/cloudevents-batch+json"}
	for _, tt := range []struct {
		name   string
		header map[string]string
		body   string
		status int
		wrong  []wrong // reasons are compared by what they contain
		detail string
	}{
		{"the second of three has an unknown kind", batch, "[" + event("a", "C-1") + "," + strings.Replace(event("b", "C-1"), `"open"`, `"opened"`, 1) + "," + event("c", "C-1") + "]", 400,
			[]wrong{{1, "data.kind", "must be one of"}}, "1 event is not valid"},
		{"two of them are wrong", batch, "[" + strings.Replace(event("a", "C-1"), `"C-1"`, `1`, 1) + "," + event("", "C-1") + "]", 400,
			[]wrong{{0, "subject", "another type"}, {1, "id", "required"}}, "2 events are not valid"},
		{"a time ahead of the clock", structured, strings.Replace(event("a", "C-1"), "09:41:52", "09:43:01", 1), 400, []wrong{{0, "time", "ahead"}}, ""},
		{"a zone that does not exist", structured, strings.Replace(event("a", "C-1"), `"email"`, `"email","zone":"Europe/Roma"`, 1), 400, []wrong{{0, "data.zone", "Europe/Rome"}}, ""},
		{"a time in a line", map[string]string{"Content-Type": "application/x-ndjson"}, event("a", "C-1") + "\n" + strings.Replace(event("b", "C-1"), "2026-12-03T", "2026-12-03 ", 1), 400,
			[]wrong{{1, "time", "RFC 3339"}}, ""},
		{"an element that is no event", batch, `[1]`, 400, []wrong{{0, "", "another type"}}, ""},
		{"not JSON", structured, `{"id":`, 400, []wrong{{0, "", "not a JSON document"}}, ""},
		{"an open array", batch, `[{}`, 400, nil, "not JSON"},
		{"nothing", structured, ``, 400, nil, "empty"},
		{"binary mode whose data sets attributes", map[string]string{"Content-Type": "application/json", "ce-specversion": "1.0", "ce-id": "a", "ce-source": "/test", "ce-type": engagement.Type,
			"ce-subject": "C-1", "ce-time": "2026-12-03T09:41:52Z"}, `{"kind":"open","channel":"email"},"subject":"C-2"`, 400, []wrong{{0, "data", "not a JSON document"}}, ""},
		{"binary mode without an id", map[string]string{"Content-Type": "application/json", "ce-specversion": "1.0", "ce-source": "/test", "ce-type": engagement.Type,
			"ce-subject": "C-1", "ce-time": "2026-12-03T09:41:52Z"}, `{"kind":"open","channel":"email"}`, 400, []wrong{{0, "id", "required"}}, ""},
		{"a form", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, "a=b", 415, nil, "application/x-ndjson"},
		{"no content type", nil, event("a", "C-1"), 415, nil, ""},
		{"too much", structured, `{"id":"` + strings.Repeat("x", 5<<20) + `"}`, 413, nil, "4194304"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			response := r.send("/v1/events", tt.header, tt.body)
			if response.StatusCode != tt.status {
				t.Fatalf("got status %d, want %d", response.StatusCode, tt.status)
			}
			p := r.problem(response)
			if !strings.Contains(p.Detail, tt.detail) || len(p.Errors) != len(tt.wrong) {
				t.Errorf("got %+v, want %q and %+v", p, tt.detail, tt.wrong)
			}
			for i, w := range tt.wrong {
				if i < len(p.Errors) && (p.Errors[i].Index != w.Index || p.Errors[i].Field != w.Field || !strings.Contains(p.Errors[i].Reason, w.Reason)) {
					t.Errorf("got %+v, want %+v", p.Errors[i], w)
				}
			}
			if events := r.events(liveTopic); len(events) != 0 {
				t.Errorf("%d events were appended nevertheless", len(events))
			}
			if used := r.server.room.used.Load(); used != 0 {
				t.Errorf("%d bytes stay reserved", used)
			}
		})
	}
}

func TestAChunkedBodyIsBoundedToo(t *testing.T) {
	r := newRig(t, Config{MaxBody: 2048})
	request := httptest.NewRequest(http.MethodPost, "/v1/events", io.MultiReader(strings.NewReader(`{"id":"`), strings.NewReader(strings.Repeat("x", 4096))))
	request.ContentLength = -1
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	r.handler.ServeHTTP(recorder, request)
	if recorder.Code != http.StatusRequestEntityTooLarge || r.server.room.used.Load() != 0 {
		t.Errorf("got status %d, %d bytes reserved", recorder.Code, r.server.room.used.Load())
	}
}

func TestASimulatedRunHasATopicOfItsOwnAndTakesAnyTime(t *testing.T) {
	r := newRig(t, Config{Run: config.Run{ID: "demo", Mode: "simulated"}})
	response := r.send("/v1/events", structured, strings.Replace(event("a", "C-1"), "2026", "2031", 1))
	if response.StatusCode != http.StatusAccepted {
		t.Fatalf("got status %d: %+v", response.StatusCode, r.problem(response))
	}
	if n := len(r.events("sim.demo." + topics.Events)); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestTokens(t *testing.T) {
	r := newRig(t, Config{Tokens: "first-token-of-many, second-token-of-many"})
	for _, tt := range []struct {
		name, authorization string
		want                int
	}{
		{"none", "", 401},
		{"a wrong one", "Bearer third-token-of-many", 401},
		{"the right one, as a password", "Basic first-token-of-many", 401},
		{"the first", "Bearer first-token-of-many", 202},
		{"the second, in another case of the scheme", "bearer second-token-of-many", 202},
	} {
		t.Run(tt.name, func(t *testing.T) {
			response := r.send("/v1/events", map[string]string{"Content-Type": "application/json", "Authorization": tt.authorization}, event("a", "C-1"))
			if response.StatusCode != tt.want {
				t.Errorf("got status %d, want %d", response.StatusCode, tt.want)
			}
			if got := response.Header.Get("WWW-Authenticate"); (got == "Bearer") != (tt.want == 401) {
				t.Errorf("WWW-Authenticate is %q", got)
			}
		})
	}
}

func TestMachinesAreNamed(t *testing.T) {
	r := newRig(t, Config{})
	body := "[" + strings.Replace(event("a", "C-1"), `"email"`, `"email","user_agent":"Mozilla/5.0"`, 1) + "," +
		strings.Replace(event("b", "C-1"), `"email"`, `"email","user_agent":"Mozilla/5.0","actor":"human"`, 1) + "," +
		strings.Replace(event("c", "C-1"), `"email"`, `"email","actor":"probable","actor_rule":"network"`, 1) + "]"
	r.send("/v1/events", map[string]string{"Content-Type": "application/json"}, body)
	want := map[string]engagement.Event{
		"a": {Actor: engagement.Machine, ActorRule: engagement.RuleUserAgent},
		"b": {Actor: engagement.Machine, ActorRule: engagement.RuleUserAgent},
		"c": {Actor: engagement.Probable, ActorRule: "network"},
	}
	events := r.events(liveTopic)
	if len(events) != len(want) {
		t.Fatalf("%d events, want %d", len(events), len(want))
	}
	for _, e := range events {
		if w := want[e.ID]; e.Actor != w.Actor || e.ActorRule != w.ActorRule {
			t.Errorf("%s: %v by %q, want %v by %q", e.ID, e.Actor, e.ActorRule, w.Actor, w.ActorRule)
		}
	}
}

func TestAnOperatorsListsOfMachines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "machines.txt")
	if err := os.WriteFile(file, []byte("date 2026-11-29\nmachine contains firefox/140\nmachine network 192.0.2.0/24\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Config{Machines: file})
	r.send("/v1/events", structured, strings.Replace(event("a", "C-1"), `"email"`, `"email","user_agent":"Mozilla/5.0 Firefox/140.0"`, 1))
	if events := r.events(liveTopic); len(events) != 1 || events[0].ActorRule != engagement.RuleUserAgent {
		t.Errorf("got %+v", events)
	}
	if err := os.WriteFile(file, []byte("machine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Config{Machines: file}).Validate(); err == nil || !strings.Contains(err.Error(), "MACHINE_LISTS") || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("got %v", err)
	}
}

func TestPseudonyms(t *testing.T) {
	first, again, other := newRig(t, Config{Pseudonym: "a key of some length"}), newRig(t, Config{Pseudonym: "a key of some length"}), newRig(t, Config{Pseudonym: "another key of some length"})
	subject := func(r *rig) string {
		r.send("/v1/events", structured, event("a", "anna@example.com"))
		events := r.events(liveTopic)
		if len(events) != 1 {
			t.Fatalf("%d events, want 1", len(events))
		}
		return events[0].Subject
	}
	a, b, c := subject(first), subject(again), subject(other)
	if a != b || a == c || len(a) != 32 || strings.Contains(a, "anna") {
		t.Errorf("got %q, %q, and with another key %q", a, b, c)
	}
}

func TestTheCallersTraceRunsOn(t *testing.T) {
	const caller, own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01"
	for _, tt := range []struct {
		name, header, attribute string
		want                    func(string) bool
	}{
		{"the request's", caller, "", func(got string) bool { return got[3:35] == caller[3:35] }},
		{"the event's own before the request's", caller, own, func(got string) bool { return got == own }},
		{"an event's that is not valid is replaced", caller, "00-zz", func(got string) bool { return got[3:35] == caller[3:35] }},
		{"an event's that names no trace is replaced", caller, "00-00000000000000000000000000000000-bbbbbbbbbbbbbbbb-01", func(got string) bool { return got[3:35] == caller[3:35] }},
		{"a new one where there is none", "", "", validTrace},
		{"a new one where the caller's is not valid", "00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", "", validTrace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			body := event("a", "C-1")
			if tt.attribute != "" {
				body = strings.Replace(body, `"data"`, `"traceparent":"`+tt.attribute+`","data"`, 1)
			}
			r.send("/v1/events", map[string]string{"Content-Type": "application/json", "traceparent": tt.header}, body)
			events := r.events(liveTopic)
			if len(events) != 1 || !validTrace(events[0].Trace) || !tt.want(events[0].Trace) {
				t.Errorf("got %+v", events)
			}
		})
	}
}

func TestAnAnswerWaitsForKafka(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{Patience: time.Hour})
		release := r.out.hold()
		answers := make(chan int)
		go func() { answers <- r.send("/v1/events", structured, event("a", "C-1")).StatusCode }()
		synctest.Wait()
		select {
		case status := <-answers:
			t.Fatalf("answered %d before Kafka had acknowledged", status)
		default:
		}
		release()
		if status := <-answers; status != http.StatusAccepted {
			t.Errorf("got status %d", status)
		}
		if n := len(r.events(liveTopic)); n != 1 {
			t.Errorf("%d events, want 1", n)
		}
	})
}

func TestKafkaThatDoesNotAnswerIsSaidToTheSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := event("a", "C-1")
		r := newRig(t, Config{Patience: time.Minute, MaxBody: 1 << 10, MaxFlight: int64(len(body))})
		later := func(response *http.Response, detail string) {
			t.Helper()
			if p := r.problem(response); response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || !strings.Contains(p.Detail, detail) {
				t.Errorf("got status %d, Retry-After %q, %+v", response.StatusCode, response.Header.Get("Retry-After"), p)
			}
		}
		release := r.out.hold()
		first := make(chan *http.Response)
		go func() { first <- r.send("/v1/events", structured, body) }()
		synctest.Wait()
		later(r.send("/v1/events", structured, body), "too many requests") // while the first has taken all the room
		later(<-first, "not acknowledged")                                 // the clock of the bubble runs on to its patience
		release()
		r.out.failures = 1
		later(r.send("/v1/events", structured, body), "not acknowledged")
		if response := r.send("/v1/events", structured, body); response.StatusCode != http.StatusAccepted {
			t.Errorf("got status %d after Kafka is back", response.StatusCode)
		}
		if used := r.server.room.used.Load(); used != 0 {
			t.Errorf("%d bytes stay reserved", used)
		}
	})
}

func TestConfigReportsEverythingAtOnce(t *testing.T) {
	c := Config{Run: config.Run{ID: "R 1"}, Listen: "0.0.0.0:8081", Pseudonym: "short", MaxBody: 10, MaxFlight: 5, Patience: -1, PublicURL: "mail.example.com", Machines: "no-such-file", SendGrid: sendgrid.Config{Keys: []string{"%", "AAAA"}}}
	err := c.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"RUN_ID", "API_TOKENS", "PSEUDONYM_KEY", "PUBLIC_URL", "SENDGRID_PUBLIC_KEYS: key 1 is not base64", "SENDGRID_PUBLIC_KEYS: key 2 is not a public key", "MACHINE_LISTS: read the lists", "MAX_BODY", "MAX_IN_FLIGHT", "PATIENCE"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	var ok Config
	if err := config.Parse(&ok, "ingest", nil, func(string) (string, bool) { return "", false }); err != nil {
		t.Errorf("the defaults are not valid: %v", err)
	}
}
