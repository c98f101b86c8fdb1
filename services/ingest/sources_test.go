package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/telemetry"
	"github.com/tempismo/tempismo/pkg/topics"
)

// declared is a file of sources with one topic.
const declared = `sources:
- name: shop
  topic: shop.mail
  kind: {field: /event, values: {opened: open, clicked: click, deferred: ignore}}
  customer: /c
  time: {field: /at}
  link: /url
  user_agent: /agent
  ip: /ip
  zone: /zone
  id: /id
  machine: /bot
`

// file writes a file of sources.
func file(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "sources.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// stall is a rig with a topic of others.
type stall struct {
	*rig
	set app.Settings
}

const (
	theirs     = "shop.mail"
	theirGroup = "tempismo.ingest-shop"
)

func newStall(t testing.TB, c Config) *stall {
	t.Helper()
	if c.Sources == "" {
		c.Sources = file(t, declared)
	}
	r := newRig(t, c)
	r.out.log.Create(theirs, stream.TopicInfo{Partitions: 2, MaxMessageBytes: 1 << 20})
	s := &stall{rig: r, set: app.Settings{Health: &app.Health{}}.WithDefaults()}
	var err error
	if s.set.Telemetry, err = telemetry.New(t.Context(), telemetry.Config{}, "ingest", "test"); err != nil {
		t.Fatal(err)
	}
	store, now := r.store, r.server.now
	if r.server, err = newServer(r.server.config, r.out, store, partitions, s.set, now); err != nil {
		t.Fatal(err)
	}
	return s
}

// open reads the topic until the function that it returns is called.
func (s *stall) open(records stream.Log) (stop func()) {
	s.t.Helper()
	feeds, err := s.server.feeds(records, s.set)
	if err != nil || len(feeds) != 1 {
		s.t.Fatalf("%d feeds, %v", len(feeds), err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error)
	go func() { ended <- feeds[0].run(ctx) }()
	return func() {
		s.t.Helper()
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("ended with %v", err)
		}
	}
}

// opened is a record of the topic.
func opened(id, customer string, more ...string) string {
	return fmt.Sprintf(`{"id":%q,"event":"opened","c":%q,"at":"2026-12-03T09:41:52Z"%s}`, id, customer, strings.Join(more, ""))
}

// puts appends a record to partition p of the topic.
func (s *stall) puts(p int32, values ...string) {
	for _, v := range values {
		s.out.log.Append(theirs, p, stream.Message{Key: []byte("k"), Value: []byte(v)})
	}
}

// ids are those of the events on our topic, in order.
func (s *stall) ids() (ids []string) {
	for _, e := range s.events(liveTopic) {
		ids = append(ids, e.ID)
	}
	slices.Sort(ids)
	return ids
}

// letters are the dead letters.
func (s *stall) letters() (all []stream.Record) {
	for p := range int32(partitions) {
		all = append(all, s.out.log.Records(s.out.run.Topic(topics.DeadLetter(topics.Events)), p)...)
	}
	return all
}

func header(r stream.Record, key string) string {
	for i := len(r.Headers) - 1; i >= 0; i-- {
		if r.Headers[i].Key == key {
			return string(r.Headers[i].Value)
		}
	}
	return ""
}

// counts reports whether so many records became what outcome says.
func (s *stall) counts(outcome string, n int) {
	s.t.Helper()
	recorder := httptest.NewRecorder()
	s.set.Telemetry.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	want := fmt.Sprintf("tempismo_ingest_events_total{outcome=%q,source=\"shop\"} %d\n", outcome, n)
	if got := recorder.Body.String(); !strings.Contains(got, want) {
		var lines []string
		for line := range strings.Lines(got) {
			if strings.HasPrefix(line, "tempismo_ingest_events_total") {
				lines = append(lines, line)
			}
		}
		s.t.Errorf("%s is not in %q", want, lines)
	}
}

// read reports whether the group's offsets are these.
func (s *stall) read(want ...int64) {
	s.t.Helper()
	got := s.out.log.Offsets(theirGroup, theirs)
	for p, o := range want {
		if have, ok := got[int32(p)]; !ok && o != 0 || have != o {
			s.t.Errorf("partition %d has been read to %d, want %d", p, have, o)
		}
	}
}

// An event of a topic is judged like one of a webhook, by the same code.
func TestRecordsOfOthersBecomeEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStall(t, Config{Pseudonym: "a key of some length"})
		var log bytes.Buffer
		s.set.Log = slog.New(slog.NewTextHandler(&log, nil))
		stop := s.open(s.out.log)
		s.puts(0, opened("human", "C-1", `,"agent":"Mozilla/5.0 (X11; Linux x86_64) Chrome/130"`),
			opened("flagged", "C-1", `,"bot":true`),
			opened("agent", "C-1", `,"agent":"curl/8"`),
			opened("network", "C-1", `,"ip":"40.92.0.1"`),
			`{"event":"deferred"}`, `{"event":"printed"}`, `{"event":"printed"}`)
		s.puts(1, "\x00\x00\x00\x00\x07"+opened("framed", "C-2", `,"zone":"Europe/Rome"`), "")
		synctest.Wait()
		got := map[string]engagement.Event{}
		for _, e := range s.events(liveTopic) {
			got[e.ID] = e
		}
		id := func(name, who string) string {
			return aliases(pseudonymKeys(s.server.config.Pseudonym), who)[0].event("shop-" + name)
		}
		for name, want := range map[string]struct {
			actor engagement.Actor
			rule  string
		}{"human": {engagement.Human, ""}, "flagged": {engagement.Machine, engagement.RuleProvider}, "agent": {engagement.Machine, engagement.RuleUserAgent},
			"network": {engagement.Machine, engagement.RuleNetwork}, "framed": {engagement.Human, ""}} {
			who := "C-1"
			if name == "framed" {
				who = "C-2"
			}
			if e, ok := got[id(name, who)]; !ok || e.Actor != want.actor || e.ActorRule != want.rule || e.Source != "/ingest/shop" || !validTrace(e.Trace) {
				t.Errorf("%s is %+v", name, e)
			}
		}
		if len(got) != 5 || got[id("human", "C-1")].Subject != Pseudonyms(s.server.config.Pseudonym, "C-1")[0] || got[id("framed", "C-2")].Zone != "Europe/Rome" {
			t.Errorf("got %+v", got)
		}
		s.counts(accepted, 5)
		s.counts(ignored, 2)
		s.counts(unknown, 2)
		s.counts(dead, 0)
		s.read(7, 2)
		if n := strings.Count(log.String(), "kind=printed"); n != 1 {
			t.Errorf("the log names the kind %d times: %s", n, &log)
		}
		if n := len(s.letters()); n > 0 {
			t.Errorf("%d dead letters", n)
		}
		stop()
	})
}

func TestRecordsThatCannotBeMappedAreSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStall(t, Config{})
		stop := s.open(s.out.log)
		s.puts(0, opened("a", "C-1"))
		bad := []struct {
			key          []byte
			value        string
			field, class string
		}{
			{[]byte("their key"), opened("b", ""), "/c: is required", "*engagement.FieldError"},
			{nil, opened("c", "C-1", `,"zone":"Rome"`), "/zone: must be an IANA time zone", "*engagement.FieldError"},
			{[]byte{}, strings.Replace(opened("d", "C-1"), "09:41", "09:44", 1), "/at: lies more than 1m0s ahead", "*engagement.FieldError"},
			{nil, "\x00\x00\x00\x00\x07\x02C-1", "framed by a schema registry (schema 7)", "*engagement.FieldError"},
			{nil, opened("e", "C-1", `,"url":"`+strings.Repeat(`\u0001`, 12<<10)+`"`), "more than the 65536 allowed", "*engagement.FieldError"},
		}
		for _, b := range bad {
			s.out.log.Append(theirs, 0, stream.Message{Key: b.key, Value: []byte(b.value), Headers: []stream.Header{{Key: "their", Value: []byte("header")}}})
		}
		s.puts(0, opened("z", "C-1"))
		synctest.Wait()
		if got := s.ids(); !slices.Equal(got, []string{"shop-a", "shop-z"}) {
			t.Errorf("got %q", got)
		}
		letters := map[string]stream.Record{}
		for _, l := range s.letters() {
			letters[header(l, "__connect.errors.offset")] = l
		}
		for i, b := range bad {
			l, ok := letters[fmt.Sprint(i+1)]
			if !ok || string(l.Value) != b.value || string(l.Key) != string(b.key) || (l.Key == nil) != (b.key == nil) || header(l, "their") != "header" ||
				header(l, "__connect.errors.topic") != theirs || header(l, "__connect.errors.partition") != "0" || header(l, "__connect.errors.stage") != "source:shop" ||
				header(l, "__connect.errors.class.name") != b.class || !strings.Contains(header(l, "__connect.errors.exception.message"), b.field) {
				t.Errorf("%s: set aside as %+v", b.field, l)
			}
		}
		if len(letters) != len(bad) {
			t.Errorf("%d dead letters, want %d", len(letters), len(bad))
		}
		s.counts(dead, len(bad))
		s.read(int64(len(bad)) + 2)
		stop()
	})
}

