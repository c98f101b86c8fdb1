package stream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is one worker on a log and a store in memory, inside a synctest bubble.
type bench struct {
	*testing.T
	log   *streamtest.Log
	store *streamtest.Store
	rt    stream.Runtime
	seen  *recorder
	job   stream.Job[line, journal, tally]
	stop  func() error
}

const day0 = "2026-03-01T00:00:00Z"

// within runs a story in a bubble, on topics with one partition.
func within(t *testing.T, story func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, log: streamtest.NewLog(), store: streamtest.NewStore(), seen: &recorder{record: record{raised: map[string]int{}, causes: map[string]int{}}}, job: journalJob(), stop: func() error { return nil }}
		for _, topic := range []string{"a", "b", "models", "a.dlq", "b.dlq", "models.dlq", "out", "sums"} {
			b.log.Create(topic, stream.TopicInfo{Partitions: 1, MaxMessageBytes: 4000})
		}
		b.rt = stream.Runtime{Log: b.log, Store: b.store, Run: stream.Run{ID: "r1"}, Observer: b.seen}
		story(b)
		if err := b.stop(); err != nil {
			t.Errorf("Process: %v", err)
		}
		b.expect("owned at the end", b.seen.now().owned, 0)
		b.expect("alarms at the end", len(b.seen.now().standing), 0)
	})
}

func (b *bench) start() {
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- stream.Process(ctx, b.job, b.rt) }()
	b.stop = func() error {
		cancel()
		b.stop = func() error { return nil }
		return <-done
	}
	b.settle()
}

// settle waits until nothing more happens, including hints and idle checks.
func (b *bench) settle() { b.sleep(3 * time.Second) }

func (b *bench) sleep(d time.Duration) { time.Sleep(d); synctest.Wait() }

func (b *bench) send(topic, id string) {
	m := stream.Message{Key: []byte("k"), Value: []byte(id)}
	if topic == "models" {
		m.Key = nil
	}
	b.log.Append(topic, 0, m)
}

func (b *bench) ids(topic string) (ids []string) {
	for _, r := range b.log.Records(topic, 0) {
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			b.Fatal(err)
		}
		ids = append(ids, e.Sequence+" "+string(e.Data))
	}
	return ids
}

func (b *bench) snapshot() stream.Snapshot {
	s, err := b.store.Read(b.Context(), b.rt.Run.Group("journal"), 0, []string{"k"})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func (b *bench) state() string { return string(b.snapshot().Values[0]) }

func (b *bench) expect(what string, got, want any) {
	b.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		b.Errorf("%s:\n have %v\n want %v", what, got, want)
	}
}

// recorder is an Observer that adds up.
type recorder struct {
	mu sync.Mutex
	record
}

type record struct {
	reports  []stream.Report
	raised   map[string]int
	standing []string
	retries  []string
	causes   map[string]int
	owned    int
}

// now returns a copy of what was recorded.
func (r *recorder) now() record {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.record
	c.reports, c.standing, c.retries = slices.Clone(r.reports), slices.Clone(r.standing), slices.Clone(r.retries)
	c.raised, c.causes = maps.Clone(r.raised), maps.Clone(r.causes)
	return c
}

func (r *recorder) Owned(_ int32, owned bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if owned {
		r.owned++
	} else {
		r.owned--
	}
}

func (r *recorder) Takeover(_ int32, cause string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.causes[cause]++
}

func (r *recorder) Batch(rep *stream.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := *rep
	c.Inputs, c.Links = slices.Clone(rep.Inputs), slices.Clone(rep.Links)
	r.reports = append(r.reports, c)
}

func (r *recorder) Retry(_ int32, op string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retries = append(r.retries, op)
}

func (r *recorder) Alarm(_ int32, kind string, raised bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if raised {
		r.raised[kind]++
		r.standing = append(r.standing, kind)
	} else {
		r.standing = slices.DeleteFunc(r.standing, func(k string) bool { return k == kind })
	}
}

// sum adds one figure of all reports.
func (r *recorder) sum(of func(*stream.Report) int) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.reports {
		n += of(&r.reports[i])
	}
	return n
}

// echo is a job whose every record gives one output that repeats it.
func (b *bench) echo() {
	b.job.Step = func(c *stream.Context, s *journal, p *tally, in *line) error {
		if s == nil {
			return nil
		}
		s.entries = append(s.entries, in.id+p.model)
		c.Emit(stream.Emission{Topic: "out", Type: "t", Prefix: "o-", Subject: "k", Data: []byte(`"` + in.id + p.model + `"`)})
		return nil
	}
}

