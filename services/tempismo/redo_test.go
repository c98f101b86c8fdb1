package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/ingest"
	"github.com/tempismo/tempismo/services/profiler"
)

// redoRig is a run with topics of one partition, and whatever is written to them.
type redoRig struct {
	t       *testing.T
	brokers string
	store   string
	run     stream.Run
	log     *kafka.Log
	out     *kafka.Writer
}

func newRedoRig(t *testing.T, brokers, store, id string, simulated bool) *redoRig {
	t.Helper()
	alone(t)
	r := &redoRig{t: t, brokers: brokers, store: store, run: stream.Run{ID: id, Simulated: simulated}}
	c := kafka.Config{Brokers: strings.Split(brokers, ",")}
	if err := kafka.EnsureTopics(t.Context(), c, r.run, 1); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.log, err = kafka.Open(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.log.Close() })
	if r.out, err = kafka.NewWriter(t.Context(), r.log, r.run); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.out.Close() })
	return r
}

// write appends to a topic. Headers are names and values.
func (r *redoRig) write(topic, key, value string, headers ...string) {
	r.t.Helper()
	m := stream.Message{Value: []byte(value)}
	if key != "" {
		m.Key = []byte(key)
	}
	for i := 0; i < len(headers); i += 2 {
		m.Headers = append(m.Headers, stream.Header{Key: headers[i], Value: []byte(headers[i+1])})
	}
	if err := r.out.WriteAll(r.t.Context(), topic, []stream.Message{m}); err != nil {
		r.t.Fatal(err)
	}
}

// aside writes a dead letter as a service would, of a record at an offset.
func (r *redoRig) aside(topic string, offset int, stage, key, value string, headers ...string) {
	r.t.Helper()
	r.write(topics.DeadLetter(topic), key, value, append(headers, "__connect.errors.topic", r.run.Topic(topic), "__connect.errors.partition", "0", "__connect.errors.offset", strconv.Itoa(offset),
		"__connect.errors.class.name", "*errors.errorString", "__connect.errors.exception.message", "an older version could not", "__connect.errors.stage", stage)...)
}

