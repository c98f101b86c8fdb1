package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/profiler"
	"github.com/tempismo/tempismo/services/tempismo/history"
)

// A year of requests in eight zones goes through the real services, hour by hour, in a simulated run. What the decider decided
// is what its Step decides, folded over the logs in the order of the batches that it committed, with the looks that it recorded;
// and what history decides again, which knows of no batches.
func TestAYearInEightZones(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	brokers, store := embedded(t)
	liveAYear(t, brokers, store, "year", func(day time.Time) bool { return nearAChangeOfClocks(day) || day.YearDay()%13 == 0 },
		"send_now", "wait", "held_out", "expired", "cancelled", "send_now burst", "send_now exploration", "send_now preferred", "send_now fall_back", "send_now slot", unusual)
}

func TestRealAYearInEightZones(t *testing.T) {
	brokers, store := onRealOnes(t)
	liveAYear(t, brokers, store, "year-"+strconv.FormatInt(time.Now().UnixNano(), 36), func(day time.Time) bool {
		return nearAChangeOfClocks(day) && (day.Month() == time.March || day.Month() == time.October)
	}, "send_now", "wait", "held_out", "expired", "cancelled")
}

// zones are where the customers live: clocks change in the north and in the south, on other days, by half an hour, or never;
// some are off by half an hour or by three quarters of one.
var zones = []string{"Europe/Rome", "America/New_York", "America/Santiago", "Australia/Sydney", "Australia/Lord_Howe", "Pacific/Chatham", "Asia/Kolkata", "Africa/Casablanca"}

const (
	yearPartitions = 2
	historyOf      = 75 // days of habits before the year
	unusual        = "sent on a day with another number of hours"
)

var (
	yearBegins = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	yearEnds   = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
)

// nearAChangeOfClocks reports whether, in one of the zones, clocks change on the day or on those beside it.
func nearAChangeOfClocks(day time.Time) bool {
	for _, name := range zones {
		loc, err := calendar.Zone(name)
		if err != nil {
			panic(err)
		}
		_, before := day.AddDate(0, 0, -1).In(loc).Zone()
		_, after := day.AddDate(0, 0, 2).In(loc).Zone()
		if before != after {
			return true
		}
	}
	return false
}

// year drives the services through a year.
type year struct {
	t         *testing.T
	random    *rand.Rand
	shows     []string // what must occur, so that the year shows something
	run       stream.Run
	log       *kafka.Log
	store     *redis.Store
	w         *kafka.Writer
	customers []string
	homes     map[string]string // zone by customer
	requests  map[string]string // customer by request
	placed    []string
	today     int             // how many had been placed before the day
	read      map[int32]int64 // decisions that outcomes were told of
	n         int
}

func liveAYear(t *testing.T, brokers, redisAddr, id string, busy func(day time.Time) bool, shows ...string) {
	y := &year{t: t, shows: shows, random: rand.New(rand.NewPCG(5, 5)), run: stream.Run{ID: id, Simulated: true}, homes: map[string]string{}, requests: map[string]string{}, read: map[int32]int64{}}
	for i, zone := range slices.Concat(zones, zones) {
		c := fmt.Sprintf("c-%02d", i)
		y.customers, y.homes[c] = append(y.customers, c), zone
	}
	config := kafka.Config{Brokers: strings.Split(brokers, ",")}
	if err := kafka.EnsureTopics(t.Context(), config, y.run, yearPartitions); err != nil {
		t.Fatal(err)
	}
	var err error
	if y.log, err = kafka.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { y.log.Close() })
	if y.store, err = redis.Open(t.Context(), redis.Config{Addr: redisAddr}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { y.store.Close() })
	if y.w, err = kafka.NewWriter(t.Context(), y.log, y.run); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { y.w.Close() })

	batches := &batchLog{}
	stop := y.serve(brokers, redisAddr, batches)
	y.policy("1", yearBegins, nil)
	y.habits(yearBegins.AddDate(0, 0, -historyOf), yearBegins)
	quiet := yearBegins // days that are lived at once
	for day := yearBegins; day.Before(yearEnds); day = day.AddDate(0, 0, 1) {
		if day.YearDay() == 183 {
			y.policy("2", day, func(p *decision.Policy) { p.CapPerWeek, p.Gap = 4, decision.Duration(20*time.Hour) })
		}
		if busy(day) {
			y.habits(quiet, day)
			y.live(day)
			quiet = day.AddDate(0, 0, 1)
		}
	}
	y.habits(quiet, yearEnds)
	y.clock(yearEnds.AddDate(0, 0, 100))
	y.end()
	stop()
	y.judge(batches)
}