func TestOutputOnTheWire(t *testing.T) {
	within(t, func(b *bench) {
		b.job.Decode = func(r *stream.Record, in *line) (stream.Cause, error) {
			in.id = string(r.Value)
			at, _ := time.Parse(time.RFC3339, day0)
			return stream.Cause{ID: in.id, Time: at.Add(104 * time.Millisecond), Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, nil
		}
		b.job.Step = func(c *stream.Context, s *journal, p *tally, in *line) error {
			c.Emit(stream.Emission{Topic: "out", Type: "io.tempismo.scored.v1", Prefix: "sc-", Subject: `C "1"`, Data: []byte(`{"x":1}`)})
			c.Emit(stream.Emission{Topic: "sums", Type: "io.tempismo.digest.v1", Prefix: "dg-", Time: c.Cause().Time.Add(time.Hour), Data: []byte(`{}`)})
			return nil
		}
		b.send("a", "x0")
		b.send("a", "x1")
		b.start()
		r := b.log.Records("out", 0)[1]
		b.expect("value", string(r.Value), `{"specversion":"1.0","id":"sc-144a6e5dfe8cc782b731cbf9","source":"/tempismo/journal/r1/a/0","type":"io.tempismo.scored.v1","subject":"C \"1\"","time":"2026-03-01T00:00:00.104Z","datacontenttype":"application/json","sequence":"00000000000000000001.000","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","data":{"x":1}}`)
		b.expect("key", string(r.Key), `C "1"`)
		b.expect("headers", fmt.Sprintf("%s", r.Headers), "[{content-type application/cloudevents+json} {source /tempismo/journal/r1/a/0} {sequence 00000000000000000001.000}]")
		d := b.log.Records("sums", 0)[1]
		e, err := stream.ParseEvent(d.Value)
		b.expect("digest", []any{d.Key == nil, e.Subject, e.Sequence, e.Time.Format(time.RFC3339), err}, []any{true, "", "00000000000000000001.001", "2026-03-01T01:00:00Z", nil})
		b.expect("links", b.seen.now().reports[0].Links, []string{"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
	})
}

func TestDeadLetters(t *testing.T) {
	for _, c := range []struct {
		name         string
		in           stream.Message
		stage, why   string
		touchesState bool
	}{
		{"a record that does not decode", stream.Message{Key: []byte("k"), Value: []byte("poison"), Headers: []stream.Header{{Key: "mine", Value: []byte("kept")}}}, "decode", "poison", false},
		{"a record that the Step refuses", stream.Message{Key: []byte("k"), Value: []byte("refused-k-1")}, "step", "refused", true},
		{"a record without a key", stream.Message{Value: []byte("a-k-1")}, "key", "key: empty", false},
		{"a tombstone", stream.Message{Key: []byte("k")}, "value", "value: empty", false},
		{"a record that decodes to no id", stream.Message{Key: []byte("k"), Value: []byte(" ")}, "decode", "id: empty", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			within(t, func(b *bench) {
				decode := b.job.Decode
				b.job.Decode = func(r *stream.Record, in *line) (stream.Cause, error) {
					cause, err := decode(r, in)
					cause.ID = strings.TrimSpace(cause.ID)
					return cause, err
				}
				b.send("a", "a-k-0")
				b.log.Append("a", 0, c.in)
				b.send("a", "a-k-2")
				b.start()
				b.expect("state", b.state(), "a-k-0 a-k-2")
				letters := b.log.Records("a.dlq", 0)
				if len(letters) != 1 {
					t.Fatalf("%d dead letters", len(letters))
				}
				l, h := letters[0], map[string]string{}
				for _, x := range letters[0].Headers {
					h[x.Key] = string(x.Value)
				}
				if !bytes.Equal(l.Key, c.in.Key) || !bytes.Equal(l.Value, c.in.Value) {
					t.Errorf("not the original: %q %q", l.Key, l.Value)
				}
				for _, x := range c.in.Headers {
					b.expect("header "+x.Key, h[x.Key], string(x.Value))
				}
				b.expect("headers", []string{h["__connect.errors.topic"], h["__connect.errors.partition"], h["__connect.errors.offset"], h["__connect.errors.stage"], h["__connect.errors.exception.message"], h["__connect.errors.class.name"]},
					[]string{"a", "0", "1", c.stage, c.why, "*errors.errorString"})
				b.expect("counted", b.seen.sum(func(r *stream.Report) int { return r.DeadLetters }), 1)
			})
		})
	}
}

func TestAnOutputThatDoesNotFitBecomesADeadLetterOfItsInput(t *testing.T) {
	within(t, func(b *bench) {
		b.job.Step = func(c *stream.Context, s *journal, p *tally, in *line) error {
			n := 10
			if in.id == "large" {
				n = 5000
			}
			c.Emit(stream.Emission{Topic: "out", Type: "t", Subject: "k", Data: bytes.Repeat([]byte("1"), n)})
			c.Emit(stream.Emission{Topic: "out", Type: "t", Subject: "k", Data: []byte(`"second"`)})
			return nil
		}
		b.send("a", "small")
		b.send("a", "large")
		b.start()
		b.expect("outputs", len(b.ids("out")), 3)
		letters := b.log.Records("a.dlq", 0)
		b.expect("letters", len(letters), 1)
		b.expect("value", string(letters[0].Value), "large")
		if why := fmt.Sprintf("%s", letters[0].Headers); !strings.Contains(why, "output 00000000000000000001.000 for out is 5") || !strings.Contains(why, "{__connect.errors.stage output}") {
			t.Error(why)
		}
	})
}

func TestALetterTooLargeForItsTopicStillNamesThePosition(t *testing.T) {
	within(t, func(b *bench) {
		b.log.Append("a", 0, stream.Message{Key: []byte("k"), Value: []byte("poison" + strings.Repeat("x", 3800))})
		b.start()
		letters := b.log.Records("a.dlq", 0)
		b.expect("letters", len(letters), 1)
		if why := fmt.Sprintf("%s", letters[0].Headers); len(letters[0].Value) != 0 || !strings.Contains(why, "{__connect.errors.offset 0}") || !strings.Contains(why, "raise its max.message.bytes") {
			t.Error(why)
		}
	})
}

func TestWhatAStepEmittedBeforeItRefusedIsTakenBack(t *testing.T) {
	within(t, func(b *bench) {
		b.job.Step = func(c *stream.Context, s *journal, p *tally, in *line) error {
			c.Emit(stream.Emission{Topic: "out", Type: "t", Subject: "k", Data: []byte(`"` + in.id + `"`)})
			if in.id == "1" {
				return stream.Permanent(errors.New("too late"))
			}
			return nil
		}
		b.send("a", "0")
		b.send("a", "1")
		b.send("a", "2")
		b.start()
		b.expect("outputs", b.ids("out"), []string{`00000000000000000000.000 "0"`, `00000000000000000002.000 "2"`})
		b.expect("letters", len(b.log.Records("a.dlq", 0)), 1)
	})
}

func TestRepeatedSourcePositionsAreDropped(t *testing.T) {
	within(t, func(b *bench) {
		b.echo()
		send := func(source, sequence, id string) {
			b.log.Append("a", 0, stream.Message{Key: []byte("k"), Value: []byte(id), Headers: []stream.Header{{Key: "source", Value: []byte(source)}, {Key: "sequence", Value: []byte(sequence)}}})
		}
		send("/s/0", "00000000000000000005.000", "five")
		send("/s/0", "00000000000000000005.001", "five-one")
		send("/s/0", "00000000000000000005.000", "five again")
		send("/s/1", "00000000000000000004.000", "other source")
		send("/s/0", "00000000000000000005.001", "five-one again")
		send("/s/0", "00000000000000000005.999", "five-999")
		send("/s/0", "00000000000000000005.1000", "five-1000")
		send("/s/0", "00000000000000000004.999", "four again")
		send("/s/0", "7", "no position of ours")
		send("", "00000000000000000001.000", "no source")
		b.start()
		if err := b.stop(); err != nil { // what was seen survives a restart
			t.Fatal(err)
		}
		b.start()
		send("/s/0", "00000000000000000005.001", "five-one, late")
		send("/s/0", "00000000000000000006.000", "six")
		b.settle()
		b.expect("applied", b.state(), "five five-one other source five-999 five-1000 no position of ours no source six")
		b.expect("counted", b.seen.sum(func(r *stream.Report) int { return r.Duplicates }), 4)
	})
}

func TestRecordsAreTakenInOrderOfTimeTopicAndOffset(t *testing.T) {
	within(t, func(b *bench) {
		b.echo()
		t0, _ := time.Parse(time.RFC3339, day0)
		put := func(topic string, second int, id string) {
			b.log.Append(topic, 0, stream.Message{Key: []byte("k"), Value: []byte(id), Time: t0.Add(time.Duration(second) * time.Second)})
		}
		put("b", 1, "b1")
		put("b", 3, "b3")
		put("b", 3, "b3-")
		put("a", 2, "a2")
		put("a", 3, "a3")
		put("a", 1, "a1")
		put("models", 3, "/m")
		put("a", 4, "a4")
		b.rt.BatchBytes = 3 // however small the fetches are
		b.start()
		b.expect("order", b.state(), "b1 a2 a3 a1 b3 b3- a4/m")
		b.send("b", "late") // an input at its end holds nobody up, and what comes later is taken when it comes
		b.settle()
		b.expect("order", b.state(), "b1 a2 a3 a1 b3 b3- a4/m late/m")
	})
}

func TestTheClock(t *testing.T) {
	for _, c := range []struct {
		simulated bool
		want      string
	}{{false, "10:00:05 10:00:05 10:00:09"}, {true, "03:00:01 03:00:07 03:00:07"}} {
		t.Run(fmt.Sprint(c.simulated), func(t *testing.T) {
			job := journalJob()
			job.Decode = func(r *stream.Record, in *line) (stream.Cause, error) {
				at, err := time.Parse(time.DateTime, "2026-03-01 "+string(r.Value))
				if err != nil {
					return stream.Cause{}, stream.Permanent(err)
				}
				return stream.Cause{ID: "x", Time: at}, nil
			}
			job.Step = func(c *stream.Context, s *journal, p *tally, in *line) error {
				if s != nil {
					s.entries = append(s.entries, c.Now().Format(time.TimeOnly))
				}
				return nil
			}
			d := streamtest.NewDriver(t, job, stream.Run{ID: "r", Simulated: c.simulated})
			pipe := func(topic, record, event string) {
				at, _ := time.Parse(time.DateTime, "2026-03-01 "+record)
				d.Pipe(stream.Record{Topic: topic, Key: []byte("k"), Value: []byte(event), Time: at})
			}
			pipe("a", "10:00:05", "03:00:01")
			pipe("models", "11:00:00", "23:00:00") // does not move it
			pipe("a", "11:00:00", "nonsense")      // neither
			pipe("b", "10:00:03", "03:00:07")
			pipe("a", "10:00:09", "03:00:02")
			if got := strings.Join(d.State("k").entries, " "); got != c.want {
				t.Errorf("have %s, want %s", got, c.want)
			}
		})
	}
}

func TestShutdownFinishesAndClearsTheOutbox(t *testing.T) {
	within(t, func(b *bench) {
		b.echo()
		for i := range 5 {
			b.send("a", fmt.Sprint(i))
		}
		b.start()
		if len(b.snapshot().Outbox) == 0 {
			t.Error("while it runs, the last outbox is stored")
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		s := b.snapshot()
		b.expect("outbox", len(s.Outbox), 0)
		b.expect("positions", s.Positions, map[string]int64{"a": 5, "b": 0, "models": 0})
		b.expect("hint", b.log.Offsets("tempismo.r1.journal", "a"), map[int32]int64{0: 5})
		b.start() // nothing is published again, and the model is remembered
		b.send("models", "/m1")
		b.settle()
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		b.start()
		b.send("a", "5")
		b.settle()
		b.expect("outputs", len(b.ids("out")), 6)
		b.expect("state", b.state(), "0 1 2 3 4 5/m1")
	})
}

func TestShutdownDoesNotWaitForABrokerThatIsGone(t *testing.T) {
	within(t, func(b *bench) {
		b.echo()
		gone := goneLog{Log: b.log, gone: new(atomic.Bool)}
		gone.gone.Store(true)
		b.rt.Log = gone
		b.send("a", "0")
		b.start()
		b.send("a", "1")
		b.sleep(time.Minute)
		b.expect("nothing is committed over an outbox that was not acknowledged", b.state(), "0")
		b.expect("outputs", len(b.ids("out")), 0)
		if n := len(b.seen.now().retries); n < 5 || n > 40 {
			t.Errorf("%d attempts in a minute", n)
		}
		began := time.Now()
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d < 9*time.Second || d > 11*time.Second {
			t.Errorf("it took %v, and the timeout is 10 s", d)
		}
		gone.gone.Store(false)
		b.start()
		b.expect("the next owner publishes the outbox and goes on", b.ids("out"), []string{`00000000000000000000.000 "0"`, `00000000000000000001.000 "1"`})
	})
}

// goneLog is a log whose producers fail while it is gone.
type goneLog struct {
	*streamtest.Log
	gone *atomic.Bool
}

func (l goneLog) Producer(ctx context.Context) (stream.Producer, error) {
	p, err := l.Log.Producer(ctx)
	return goneProducer{p, l.gone}, err
}

type goneProducer struct {
	stream.Producer
	gone *atomic.Bool
}

func (p goneProducer) Produce(ctx context.Context, topic string, partition int32, m []stream.Message) (int64, error) {
	if p.gone.Load() {
		return 0, errors.New("connection refused")
	}
	return p.Producer.Produce(ctx, topic, partition, m)
}

func TestAReaderFindsTheJobsPartOfThePartitionState(t *testing.T) {
	within(t, func(b *bench) {
		if own, err := new(stream.Meta).JobPartition(); own != nil || err != nil {
			t.Error(own, err)
		}
		for i := range 3 {
			b.log.Append("b", 0, stream.Message{Key: []byte("k"), Value: fmt.Appendf(nil, "b-k-%d", i), Headers: []stream.Header{
				{Key: "source", Value: fmt.Appendf(nil, "/s/%d", i)}, {Key: "sequence", Value: []byte("00000000000000000005.000")}}})
		}
		b.start()
		m := b.snapshot().Meta
		own, err := m.JobPartition()
		b.expect("own part", []any{own, err}, []any{[]byte{3}, nil})
		for n := 1; n < len(m.Partition)-1; n++ {
			m := stream.Meta{Partition: m.Partition[:n]}
			if _, err := m.JobPartition(); err == nil {
				t.Errorf("%d of %d bytes were read", n, len(m.Partition))
			}
		}
	})
}

func TestAfterARollbackNothingAcknowledgedIsEmittedAgain(t *testing.T) {
	within(t, func(b *bench) {
		b.echo()
		b.send("a", "0")
		b.start()
		restore := b.store.Snapshot("tempismo.r1.journal", 0)
		b.send("a", "1")
		b.settle()
		b.send("a", "2")
		b.settle()
		restore() // found by the idle check: no record has to come
		b.settle()
		b.expect("state", b.state(), "0 1 2")
		b.expect("outputs", b.ids("out"), []string{`00000000000000000000.000 "0"`, `00000000000000000001.000 "1"`, `00000000000000000002.000 "2"`, `00000000000000000000.000 "0"`})
		b.expect("takeovers", b.seen.now().causes, map[string]int{"assigned": 1, "offset": 1})
		b.expect("alarms", b.seen.now().raised, map[string]int{"rollback": 1})
		b.expect("standing", len(b.seen.now().standing), 0)
		b.expect("suppressed", b.seen.sum(func(r *stream.Report) int { return r.Suppressed }), 2)
		b.send("a", "3")
		b.settle()
		b.expect("outputs", len(b.ids("out")), 5)
	})
}

func TestALostStateIsRebuiltFromTheEarliestRecord(t *testing.T) {
	within(t, func(b *bench) {
		b.echo()
		var partial []bool
		step := b.job.Step
		b.job.Step = func(c *stream.Context, s *journal, p *tally, in *line) error {
			partial = append(partial, c.Partial())
			return step(c, s, p, in)
		}
		for i := range 6 {
			b.send("a", fmt.Sprint(i))
		}
		b.start()
		b.expect("alarms at the first start", b.seen.now().raised, map[string]int{})
		b.log.Truncate("a", 0, 2)
		b.store.Lose("tempismo.r1.journal", 0)
		b.settle()
		b.expect("state", b.state(), "2 3 4 5")
		b.expect("partial, for readers", b.snapshot().Partial, true)
		b.expect("outputs", len(b.ids("out")), 6)
		b.expect("alarms", []any{b.seen.now().raised, b.seen.now().standing, b.seen.now().causes}, []any{map[string]int{"lost": 1}, []string(nil), map[string]int{"assigned": 1, "lost": 1}})
		b.expect("rebuilding", string(b.snapshot().Rebuilding), "")
		b.expect("partial", partial, []bool{false, false, false, false, false, false, true, true, true, true})
		b.send("a", "6")
		b.settle()
		b.expect("outputs", len(b.ids("out")), 7)
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		b.start() // the partition stays partial
		b.send("a", "7")
		b.settle()
		b.expect("partial", partial[len(partial)-1], true)
	})
}

func TestReadersAreToldWhileAStateIsRebuilt(t *testing.T) {
	within(t, func(b *bench) {
		b.echo()
		gate := make(chan struct{})
		step := b.job.Step
		b.job.Step = func(c *stream.Context, s *journal, p *tally, in *line) error {
			<-gate
			return step(c, s, p, in)
		}
		b.rt.BatchRecords = 1
		for i := range 3 {
			b.send("a", fmt.Sprint(i))
		}
		b.start()
		b.expect("before the first record", string(b.snapshot().Rebuilding), "a=3")
		b.send("a", "3")
		gate <- struct{}{}
		gate <- struct{}{}
		synctest.Wait()
		b.expect("in the middle", string(b.snapshot().Rebuilding), "a=3")
		gate <- struct{}{}
		synctest.Wait()
		b.expect("at the end that was seen at the claim", string(b.snapshot().Rebuilding), "")
		close(gate)
	})
}

func TestAPositionOutsideTheLogIsAnAlarmAndNeverReset(t *testing.T) {
	for _, c := range []struct {
		name        string
		damage      func(b *bench)
		repair      func(b *bench)
		want, after string
	}{
		{"records were lost by retention", func(b *bench) { b.log.Truncate("a", 0, 5) }, nil, "0 1 2", ""},
		{"the log lost its tail, and grows again", func(b *bench) { b.log.Cut("a", 0, 2) }, func(b *bench) { b.send("a", "x"); b.send("a", "y") }, "0 1 2", "0 1 2 y"},
	} {
		t.Run(c.name, func(t *testing.T) {
			within(t, func(b *bench) {
				b.echo()
				for i := range 3 {
					b.send("a", fmt.Sprint(i))
				}
				b.start()
				if err := b.stop(); err != nil {
					t.Fatal(err)
				}
				for i := range 4 {
					b.send("a", fmt.Sprint(3+i))
				}
				c.damage(b)
				b.start()
				b.sleep(time.Minute)
				b.expect("state", b.state(), c.want)
				b.expect("standing", b.seen.now().standing, []string{"out-of-range"})
				b.expect("owned", b.seen.now().owned, 0)
				b.expect("raised once", b.seen.now().raised, map[string]int{"out-of-range": 1})
				if n := b.seen.now().causes["range"]; n < 5 || n > 30 {
					t.Errorf("%d attempts in a minute", n)
				}
				if c.repair == nil {
					return
				}
				c.repair(b)
				b.sleep(time.Minute)
				b.expect("state", b.state(), c.after)
				b.expect("standing", len(b.seen.now().standing), 0)
			})
		})
	}
}

func TestPartitionCountsThatDoNotFitRefuseToStart(t *testing.T) {
	within(t, func(b *bench) {
		b.send("a", "0")
		b.start()
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{"a", "b", "models"} {
			b.log.Create(topic, stream.TopicInfo{Partitions: 2, MaxMessageBytes: 4000})
		}
		b.start()
		if err := b.stop(); err == nil || !strings.Contains(err.Error(), "was made with 1 partitions, but a has 2: restore") {
			t.Error(err)
		}
		b.log.Create("b", stream.TopicInfo{Partitions: 3, MaxMessageBytes: 4000})
		b.start()
		if err := b.stop(); err == nil || !strings.Contains(err.Error(), "reads a with 2 partitions and b with 3") {
			t.Error(err)
		}
	})
}

func TestPartitionsThatAppearLaterRefuseToGoOn(t *testing.T) {
	within(t, func(b *bench) {
		b.rt.Log = grownLog{b.log}
		b.start()
		if err := b.stop(); err == nil || !strings.Contains(err.Error(), "a has got more partitions than the 1 it had") {
			t.Error(err)
		}
	})
}

// grownLog assigns a partition that the topic did not have when it was described.
type grownLog struct{ *streamtest.Log }

func (l grownLog) Consume(ctx context.Context, group, topic string, work func(context.Context, stream.Assignment)) error {
	return l.Log.Consume(ctx, group, topic, func(ctx context.Context, a stream.Assignment) { work(ctx, grown{a}) })
}

type grown struct{ stream.Assignment }

func (grown) Partition() int32 { return 1 }

func TestAStepThatFailsIsTriedAgainVisiblyAndNeverSkipped(t *testing.T) {
	within(t, func(b *bench) {
		b.echo()
		step := b.job.Step
		var broken atomic.Bool
		broken.Store(true)
		b.job.Step = func(c *stream.Context, s *journal, p *tally, in *line) error {
			if in.id == "1" && broken.Load() {
				s.entries = append(s.entries, "half")
				c.Emit(stream.Emission{Topic: "out", Type: "t", Subject: "k", Data: []byte(`"half"`)})
				panic("a bug")
			}
			return step(c, s, p, in)
		}
		b.send("a", "0")
		b.send("a", "1")
		b.start()
		b.sleep(time.Minute)
		b.expect("standing", b.seen.now().standing, []string{"step"})
		if n := b.seen.now().causes["step"]; n < 5 || n > 30 {
			t.Errorf("%d attempts in a minute", n)
		}
		broken.Store(false)
		b.sleep(time.Minute)
		b.expect("state", b.state(), "0 1")
		b.expect("outputs", len(b.ids("out")), 2)
		b.expect("standing", len(b.seen.now().standing), 0)
	})
}

// A partition that waits is taken over again and again. What lies in its outbox is published once more, not each time.
func TestAWaitingPartitionDoesNotPublishItsOutboxOverAndOver(t *testing.T) {
	for name, damage := range map[string]func(b *bench){
		"for a Step that fails": func(b *bench) { b.send("a", "broken") },
		"for a log that does not hold the position": func(b *bench) {
			b.log.Cut("a", 0, 0)
			b.send("a", "another")
		},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(b *bench) {
				b.echo()
				step := b.job.Step
				b.job.Step = func(c *stream.Context, s *journal, p *tally, in *line) error {
					if in.id == "broken" {
						panic("a bug")
					}
					return step(c, s, p, in)
				}
				b.send("a", "0")
				b.send("a", "1")
				b.start()
				b.expect("outputs", len(b.ids("out")), 2)
				damage(b)
				b.sleep(time.Minute)
				b.expect("outputs, and what one takeover publishes again", len(b.ids("out")), 4)
				if n := len(b.seen.now().standing); n != 1 {
					t.Errorf("%d alarms stand", n)
				}
			})
		})
	}
}