// A record that was read and whose event is not acknowledged is read again, by whoever comes next.
func TestWhatIsNotAcknowledgedIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStall(t, Config{})
		s.puts(0, opened("a", "C-1"), "{}")
		release := s.out.hold()
		stop := s.open(s.out.log)
		synctest.Wait()
		s.read(0)
		stop() // gives up after its grace
		release()
		s.read(0)
		if n := len(s.ids()); n != 0 {
			t.Fatalf("%d events were written", n)
		}
		stop = s.open(s.out.log)
		synctest.Wait()
		if got := s.ids(); !slices.Equal(got, []string{"shop-a"}) || len(s.letters()) != 1 {
			t.Errorf("got %q and %d letters", got, len(s.letters()))
		}
		s.read(2)
		stop()
	})
}

// deaf is a log that takes no group offsets: whoever reads it dies between the acknowledgement and the offset.
type deaf struct{ stream.Log }

func (d deaf) Consume(ctx context.Context, group, topic string, work func(context.Context, stream.Assignment)) error {
	return d.Log.Consume(ctx, group, topic, func(ctx context.Context, a stream.Assignment) { work(ctx, mute{a}) })
}

type mute struct{ stream.Assignment }

func (mute) Hint(context.Context, map[string]int64) error { return errors.New("nobody listens") }

// What is written twice is the same, byte for byte: readers know it by its id.
func TestWhatIsWrittenAgainIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStall(t, Config{})
		s.puts(0, opened("a", "C-1"), strings.Replace(opened("", "C-1"), `"id":"",`, "", 1), opened("b", "C-2"))
		for _, log := range []stream.Log{deaf{s.out.log}, s.out.log, s.out.log} {
			stop := s.open(log)
			synctest.Wait()
			stop()
		}
		values := map[string]int{}
		for p := range int32(partitions) {
			for _, r := range s.out.log.Records(liveTopic, p) {
				values[string(r.Value)]++
			}
		}
		if len(values) != 3 {
			t.Errorf("%d different events, want 3: %v", len(values), values)
		}
		for v, n := range values {
			if n != 2 { // the third found nothing to do
				t.Errorf("%s was written %d times", v, n)
			}
		}
	})
}

func TestKafkaThatIsAwayHoldsRecordsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStall(t, Config{})
		s.out.failures = 12
		s.puts(0, opened("a", "C-1"), "{}")
		stop := s.open(s.out.log)
		time.Sleep(time.Second)
		s.read(0)
		if ready, components := s.set.Health.State(); !ready || !strings.Contains(components["source shop"].Detail, "produce") {
			t.Errorf("health is %v %+v", ready, components)
		}
		time.Sleep(time.Minute) // of the bubble: the pauses end at five seconds
		s.read(2)
		if got := s.ids(); !slices.Equal(got, []string{"shop-a"}) || len(s.letters()) != 1 {
			t.Errorf("got %q and %d letters", got, len(s.letters()))
		}
		if _, components := s.set.Health.State(); components["source shop"].Detail != "" {
			t.Errorf("health is %+v", components)
		}
		s.counts(accepted, 1)
		s.counts(dead, 1)
		stop()
	})
}

func TestATopicThatDoesNotExistIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStall(t, Config{Sources: file(t, strings.Replace(declared, theirs, "later", 1))})
		stop := s.open(s.out.log)
		time.Sleep(time.Second)
		if ready, components := s.set.Health.State(); !ready || !strings.Contains(components["source shop"].Detail, "no such topic") {
			t.Errorf("health is %v %+v", ready, components)
		}
		s.out.log.Create("later", stream.TopicInfo{Partitions: 1})
		s.out.log.Append("later", 0, stream.Message{Value: []byte(opened("a", "C-1"))})
		time.Sleep(10 * time.Second)
		if got := s.ids(); !slices.Equal(got, []string{"shop-a"}) {
			t.Errorf("got %q", got)
		}
		stop()
	})
}

// Their owner decides for how long a topic keeps its records.
func TestRecordsThatAreGoneAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStall(t, Config{})
		s.puts(0, opened("a", "C-1"))
		stop := s.open(s.out.log)
		synctest.Wait()
		stop()
		s.puts(0, opened("b", "C-1"), opened("c", "C-1"), opened("d", "C-1"))
		s.out.log.Truncate(theirs, 0, 3)
		stop = s.open(s.out.log)
		synctest.Wait()
		if got := s.ids(); !slices.Equal(got, []string{"shop-a", "shop-d"}) {
			t.Errorf("got %q", got)
		}
		s.counts(missed, 2)
		s.read(4)
		stop()
	})
}