// records are those of a topic.
func (r *redoRig) records(topic string) (all []stream.Record) {
	r.t.Helper()
	err := kafka.Range(r.t.Context(), r.log, r.run.Topic(topic), kafka.Earliest, kafka.Latest, func(rec *stream.Record) error {
		c := stream.Record{Offset: rec.Offset, Key: slices.Clone(rec.Key), Value: slices.Clone(rec.Value)}
		for _, h := range rec.Headers {
			c.Headers = append(c.Headers, stream.Header{Key: h.Key, Value: slices.Clone(h.Value)})
		}
		all = append(all, c)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// redo runs the command, and returns its summary and exit code.
func (r *redoRig) redo(args ...string) (sum redone, code int) {
	r.t.Helper()
	at := []string{"redo", "--json", "--kafka-brokers", r.brokers, "--redis-addr", r.store, "--run", r.run.ID}
	out, errs, code := tempismo(r.t, append(at, args...)...)
	if err := json.Unmarshal([]byte(out), &sum); err != nil {
		r.t.Fatalf("exit code %d, %q: %v", code, errs, err)
	}
	return sum, code
}

// some is a summary in short.
func some(s redone) string {
	return fmt.Sprintf("letters %d, tried %d, records %d, events %d, settled %d, overtaken %d, left %d", s.Letters, s.Tried, s.Records, s.Events, s.Settled, s.Overtaken, len(s.Left))
}

func opened(id, customer string, at time.Time) string {
	e := engagement.Event{ID: id, Source: "/shop", Subject: customer, Time: at, Kind: engagement.Open, Channel: "email", Message: "m"}
	return string(e.Append(nil))
}

func TestWhatIsDoneWithADeadLetter(t *testing.T) {
	brokers, store := embedded(t)
	then := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	good := opened("e1", "anna", then)
	person := func(id string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"/crm","type":"io.tempismo.customer.v1","subject":"anna","data":{}}`
	}
	for i, tt := range []struct {
		sentence string
		topic    string
		put      func(r *redoRig)
		want     string
		code     int
	}{
		{"it goes back to where it came from", topics.Events, func(r *redoRig) { r.aside(topics.Events, 0, "decode", "anna", good) },
			"letters 1, tried 1, records 1, events 0, settled 0, overtaken 0, left 0", 0},
		{"that two services could not read one record is one try", topics.Events, func(r *redoRig) {
			r.aside(topics.Events, 0, "decode", "anna", good)
			r.aside(topics.Events, 0, "decode", "anna", good)
		}, "letters 2, tried 1, records 1, events 0, settled 1, overtaken 0, left 0", 0},
		{"a topic of others is not written to", topics.Events, func(r *redoRig) { r.aside(topics.Events, 0, "source:shop", "anna", "{}") },
			"letters 1, tried 0, records 0, events 0, settled 0, overtaken 0, left 1", 3},
		{"a try that has not come back is settled", topics.Events, func(r *redoRig) {
			r.write(topics.Events, "anna", "bad")
			r.aside(topics.Events, 0, "decode", "anna", "bad")
			r.write(topics.Events, "anna", "bad", redoHeader, "0:0")
		}, "letters 1, tried 0, records 0, events 0, settled 1, overtaken 0, left 0", 0},
		{"one that has come back is tried once more, and not twice", topics.Events, func(r *redoRig) {
			r.write(topics.Events, "anna", "bad")
			r.aside(topics.Events, 0, "decode", "anna", "bad")
			r.write(topics.Events, "anna", "bad", redoHeader, "0:0")
			r.aside(topics.Events, 1, "decode", "anna", "bad", redoHeader, "0:0")
		}, "letters 2, tried 1, records 1, events 0, settled 1, overtaken 0, left 0", 0},
		{"an attribute that a newer one has overtaken stays", topics.Attributes, func(r *redoRig) {
			r.write(topics.Attributes, "anna", person("c1"))
			r.write(topics.Attributes, "anna", person("c2"))
			r.aside(topics.Attributes, 0, "decode", "anna", person("c1"))
		}, "letters 1, tried 0, records 0, events 0, settled 0, overtaken 1, left 0", 0},
		{"of two attributes both go back, in their order", topics.Attributes, func(r *redoRig) {
			r.write(topics.Attributes, "anna", person("c1"))
			r.aside(topics.Attributes, 0, "decode", "anna", person("c1"))
			r.aside(topics.Attributes, 1, "decode", "anna", person("c2"))
		}, "letters 2, tried 2, records 2, events 0, settled 0, overtaken 0, left 0", 0},
		{"a request that was cancelled since stays", topics.Requests, func(r *redoRig) {
			place := `{"specversion":"1.0","id":"r1","source":"/crm","type":"io.tempismo.send.request.v1","subject":"anna","data":{"action":"place"}}`
			r.write(topics.Requests, "anna", place)
			r.write(topics.Requests, "anna", strings.Replace(place, "place", "cancel", 1))
			r.aside(topics.Requests, 0, "decode", "anna", place)
		}, "letters 1, tried 0, records 0, events 0, settled 0, overtaken 1, left 0", 0},
		{"an input whose output did not fit has been read", topics.Events, func(r *redoRig) { r.aside(topics.Events, 0, "output", "anna", good) },
			"letters 1, tried 0, records 0, events 0, settled 0, overtaken 0, left 1", 3},
		{"one without a key would come back", topics.Events, func(r *redoRig) { r.aside(topics.Events, 0, "key", "", good) },
			"letters 1, tried 0, records 0, events 0, settled 0, overtaken 0, left 1", 3},
		{"one that was cut does not hold the record", topics.Events, func(r *redoRig) { r.aside(topics.Events, 0, "decode", "anna", "") },
			"letters 1, tried 0, records 0, events 0, settled 0, overtaken 0, left 1", 3},
		{"an old policy is not put into force again", topics.Policies, func(r *redoRig) { r.aside(topics.Policies, 0, "decode", "", "{}") },
			"letters 1, tried 0, records 0, events 0, settled 0, overtaken 0, left 1", 3},
		{"what a webhook told is mapped, and what of it is there already is not written again", topics.Events, func(r *redoRig) {
			hook := func(n string) {
				r.write(topics.DeadLetter(topics.Events), "segment", `{"type":"track","event":"Email Opened","messageId":"`+n+`","timestamp":"2026-03-02T10:00:00Z","userId":"anna"}`, "__connect.errors.stage", "ingest:segment")
			}
			hook("s1")
			hook("s2")
			hook("s2")
			e := engagement.Event{ID: "segment-s1", Source: "/ingest/segment", Subject: "anna", Time: then, Kind: engagement.Open, Channel: "email"}
			r.write(topics.Events, "anna", string(e.Append(nil)))
		}, "letters 3, tried 1, records 0, events 1, settled 2, overtaken 0, left 0", 0},
		{"what still cannot be mapped is left, with the reason", topics.Events, func(r *redoRig) {
			r.write(topics.DeadLetter(topics.Events), "segment", `{"type":"track","event":"Email Opened","messageId":"s1"}`, "__connect.errors.stage", "ingest:segment")
		}, "letters 1, tried 0, records 0, events 0, settled 0, overtaken 0, left 1", 3},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			r := newRedoRig(t, brokers, store, fmt.Sprintf("redo-%d", i), true)
			tt.put(r)
			before, letters := r.records(tt.topic), r.records(topics.DeadLetter(tt.topic))
			dry, code := r.redo(topics.DeadLetter(tt.topic), "--dry-run")
			if got := some(dry); got != tt.want || code != tt.code {
				t.Errorf("to be done: %s (exit code %d, %+v)", got, code, dry.Left)
			}
			if n := len(r.records(tt.topic)); n != len(before) {
				t.Errorf("a dry run has written %d records", n-len(before))
			}
			sum, code := r.redo(topics.DeadLetter(tt.topic))
			if got := some(sum); got != tt.want || code != tt.code {
				t.Errorf("got %s, exit code %d, want %s, %d (%+v)", got, code, tt.want, tt.code, sum.Left)
			}
			after := r.records(tt.topic)
			if n := int64(len(after) - len(before)); n != sum.Records+sum.Events {
				t.Errorf("%d records were written, want %d", n, sum.Records+sum.Events)
			}
			if n := len(r.records(topics.DeadLetter(tt.topic))); n != len(letters) {
				t.Errorf("of %d letters there are %d", len(letters), n)
			}
			if again, _ := r.redo(topics.DeadLetter(tt.topic)); again.Tried != 0 || again.Letters != sum.Letters {
				t.Errorf("at once again: %s", some(again))
			}
		})
	}
}

// The record that goes back is the one that was set aside, but for what says why, and for a position that its readers have passed.
func TestARecordGoesBackAsItWas(t *testing.T) {
	brokers, store := embedded(t)
	r := newRedoRig(t, brokers, store, "redo-as-it-was", true)
	r.aside(topics.Events, 7, "decode", "anna", "\xff\xfe no event", "content-type", "application/cloudevents+json", "source", "/tempismo/x", "sequence", "00000000000000000001.000", "partition", "3")
	if sum, code := r.redo(); sum.Tried != 1 || code != 0 {
		t.Fatalf("%s, exit code %d", some(sum), code)
	}
	all := r.records(topics.Events)
	if len(all) != 1 || string(all[0].Key) != "anna" || string(all[0].Value) != "\xff\xfe no event" {
		t.Fatalf("on the topic is %v", all)
	}
	if got := fmt.Sprintf("%s", all[0].Headers); got != "[{content-type application/cloudevents+json} {partition 3} {tempismo.redo 0:7}]" {
		t.Errorf("its headers are %s", got)
	}
}

func TestLettersAreChosen(t *testing.T) {
	brokers, store := embedded(t)
	r := newRedoRig(t, brokers, store, "redo-chosen", true)
	r.aside(topics.Events, 0, "decode", "anna", "a")
	r.write(topics.DeadLetter(topics.Events), "segment", "{}", "__connect.errors.stage", "ingest:segment")
	r.write(topics.DeadLetter(topics.Events), "ses", "{}", "__connect.errors.stage", "ingest:ses")
	for _, tt := range []struct {
		args []string
		want int64
	}{
		{nil, 3}, {[]string{"--stage", "decode"}, 1}, {[]string{"--stage", "ingest:ses"}, 1}, {[]string{"--stage", "ingest:"}, 2}, {[]string{"--stage", "ingest"}, 0},
		{[]string{"--since", "2020-01-01T00:00:00Z"}, 3}, {[]string{"--since", "2100-01-01T00:00:00Z"}, 0},
	} {
		if sum, _ := r.redo(append(tt.args, "--dry-run")...); sum.Letters != tt.want {
			t.Errorf("%q: %d letters, want %d", tt.args, sum.Letters, tt.want)
		}
	}
	out, errs, code := tempismo(t, "redo", "--kafka-brokers", brokers, "--redis-addr", store, "--run", r.run.ID)
	for _, want := range []string{"3 letters", "tried again", "engagement.events.v1, read by profiler, trainer", "ingest:segment: type: is required", "(one is 0:"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if code != 3 || !strings.Contains(errs, "not all letters can be helped") {
		t.Errorf("exit code %d, %q", code, errs)
	}
}

// Without the key of ingest, events would say whom they are about.
func TestPseudonymsAreNotLaidOpen(t *testing.T) {
	brokers, store := embedded(t)
	r := newRedoRig(t, brokers, store, "redo-key", true)
	const id = "0123456789abcdef0123456789abcdef"
	e := engagement.Event{ID: "s1", Source: "/ingest/segment", Subject: id, Time: time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC), Kind: engagement.Open, Channel: "email"}
	r.write(topics.Events, id, string(e.Append(nil)))
	r.write(topics.DeadLetter(topics.Events), "segment", `{"type":"track","event":"Email Opened","messageId":"s2","timestamp":"2026-03-02T10:00:00Z","userId":"anna"}`, "__connect.errors.stage", "ingest:segment")
	args := []string{"redo", "--kafka-brokers", brokers, "--redis-addr", store, "--run", r.run.ID}
	if _, errs, code := tempismo(t, args...); code != 1 || !strings.Contains(errs, "PSEUDONYM_KEY") || len(r.records(topics.Events)) != 1 {
		t.Fatalf("exit code %d, %q", code, errs)
	}
	t.Setenv("PSEUDONYM_KEY", "a key of some length")
	must(t, args...)
	all := r.records(topics.Events)
	if len(all) != 2 || !pseudonym(string(all[1].Key)) {
		t.Errorf("written was %s", all[len(all)-1].Value)
	}
}

// From the services' hands and back: what the profiler and ingest have set aside, and what an older version of them did.
func TestDeadLettersAreTriedAgain(t *testing.T) {
	brokers, store := embedded(t)
	deadLettersAreTriedAgain(t, brokers, store, "redo")
}

func deadLettersAreTriedAgain(t *testing.T, brokers, store, id string) {
	const secret, key = "a secret of some length", "a key of some length"
	r := newRedoRig(t, brokers, store, id, false)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"KAFKA_BROKERS": brokers, "REDIS_ADDR": store, "RUN_ID": id, "MODEL": "builtin.1", "PIXEL_CONSENT": "assumed", "SEGMENT_SHARED_SECRETS": secret, "PSEUDONYM_KEY": key}
	in := parsed[ingest.Config](t, env)
	in.Listener = listener
	set := app.Settings{Log: slog.New(slog.DiscardHandler)} // that something is set aside is what it is about
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- app.Group(ctx,
			func(ctx context.Context) error { return ingest.Run(ctx, in, set) },
			func(ctx context.Context) error { return profiler.Run(ctx, parsed[profiler.Config](t, env), set) },
		)
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("services ended with %v", err)
		}
	}()
	settle := func() {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			lag, err := r.log.Lag(t.Context(), r.run, []string{profiler.Service})
			if err == nil && !slices.ContainsFunc(lag, func(l kafka.PartitionLag) bool { return l.Records > 0 }) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the profiler does not come to rest: %v, %v", lag, err)
			}
		}
	}
	profiles, err := redis.Open(t.Context(), redis.Config{Addr: store})
	if err != nil {
		t.Fatal(err)
	}
	defer profiles.Close()
	known := func(customer string) bool {
		t.Helper()
		snap, err := profiles.Read(t.Context(), r.run.Group(profiler.Service), 0, []string{customer})
		if err != nil {
			t.Fatal(err)
		}
		return snap.Values[0] != nil
	}

	// Of this version: a record that is none, and a call that names nobody.
	r.write(topics.Events, "mario", "no event at all")
	call := `{"type":"track","event":"Email Opened","messageId":"s1","receivedAt":"` + time.Now().UTC().Format(time.RFC3339) + `","timestamp":"2026-03-02T10:00:00Z"}`
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(call))
	post(t, "http://"+listener.Addr().String()+"/v1/webhooks/segment", map[string]string{"X-Signature": hex.EncodeToString(mac.Sum(nil))}, []byte(call), http.StatusAccepted)
	settle()
	// Of an older one, which did not know what this one does.
	r.aside(topics.Events, 1000, "decode", "luigi", opened("e1", "luigi", time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)), "content-type", "application/cloudevents+json")
	r.write(topics.DeadLetter(topics.Events), "segment", strings.Replace(call, "{", `{"userId":"anna",`, 1), "__connect.errors.stage", "ingest:segment")

	t.Setenv("PSEUDONYM_KEY", key)
	if sum, code := r.redo("--stage", "ingest:"); sum.Letters != 2 || sum.Unconsented != 1 || sum.Events != 0 || code != 3 { // a live run asks first
		t.Errorf("%s, unconsented %d, exit code %d", some(sum), sum.Unconsented, code)
	}
	settle()
	t.Setenv("PIXEL_CONSENT", "assumed")
	if sum, code := r.redo(); some(sum) != "letters 4, tried 3, records 2, events 1, settled 0, overtaken 0, left 1" || code != 3 {
		t.Fatalf("%s, exit code %d", some(sum), code)
	}
	settle()
	mac = hmac.New(sha256.New, []byte(key))
	mac.Write([]byte("anna"))
	if !known("luigi") || !known(hex.EncodeToString(mac.Sum(nil)[:16])) || known("anna") {
		t.Error("the profiler has not learned from what was tried again")
	}
	// What has come back is tried again, what has not is settled, and what cannot be mapped is left.
	if sum, code := r.redo(); some(sum) != "letters 5, tried 1, records 1, events 0, settled 3, overtaken 0, left 1" || code != 3 {
		t.Errorf("%s, exit code %d", some(sum), code)
	}
}