func TestEmittingToAnUndeclaredTopicIsSuchAMistake(t *testing.T) {
	within(t, func(b *bench) {
		b.job.Step = func(c *stream.Context, s *journal, p *tally, in *line) error {
			c.Emit(stream.Emission{Topic: "nowhere", Data: []byte("1")})
			return nil
		}
		b.send("a", "0")
		b.start()
		b.expect("standing", b.seen.now().standing, []string{"step"})
		b.expect("position", b.snapshot().Positions["a"], 0)
	})
}

func TestABatchIsWhatHasArrivedWithinBounds(t *testing.T) {
	batches := func(b *bench) (n []int) {
		for _, r := range b.seen.now().reports {
			n = append(n, r.Records)
		}
		return n
	}
	within(t, func(b *bench) {
		b.echo()
		for i := range 10 {
			b.send("a", fmt.Sprint(i))
		}
		b.rt.BatchRecords = 4
		b.start()
		b.send("a", "10")
		b.settle()
		b.expect("by count", batches(b), []int{4, 4, 2, 1})
	})
	within(t, func(b *bench) {
		b.echo()
		for i := range 10 {
			b.send("a", fmt.Sprint(i)) // 2 bytes with the key
		}
		b.rt.BatchBytes = 6
		b.start()
		b.expect("by bytes", batches(b), []int{3, 3, 3, 1})
	})
	within(t, func(b *bench) {
		b.echo()
		for i := range 5 {
			b.send("a", fmt.Sprint(i)) // an output has some 350 bytes in the outbox
		}
		b.rt.OutboxBytes = 600
		b.start()
		b.expect("by outputs", batches(b), []int{2, 2, 1})
		b.expect("outputs", len(b.ids("out")), 5)
		b.expect("bytes", b.seen.sum(func(r *stream.Report) int { return r.Bytes }), 10)
		b.expect("by input", b.seen.sum(func(r *stream.Report) int { return r.Inputs[0].Records }), 5)
	})
}