// While it is read a topic can lose records, too.
func TestRecordsThatGoWhileTheTopicIsReadAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStall(t, Config{})
		s.puts(0, opened("a", "C-1"))
		release := s.out.hold()
		stop := s.open(s.out.log)
		synctest.Wait()
		s.puts(0, opened("b", "C-1"), opened("c", "C-1"))
		s.out.log.Truncate(theirs, 0, 2)
		release()
		synctest.Wait()
		if got := s.ids(); !slices.Equal(got, []string{"shop-a", "shop-c"}) {
			t.Errorf("got %q", got)
		}
		s.counts(missed, 1)
		s.read(3)
		stop()
	})
}

func TestATopicThatIsMadeAnewIsReadFromItsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStall(t, Config{})
		s.puts(0, opened("a", "C-1"), opened("b", "C-1"))
		stop := s.open(s.out.log)
		synctest.Wait()
		stop()
		s.out.log.Create(theirs, stream.TopicInfo{Partitions: 2})
		s.puts(0, opened("c", "C-1"))
		stop = s.open(s.out.log)
		time.Sleep(time.Minute) // of the bubble: an end that lies behind is asked for again
		if got := s.ids(); !slices.Equal(got, []string{"shop-a", "shop-b", "shop-c"}) {
			t.Errorf("got %q", got)
		}
		s.read(1)
		stop()
	})
}

func TestWhatTheTopicDoesNotTakeIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStall(t, Config{})
		large := opened("b", "C-1", `,"url":"`, strings.Repeat("x", 2000), `"`)
		s.out.largest = map[string]int{topics.Events: 1000, topics.DeadLetter(topics.Events): 1500}
		s.puts(0, opened("a", "C-1"), large, opened("c", "C-1"))
		stop := s.open(s.out.log)
		synctest.Wait()
		if got := s.ids(); !slices.Equal(got, []string{"shop-a", "shop-c"}) {
			t.Errorf("got %q", got)
		}
		letters := s.letters()
		if len(letters) != 1 || !strings.HasPrefix(large, string(letters[0].Value)) || len(letters[0].Value) < 500 ||
			!strings.Contains(header(letters[0], "__connect.errors.exception.message"), "fit this topic") || header(letters[0], "__connect.errors.offset") != "1" {
			t.Errorf("set aside as %+v", letters)
		}
		s.counts(accepted, 2)
		s.counts(dead, 1)
		s.read(3)
		stop()
	})
}

// Processes share the partitions; who comes and goes loses nothing, and in good order doubles nothing.
func TestSourcesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStall(t, Config{})
		n := 0
		more := func() {
			for range 10 {
				s.puts(int32(n%2), opened(fmt.Sprintf("%03d", n), fmt.Sprintf("C-%d", n%7)))
				n++
			}
		}
		more()
		first := s.open(s.out.log)
		more()
		second := s.open(s.out.log)
		more()
		synctest.Wait()
		more()
		first()
		more()
		third := s.open(s.out.log)
		synctest.Wait()
		more()
		synctest.Wait()
		second()
		third()
		got := s.ids()
		if distinct := slices.Compact(slices.Clone(got)); len(got) != n || len(distinct) != n {
			t.Errorf("%d events, %d of them different, want %d", len(got), len(distinct), n)
		}
	})
}

// All live runs write to the same topic: who goes on under another name must not read everything again.
func TestAnotherLiveRunReadsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStall(t, Config{})
		for _, run := range []string{"r1", "r2"} {
			s.server.config.Run.ID = run
			s.puts(0, opened(run, "C-1"))
			stop := s.open(s.out.log)
			synctest.Wait()
			stop()
		}
		if got := s.ids(); !slices.Equal(got, []string{"shop-r1", "shop-r2"}) {
			t.Errorf("got %q", got)
		}
	})
}

// A simulated run reads what there is, and writes to topics of its own.
func TestASimulatedRunReadsTheSameTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Config{}
		c.Run.ID, c.Run.Mode = "try", "simulated"
		s := newStall(t, c)
		s.puts(0, strings.Replace(opened("a", "C-1"), "2026", "2031", 1)) // any time is as good as another
		stop := s.open(s.out.log)
		synctest.Wait()
		if events := s.events("sim.try." + topics.Events); len(events) != 1 || len(s.letters()) != 0 {
			t.Errorf("got %+v", events)
		}
		if o := s.out.log.Offsets("sim.try.ingest-shop", theirs); o[0] != 1 {
			t.Errorf("read to %v", o)
		}
		stop()
	})
}

func TestSourcesThatCannotBeRead(t *testing.T) {
	for name, want := range map[string]string{
		"no-such-file": "SOURCES: ",
		file(t, "sources:\n- {name: a}\n- {name: b, topic: engagement.events.v1, format: cloudevents}"): "sources.yaml:2:3: sources[0].topic: is required",
		file(t, strings.Repeat("#", maxSources+1)):                                                      "is it the right file?",
	} {
		c := Config{Sources: name}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}