// serve runs the services. The decider is run by what its Run runs it by, to be told of its batches.
func (y *year) serve(brokers, redisAddr string, batches *batchLog) (stop func()) {
	t := y.t
	env := map[string]string{"KAFKA_BROKERS": brokers, "REDIS_ADDR": redisAddr, "RUN_ID": y.run.ID, "RUN_MODE": "simulated", "MODEL": "builtin.1"}
	set := app.Settings{Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- app.Group(ctx,
			func(ctx context.Context) error { return profiler.Run(ctx, parsed[profiler.Config](t, env), set) },
			func(ctx context.Context) error { return detector.Run(ctx, parsed[detector.Config](t, env), set) },
			func(ctx context.Context) error {
				return stream.Process(ctx, decider.Job(y.run, noop.Int64Counter{}), stream.Runtime{Log: y.log, Store: y.store, Run: y.run, Logger: set.Log, Observer: batches})
			},
		)
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("services ended with %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// batchLog is what the decider says of its batches.
type batchLog struct {
	mu  sync.Mutex
	all map[int32][]map[string]int64 // by partition: the positions after each
}

func (*batchLog) Owned(int32, bool)          {}
func (*batchLog) Takeover(int32, string)     {}
func (*batchLog) Retry(int32, string, error) {}
func (*batchLog) Alarm(int32, string, bool)  {}
func (b *batchLog) Batch(r *stream.Report) {
	at := map[string]int64{}
	for _, in := range r.Inputs {
		at[in.Topic] = in.Next
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all == nil {
		b.all = map[int32][]map[string]int64{}
	}
	b.all[r.Partition] = append(b.all[r.Partition], at)
}

// write appends records to their customers' partitions.
func (y *year) write(topic string, events ...stream.Event) {
	y.t.Helper()
	if len(events) == 0 {
		return
	}
	var msgs []stream.Message
	for i := range events {
		msgs = append(msgs, stream.Message{Key: []byte(events[i].Subject), Value: events[i].Append(nil)})
	}
	if err := y.w.WriteAll(y.t.Context(), topic, msgs); err != nil {
		y.t.Fatal(err)
	}
}

// event makes a record about a customer.
func (y *year) event(typ, customer string, at time.Time, data any) stream.Event {
	y.t.Helper()
	b, err := json.Marshal(data)
	if err != nil {
		y.t.Fatal(err)
	}
	y.n++
	return stream.Event{ID: "e-" + strconv.Itoa(y.n), Source: "/test", Type: typ, Subject: customer, Time: at, Data: b}
}

// policy puts one into force under which more than one channel and both arms of an experiment occur.
func (y *year) policy(version string, at time.Time, change func(*decision.Policy)) {
	y.t.Helper()
	p := decision.Default()
	p.Version = version
	p.Experiment = decision.Experiment{Name: "year", Holdout: .15, Exploration: .2}
	email := p.Channels["email"]
	email.Windows = []calendar.Opening{{Window: calendar.Window{To: 24 * 60}}} // hours that clocks skip or live twice, too
	email.Threshold, email.Gap, email.CapPerDay = 60, decision.Duration(3*time.Hour), 2
	p.Channels["email"] = email
	p.Quiet = calendar.Window{From: 4 * 60, To: 7 * 60}
	if change != nil {
		change(&p)
	}
	e := stream.Event{ID: "po-" + version, Source: "/test", Type: decision.PolicyType, Time: at, Data: p.Append(nil)}
	if err := y.w.Broadcast(y.t.Context(), topics.Policies, e.Append(nil), time.Time{}); err != nil {
		y.t.Fatal(err)
	}
}

// habits are what everybody does: mail comes at eight and is read at ten, or around eight in the evening, now and then. All of it between two instants is
// written at once.
func (y *year) habits(from, to time.Time) {
	var events []stream.Event
	for day := from.AddDate(0, 0, -2); day.Before(to.AddDate(0, 0, 1)); day = day.AddDate(0, 0, 1) {
		for i, c := range y.customers {
			random := rand.New(rand.NewPCG(uint64(i), uint64(day.Unix()))) // the same however the year is cut
			loc, err := calendar.Zone(y.homes[c])
			if err != nil {
				y.t.Fatal(err)
			}
			local := func(hour, minute int) time.Time {
				return time.Date(day.Year(), day.Month(), day.Day(), hour, minute, random.IntN(60), 0, loc).UTC()
			}
			message := fmt.Sprintf("m-%s-%d", c, day.Unix())
			add := func(kind engagement.Kind, at time.Time) {
				if at.Before(from) || !at.Before(to) {
					return
				}
				e := engagement.Event{ID: fmt.Sprintf("%s-%s-%d", kind, message, at.Unix()), Source: "/test", Subject: c, Time: at, Kind: kind, Channel: "email", Message: message, Zone: y.homes[c]}
				own, err := stream.ParseEvent(e.Append(nil))
				if err != nil {
					y.t.Fatal(err)
				}
				events = append(events, own)
			}
			add(engagement.Delivered, local(8, 5))
			hour := []int{10, 20}[i%2]
			if random.IntN(4) > 0 {
				add(engagement.Open, local(hour+random.IntN(2), random.IntN(60)))
			}
			if random.IntN(8) == 0 { // a day on which somebody looks again and again
				for h := range 5 {
					add(engagement.Click, local(hour-6+h, random.IntN(60)))
				}
			}
		}
	}
	slices.SortStableFunc(events, func(a, b stream.Event) int { return a.Time.Compare(b.Time) })
	y.write(topics.Events, events...)
	y.drained()
}

// live lives a day in steps of six hours: what happened, and then, when it has gone through the services before, what is asked
// for, and the clock.
func (y *year) live(day time.Time) {
	const step = 6 * time.Hour
	y.today = len(y.placed)
	for at := day; at.Before(day.AddDate(0, 0, 1)); at = at.Add(step) {
		y.habits(at, at.Add(step))
		for range 6 {
			y.ask(at.Add(time.Duration(y.random.Int64N(int64(step)))))
		}
		y.clock(at.Add(step))
	}
	y.settle(day.AddDate(0, 0, 1))
}

// ask asks for something.
func (y *year) ask(at time.Time) {
	c := y.customers[y.random.IntN(len(y.customers))]
	request := func(id string, r decision.Request) {
		e := y.event(decision.RequestType, y.requests[id], at, r)
		e.ID = id
		y.write(topics.Requests, e)
	}
	wanted := func(id string, action decision.Action) decision.Request {
		r := decision.Request{Action: action, Channel: []string{"email", "email", "sms"}[y.random.IntN(3)], Message: "m-" + id, Priority: y.random.IntN(4), OnDeviation: y.random.IntN(4) > 0}
		r.Audience = []string{"", "all", "premium"}[y.random.IntN(3)]
		from := at
		if y.random.IntN(2) == 0 {
			from = at.Add(time.Duration(1+y.random.IntN(24)) * time.Hour)
			r.NotBefore = from
		}
		r.Deadline = from.Add(time.Duration(1+y.random.IntN(100)) * time.Hour)
		return r
	}
	switch n := y.random.IntN(20); {
	case n == 0 && len(y.placed) > y.today:
		id := y.placed[y.today+y.random.IntN(len(y.placed)-y.today)]
		request(id, decision.Request{Action: decision.Cancel})
	case n == 1 && len(y.placed) > y.today:
		id := y.placed[y.today+y.random.IntN(len(y.placed)-y.today)]
		request(id, wanted(id, decision.Replace))
	case n == 2:
		a := map[string]any{"zone": zones[y.random.IntN(len(zones))], "segment": "premium", "consents": map[string]any{"mailing": map[string]any{"granted": y.random.IntN(5) > 0, "at": at}}}
		if y.random.IntN(2) == 0 {
			a["preferred"] = []map[string]any{{"days": []string{"sat", "sun"}, "from": "01:30", "to": "03:30"}} // where clocks change
		}
		y.write(topics.Attributes, y.event(customer.Type, c, at, a))
	case n == 3 && y.random.IntN(8) == 0:
		y.write(topics.Erasures, y.event(customer.ErasureType, c, at, map[string]any{"signals": []string{"all"}, "erased_before": at}))
	default:
		id := "r-" + strconv.Itoa(len(y.placed))
		y.placed, y.requests[id] = append(y.placed, id), c
		request(id, wanted(id, decision.Place))
	}
}

// settle tells of some decisions what became of them.
func (y *year) settle(at time.Time) {
	var told []stream.Event
	y.decisions(func(_ *stream.Record, e *stream.Event) {
		if e.Type == decision.SendNowType && y.random.IntN(4) == 0 {
			told = append(told, y.event(decision.OutcomeType, e.Subject, at, decision.Outcome{Decision: e.ID, Connector: "test", Result: decision.Refused}))
		}
	})
	y.write(topics.Outcomes, told...)
}

// decisions reads those that were not read yet.
func (y *year) decisions(each func(*stream.Record, *stream.Event)) {
	y.t.Helper()
	from := func(context.Context, *kafka.Log, string) (map[int32]int64, error) {
		at := map[int32]int64{}
		for p := range int32(yearPartitions) {
			at[p] = y.read[p]
		}
		return at, nil
	}
	err := kafka.Range(y.t.Context(), y.log, y.run.Topic(topics.Decisions), from, kafka.Latest, func(r *stream.Record) error {
		y.read[r.Partition] = r.Offset + 1
		e, err := stream.ParseEvent(r.Value)
		if err == nil {
			each(r, &e)
		}
		return err
	})
	if err != nil {
		y.t.Fatal(err)
	}
}

// clock says that everything up to a time is written.
func (y *year) clock(until time.Time) {
	y.t.Helper()
	tick := stream.ClockTick(y.run, until)
	if err := y.w.Broadcast(y.t.Context(), topics.Ticks, tick.Value, time.Time{}); err != nil {
		y.t.Fatal(err)
	}
}

// drained waits until the profiler and the detector have taken everything that is written. Their positions in the store tell
// sooner than the group offsets, and what is published a moment later than they say makes the year no worse.
func (y *year) drained() {
	y.t.Helper()
	for _, s := range []struct{ service, topic string }{{profiler.Service, topics.Events}, {detector.Service, topics.Scored}} {
		eventually(y.t, s.service+" does not get on", func() bool {
			ends, err := kafka.Latest(y.t.Context(), y.log, y.run.Topic(s.topic))
			if err != nil {
				y.t.Fatal(err)
			}
			for p, end := range ends {
				snap, err := y.store.Peek(y.t.Context(), y.run.Group(s.service), p, nil)
				if err != nil {
					y.t.Fatal(err)
				}
				if snap.Positions[s.topic] < end {
					return false
				}
			}
			return true
		})
	}
}

// end waits until the timers have fired of everything that waits: a last clock tick has said that nothing more will come.
func (y *year) end() {
	y.t.Helper()
	y.read = map[int32]int64{}
	ended := map[string]bool{}
	eventually(y.t, "requests do not end", func() bool {
		y.decisions(func(_ *stream.Record, e *stream.Event) {
			var d decision.Decision
			if err := d.Parse(e.Type, e.Data); err != nil {
				y.t.Fatal(err)
			}
			if d.Request != "" && e.Type != decision.WaitType {
				ended[d.Request] = true
			}
		})
		return len(ended) == len(y.placed)
	})
}

// judge holds what was decided against what is decided again.
func (y *year) judge(batches *batchLog) {
	t := y.t
	y.read = map[int32]int64{}
	published := map[int32][][]byte{}
	looks := map[int32]map[string][]byte{}
	counts, ends := map[string]int{}, map[string]int{}
	y.decisions(func(r *stream.Record, e *stream.Event) {
		published[r.Partition] = append(published[r.Partition], bytes.Clone(r.Value))
		var d decision.Decision
		if err := d.Parse(e.Type, e.Data); err != nil {
			t.Fatal(err)
		}
		var data struct{ Lookup json.RawMessage }
		if err := json.Unmarshal(e.Data, &data); err != nil {
			t.Fatal(err)
		}
		_, topic, _, ok := origin(e.Source)
		offset, err := history.OffsetOf(e.Sequence)
		if !ok || err != nil {
			t.Fatalf("decision of %s at %s: %v", e.Source, e.Sequence, err)
		}
		if data.Lookup != nil {
			if looks[r.Partition] == nil {
				looks[r.Partition] = map[string][]byte{}
			}
			looks[r.Partition][fmt.Sprint(topic, offset)] = data.Lookup
		}
		kind, err := decisionKind(e)
		if err != nil {
			t.Fatal(err)
		}
		counts[kind]++
		if e.Type == decision.SendNowType && clocksChange(t, d.DecidedAt, d.Zone) {
			counts[unusual]++
		}
		counts[kind+" "+string(d.Reason)]++
		if d.Request != "" && e.Type != decision.WaitType {
			ends[d.Request]++
		}
	})
	for _, id := range y.placed {
		if ends[id] != 1 {
			t.Errorf("request %s ended %d times", id, ends[id])
		}
	}
	t.Logf("%d requests: %v", len(y.placed), counts)
	for _, kind := range y.shows {
		if counts[kind] == 0 {
			t.Errorf("the year has no %s: it shows too little", kind)
		}
	}
	for p := range int32(yearPartitions) {
		y.fold(p, batches.all[p], published[p], looks[p])
		y.follow(p, len(published[p]))
	}
}

// clocksChange reports whether clocks change in a zone on its day of an instant.
func clocksChange(t *testing.T, at time.Time, zone string) bool {
	t.Helper()
	loc, err := calendar.Zone(zone)
	if err != nil {
		t.Fatal(err)
	}
	y, m, d := at.In(loc).Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, loc).Sub(time.Date(y, m, d, 0, 0, 0, 0, loc)) != 24*time.Hour
}

// fold folds the decider's Step over the logs of a partition, batch by batch as they were committed.
func (y *year) fold(partition int32, batches []map[string]int64, published [][]byte, looks map[string][]byte) {
	t := y.t
	job := decider.Job(y.run, noop.Int64Counter{})
	names := []string{job.Timers.Topic}
	for _, in := range job.Inputs {
		names = append(names, in.Topic)
	}
	slices.Sort(names)
	logs := map[string][]stream.Record{}
	for _, name := range names {
		logs[name] = y.records(name, partition)
	}
	fold, err := stream.NewFold(job, y.run, partition, yearPartitions)
	if err != nil {
		t.Fatal(err)
	}
	fold.Recorded(func(r *stream.Record) []byte {
		if raw := looks[fmt.Sprint(y.run.Base(r.Topic), r.Offset)]; raw != nil {
			return raw
		}
		return []byte(`{"partial":true}`) // nothing came of it
	})
	n, taken := 0, 0
	at := map[string]int64{}
	for _, next := range batches {
		var batch []stream.Record
		for _, name := range names {
			for _, r := range logs[name] {
				if r.Offset >= at[name] && r.Offset < next[name] {
					batch = append(batch, r)
				}
			}
			at[name] = next[name]
		}
		slices.SortStableFunc(batch, func(a, b stream.Record) int { // Kafka's own order within a topic, which comes in order of names
			return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Topic, b.Topic))
		})
		taken += len(batch)
		for i := range batch {
			out, err := fold.Apply(&batch[i])
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range out {
				if n >= len(published) {
					t.Fatalf("partition %d: the fold decides more than was decided: %s", partition, o.Value)
				}
				if !bytes.Equal(o.Value, published[n]) {
					for _, r := range batch {
						t.Logf("%s:%d %s %.400s", r.Topic, r.Offset, r.Time.Format("15:04:05.000"), r.Value)
					}
					t.Fatalf("partition %d: decision %d differs: %s\nservice %s\nfold    %s", partition, n, unlike(published[n], o.Value), published[n], o.Value)
				}
				n++
			}
		}
	}
	all := 0
	for _, name := range names {
		all += len(logs[name])
	}
	if n != len(published) || taken != all {
		t.Errorf("partition %d: the fold makes %d of %d decisions of %d of %d records", partition, n, len(published), taken, all)
	}
	t.Logf("partition %d: %d records in %d batches, %d decisions", partition, all, len(batches), n)
}

// records reads a partition.
func (y *year) records(topic string, partition int32) (list []stream.Record) {
	y.t.Helper()
	ends, err := kafka.Latest(y.t.Context(), y.log, y.run.Topic(topic))
	if err == nil {
		err = eachRecord(y.t.Context(), y.log, y.run.Topic(topic), partition, ends[partition], func(r *stream.Record) error {
			c := *r
			c.Key, c.Value, c.Headers = bytes.Clone(r.Key), bytes.Clone(r.Value), nil
			for _, h := range r.Headers {
				c.Headers = append(c.Headers, stream.Header{Key: h.Key, Value: bytes.Clone(h.Value)})
			}
			list = append(list, c)
			return nil
		})
	}
	if err != nil {
		y.t.Fatal(err)
	}
	return list
}

// follow decides everything again as explain does.
func (y *year) follow(partition int32, published int) {
	t := y.t
	past, err := history.Open(t.Context(), y.log, y.run, partition)
	if err != nil {
		t.Fatal(err)
	}
	defer past.Close()
	n, differ := 0, 0
	err = past.Follow(t.Context(), func(s *history.Step) error {
		n += len(s.Decisions)
		if !s.Agrees() {
			if differ++; differ == 1 {

				t.Errorf("partition %d: the first step that differs is of %s:%d, with %d decisions and now %d", partition, s.Topic, s.Offset, len(s.Decisions), len(s.Again))
				for i := range min(len(s.Decisions), len(s.Again)) {
					t.Log(unlike(s.Decisions[i].Value, s.Again[i].Value))
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n != published || differ != 0 {
		t.Errorf("partition %d: explain finds %d of %d decisions, and %d steps differ", partition, n, published, differ)
	}
}

// unlike names the fields in which two records differ.
func unlike(a, b []byte) string {
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		return err.Error()
	}
	var list []string
	for _, d := range discrepancies(nil, "", x, y) {
		list = append(list, fmt.Sprintf("%s: %s, %s", d.Field, compact(d.Was), compact(d.Now)))
	}
	return strings.Join(list, "; ")
}