func TestTheReportOfABatch(t *testing.T) {
	within(t, func(b *bench) {
		b.echo()
		b.rt.BatchRecords = 3
		old := stream.Message{Key: []byte("k"), Value: []byte("x"), Time: time.Now().Add(-time.Minute)}
		b.log.Append("a", 0, old, old, old, old)
		b.send("b", "y")
		b.start()
		r := b.seen.now().reports[0]
		b.expect("first", []any{r.Service, r.Records, r.Bytes, r.Outputs, r.Keys, r.Misses, r.LagRecords, r.Lag, r.Inputs},
			[]any{"journal", 3, 6, 3, 1, 1, 2, time.Minute, []stream.InputReport{{Topic: "a", Records: 3, Next: 3, Lag: 1}, {Topic: "b", Lag: 1}, {Topic: "models"}}})
		r = b.seen.now().reports[1]
		b.expect("second", []any{r.Records, r.Misses, r.LagRecords, r.Lag}, []any{2, 0, 0, time.Duration(0)})
	})
}

// A worker that has lost its partition without knowing must not read its heir's states: after a rollback that makes it
// the owner again it could commit a record twice.
func TestAZombieMustNotLoadItsHeirsState(t *testing.T) {
	for _, fenced := range []bool{true, false} {
		t.Run(fmt.Sprintf("fenced=%v", fenced), func(t *testing.T) {
			within(t, func(b *bench) {
				b.echo()
				b.send("a", "0")
				hold := &holdingStore{Store: b.store, fenced: fenced, reached: make(chan struct{}), release: make(chan struct{})}
				heirStore := b.rt.Store
				b.rt.Store = hold
				var zombie stream.Assignment
				b.rt.Log = spyLog{b.log, &zombie}
				b.start() // it stands before its first load
				<-hold.reached
				stopZombie := b.stop
				rollback := b.store.Snapshot("tempismo.r1.journal", 0)

				readmit := b.log.Expel(zombie)
				b.rt.Store, b.rt.Log = heirStore, b.log
				b.start()
				b.expect("the heir's state", b.state(), "0")
				stopHeir := b.stop
				hold.afterLoad = rollback // the store goes back to the zombie's token
				close(hold.release)
				b.settle()
				readmit()
				b.settle()
				b.stop = func() error { return errors.Join(stopZombie(), stopHeir()) }
				if err := b.stop(); err != nil {
					t.Error(err)
				}
				want := "0"
				if !fenced {
					want = "0 0" // so this test can fail
				}
				b.expect("the state", b.state(), want)
			})
		})
	}
}

