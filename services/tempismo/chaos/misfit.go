package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/twmb/franz-go/pkg/kadm"
)

// stray is a run beside the round's own, whose log and state are made not to fit each other: nothing brings such a run back
// but a decision of its operator. It is simulated, so that it has topics of its own.
type stray struct {
	rig   *Rig
	run   stream.Run
	admin *kadm.Client
	n     int
	made  int
}

const strayPartitions = 2

// misfits are the ways in which a log ceases to fit what is stored. Whoever is told to stop first meets it as he starts.
var misfits = []struct {
	what    string
	stopped bool // the profiler is
	says    []string
	ends    bool // the process
	do      func(*stray, context.Context) error
}{
	{"records deleted beyond the stored position", true, rangeSays, false, (*stray).trim},
	{"topic re-created, and shorter, while the service stands", true, rangeSays, false, (*stray).replace},
	{"topic re-created, and shorter, while the service runs", false, rangeSays, false, (*stray).replace},
	{"more partitions, while the service stands", true, partitionsSay, true, (*stray).grow},
	{"more partitions, while the service runs", false, partitionsSay, true, (*stray).grow},
	{"more partitions of one input, while the service stands", true, unequalSays, true, (*stray).growOne},
}

// What an operator must find in the log.
var (
	rangeSays     = []string{"the log does not hold the stored position", "start a new run (RUN_ID)"}
	partitionsSay = []string{"restore the partition count, or start a new run (RUN_ID)"}
	unequalSays   = []string{"with 3 partitions", "they must be equal"}
)

// refusedIn is how long a service may take to notice that its log does not fit, a failed session of its group included.
const refusedIn = 30 * time.Second

// misfit has the log of a stray run cease to fit its state, and looks whether its profiler refuses.
func misfit(ctx context.Context, r *Rig, n int) (err error) {
	m := misfits[n%len(misfits)]
	r.Note(m.what)
	s := &stray{rig: r, run: stream.Run{ID: fmt.Sprintf("stray-%d-%d", r.Seed, n), Simulated: true}, n: n}
	if s.admin, err = r.Brokers.admin(); err != nil {
		return err
	}
	defer s.admin.Close()
	defer func() { err = errors.Join(err, s.forget()) }()
	if err := kafka.EnsureTopics(ctx, r.Kafka(), s.run, strayPartitions); err != nil {
		return err
	}
	p, err := s.profiler()
	if err != nil {
		return err
	}
	defer func() { p.Kill() }()
	if err := s.write(ctx, 200); err != nil {
		return err
	}
	if err := s.taken(ctx); err != nil {
		return fmt.Errorf("%w: see %s", err, p.Log)
	}
	if m.stopped {
		p.Term()
	}
	if err := m.do(s, ctx); err != nil {
		return fmt.Errorf("%s: %w", m.what, err)
	}
	before, err := s.traces(ctx)
	if err != nil {
		return err
	}
	if m.stopped {
		if p, err = s.profiler(); err != nil {
			return err
		}
	}
	if missing := s.refuses(ctx, p, m.says, m.ends); missing != "" {
		r.Found(Violation{Invariant: "V", What: fmt.Sprintf("%s: after %s %s: see %s", m.what, refusedIn, missing, p.Log), IDs: []string{s.run.ID}})
		return ctx.Err()
	}
	// A takeover may publish once more what was committed. Then there is silence, and no position ever moves.
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	refused, err := s.traces(ctx)
	if err != nil {
		return err
	}
	if err := sleep(ctx, 1500*time.Millisecond); err != nil {
		return err
	}
	after, err := s.traces(ctx)
	if err != nil {
		return err
	}
	for what, at := range after {
		if strings.HasPrefix(what, "end ") && at != refused[what] || strings.HasPrefix(what, "position ") && at != before[what] {
			r.Found(Violation{Invariant: "V", What: fmt.Sprintf("%s: it goes on: %s was %d, %d when it refused, and is %d", m.what, what, before[what], refused[what], at), IDs: []string{s.run.ID}})
		}
	}
	return nil
}

// profiler starts one for the stray run.
func (s *stray) profiler() (*Process, error) {
	s.made++
	r := s.rig
	return Launch(r.Bin, r.logs(), "profiler", 1000+10*s.n+s.made, []string{
		"KAFKA_BROKERS=" + strings.Join(r.Brokers.Addrs(), ","), "REDIS_ADDR=" + r.Redis.Addr(), "RUN_ID=" + s.run.ID, "RUN_MODE=simulated", "MODEL=builtin.1",
	})
}

// write appends events of many customers.
func (s *stray) write(ctx context.Context, n int) error {
	w, err := kafka.NewWriter(ctx, s.rig.log, s.run)
	if err != nil {
		return err
	}
	defer w.Close()
	began := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var msgs []stream.Message
	for i := range n {
		at := began.Add(time.Duration(i) * time.Minute)
		x := s.rig.Load.event("open", fmt.Sprintf("s%d-%d", s.made, i), name(i%50), "Europe/Rome", fmt.Sprintf("m%d", i), at)
		msgs = append(msgs, stream.Message{Key: []byte(x.acked.Customer), Value: x.value, Time: at})
	}
	return w.WriteAll(ctx, topics.Events, msgs)
}

// taken waits until the profiler has read everything.
func (s *stray) taken(ctx context.Context) error {
	for deadline := time.Now().Add(readyIn); ; {
		lags, err := s.rig.log.Lag(ctx, s.run, []string{"profiler"})
		left := int64(0)
		for _, l := range lags {
			left += l.Records
		}
		if err == nil && left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("the profiler of run %s has not read %d records after %s", s.run.ID, left, readyIn), err)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// trim deletes records that the profiler has not read.
func (s *stray) trim(ctx context.Context) error {
	if err := s.write(ctx, 100); err != nil {
		return err
	}
	var offsets kadm.Offsets
	for p := range int32(strayPartitions) {
		_, end, err := s.rig.log.Bounds(ctx, s.run.Topic(topics.Events), p)
		if err != nil {
			return err
		}
		offsets.AddOffset(s.run.Topic(topics.Events), p, end-5, -1)
	}
	answers, err := s.admin.DeleteRecords(ctx, offsets)
	return errors.Join(err, answers.Error())
}

// replace makes the topic anew, with less in it.
func (s *stray) replace(ctx context.Context) error {
	topic := s.run.Topic(topics.Events)
	if _, err := s.admin.DeleteTopic(ctx, topic); err != nil {
		return err
	}
	for {
		answer, err := s.admin.CreateTopic(ctx, strayPartitions, -1, nil, topic)
		if err == nil && answer.Err == nil {
			break
		}
		if e := sleep(ctx, 100*time.Millisecond); e != nil {
			return errors.Join(e, err)
		}
	}
	if err := kafka.EnsureTopics(ctx, s.rig.Kafka(), s.run, strayPartitions); err != nil { // until it can be used
		return err
	}
	return s.write(ctx, 20)
}

// grow gives every input a partition more. Customers have moved then.
func (s *stray) grow(ctx context.Context) error {
	var inputs []string
	for _, t := range topics.All {
		if slices.Contains(t.Readers, "profiler") || t.Name == topics.Models {
			inputs = append(inputs, s.run.Topic(t.Name))
		}
	}
	answers, err := s.admin.UpdatePartitions(ctx, strayPartitions+1, inputs...)
	return errors.Join(err, answers.Error())
}

// growOne does so with one of them.
func (s *stray) growOne(ctx context.Context) error {
	answers, err := s.admin.UpdatePartitions(ctx, strayPartitions+1, s.run.Topic(topics.Events))
	return errors.Join(err, answers.Error())
}

// traces are the ends of what the profiler writes, and its positions.
func (s *stray) traces(ctx context.Context) (map[string]int64, error) {
	at := map[string]int64{}
	store, err := redis.Open(ctx, s.rig.Store())
	if err != nil {
		return nil, err
	}
	defer store.Close()
	for p := range int32(strayPartitions) {
		for _, topic := range []string{topics.Scored, topics.Digests, topics.Erasures, topics.DeadLetter(topics.Events)} {
			_, end, err := s.rig.log.Bounds(ctx, s.run.Topic(topic), p)
			if err != nil {
				return nil, err
			}
			at[fmt.Sprintf("end of %s %d", topic, p)] = end
		}
		snapshot, err := store.Read(ctx, s.run.Group("profiler"), p, nil)
		if err != nil {
			return nil, err
		}
		for topic, position := range snapshot.Meta.Positions {
			at[fmt.Sprintf("position in %s %d", topic, p)] = position
		}
	}
	return at, nil
}

// refuses waits until the process has said everything, and ends or is not ready; "" is that it does.
func (s *stray) refuses(ctx context.Context, p *Process, says []string, ends bool) (missing string) {
	for deadline := time.Now().Add(refusedIn); ; {
		missing = ""
		text, err := os.ReadFile(p.Log)
		if err != nil {
			return err.Error()
		}
		for _, m := range says {
			if !strings.Contains(string(text), m) {
				missing = fmt.Sprintf("it has not said %q", m)
			}
		}
		switch {
		case missing != "":
		case ends && p.Alive():
			missing = "it has not ended"
		case ends && p.code == 0:
			return "it ended without an error"
		case !ends && !p.Alive():
			return fmt.Sprintf("it ended with code %d", p.code)
		case !ends && p.Ready():
			missing = "it says that it is ready"
		case !ends && !strings.Contains(p.Metrics(), `kind="`+stream.AlarmRange+`"`):
			missing = "no alarm stands"
		}
		if missing == "" || time.Now().After(deadline) || sleep(ctx, 100*time.Millisecond) != nil {
			return missing
		}
	}
}

// forget deletes what the run has left.
func (s *stray) forget() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var names []string
	for _, t := range topics.All {
		names = append(names, s.run.Topic(t.Name))
		if t.DLQ {
			names = append(names, s.run.Topic(topics.DeadLetter(t.Name)))
		}
	}
	_, err := s.admin.DeleteTopics(ctx, names...)
	return err
}