type spyLog struct {
	*streamtest.Log
	a *stream.Assignment
}

func (l spyLog) Consume(ctx context.Context, group, topic string, work func(context.Context, stream.Assignment)) error {
	return l.Log.Consume(ctx, group, topic, func(ctx context.Context, a stream.Assignment) {
		*l.a = a
		work(ctx, a)
	})
}

// holdingStore stops its first load.
type holdingStore struct {
	*streamtest.Store
	fenced           bool
	once             sync.Once
	reached, release chan struct{}
	afterLoad        func()
}

func (s *holdingStore) Claim(ctx context.Context, group string, partition int32) (stream.Lease, error) {
	l, err := s.Store.Claim(ctx, group, partition)
	return &holdingLease{l, s, group, partition}, err
}

type holdingLease struct {
	stream.Lease
	s         *holdingStore
	group     string
	partition int32
}

func (l *holdingLease) Load(ctx context.Context, keys []string, values [][]byte) (err error) {
	first := false
	l.s.once.Do(func() { first = true })
	if !first {
		return l.Lease.Load(ctx, keys, values)
	}
	close(l.s.reached)
	<-l.s.release
	if l.s.fenced {
		err = l.Lease.Load(ctx, keys, values)
	} else {
		var snap stream.Snapshot
		snap, err = l.s.Read(ctx, l.group, l.partition, keys)
		copy(values, snap.Values)
	}
	l.s.afterLoad()
	return err
}

func TestWhatWasAcknowledgedIsHintedByTheNextOwner(t *testing.T) {
	within(t, func(b *bench) {
		b.echo()
		b.send("a", "0")
		b.start()
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		fresh := streamtest.NewLog() // the same records, but a group that knows nothing
		for _, topic := range []string{"a", "b", "models", "a.dlq", "b.dlq", "models.dlq", "out", "sums"} {
			fresh.Create(topic, stream.TopicInfo{Partitions: 1})
		}
		b.log, b.rt.Log = fresh, fresh
		b.send("a", "0")
		b.start()
		b.expect("hint", b.log.Offsets("tempismo.r1.journal", "a"), map[int32]int64{0: 1})
	})
}

func TestAPositionMovesOverOffsetsWithoutRecords(t *testing.T) {
	within(t, func(b *bench) {
		b.echo()
		b.rt.Log = gapLog{b.log}
		for _, id := range []string{"gap", "0", "gap", "1"} {
			b.send("a", id)
		}
		b.start()
		b.send("a", "gap")
		b.settle()
		b.send("a", "gap")
		b.settle()
		b.expect("state", b.state(), "0 1")
		b.expect("position", b.snapshot().Positions["a"], 6)
		b.expect("hint", b.log.Offsets("tempismo.r1.journal", "a"), map[int32]int64{0: 6})
	})
}

// gapLog hides records, as a broker hides the markers of transactions.
type gapLog struct{ *streamtest.Log }

func (l gapLog) Open(ctx context.Context, topic string, partition int32, offset int64) (stream.Cursor, error) {
	c, err := l.Log.Open(ctx, topic, partition, offset)
	return gapCursor{c}, err
}

type gapCursor struct{ stream.Cursor }

func (c gapCursor) Fetch(ctx context.Context, maxBytes int, wait time.Duration) ([]stream.Record, error) {
	r, err := c.Cursor.Fetch(ctx, maxBytes, wait)
	return slices.DeleteFunc(r, func(r stream.Record) bool { return string(r.Value) == "gap" }), err
}

func TestMistakesOfADeclaration(t *testing.T) {
	err := stream.Process(t.Context(), stream.Job[line, journal, tally]{Service: "x", Inputs: []stream.Input{{Topic: "m", Broadcast: true}}}, stream.Runtime{})
	for _, want := range []string{"first input must be a keyed one", "Decode and Step", "State needs"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %q", err, want)
		}
	}
}

func TestProcessWaitsForTopics(t *testing.T) {
	within(t, func(b *bench) {
		b.echo()
		b.send("a", "0")
		records := b.log.Records("a", 0)
		b.rt.Log = streamtest.NewLog()
		late := b.rt.Log.(*streamtest.Log)
		b.start()
		for _, topic := range []string{"a", "b", "models", "a.dlq", "b.dlq", "models.dlq", "out", "sums"} {
			late.Create(topic, stream.TopicInfo{Partitions: 1})
		}
		late.Append("a", 0, stream.Message{Key: records[0].Key, Value: records[0].Value})
		b.sleep(20 * time.Second)
		b.expect("state", b.state(), "0")
		b.expect("retries", slices.Compact(b.seen.now().retries), []string{"topics"})
	})
}

func TestTwoMembersShareAndHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, kind{plot: scribePlot})
		for i := range 30 {
			key := fmt.Sprintf("k%d", i%5)
			w.log.AppendKeyed("a", stream.Message{Key: []byte(key), Value: fmt.Appendf(nil, "a-%s-%d", key, i)})
		}
		p, q := w.start(0), w.start(0)
		time.Sleep(5 * time.Second)
		p.cancel()
		<-p.done
		w.log.AppendKeyed("a", stream.Message{Key: []byte("k1"), Value: []byte("a-k1-30")})
		time.Sleep(5 * time.Second)
		q.cancel()
		<-q.done
		got := map[string]int{}
		for part := range int32(simPartitions) {
			_ = w.store.Scan(t.Context(), "tempismo.r1.scribe", part, func(k string, v []byte) bool {
				got[k] = len(strings.Fields(string(v)))
				return true
			})
		}
		if want := (map[string]int{"k0": 6, "k1": 7, "k2": 6, "k3": 6, "k4": 6}); !maps.Equal(got, want) {
			t.Errorf("%v", got)
		}
	})
}
