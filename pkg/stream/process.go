package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Runtime is what Process runs a Job on. Log, Store and Run.ID are required; everything else has a default.
type Runtime struct {
	Log      Log
	Store    Store
	Run      Run
	Logger   *slog.Logger // default: discards
	Observer Observer     // default: none

	BatchBytes      int           // keys and values of the records of one batch; default 4 MiB
	BatchRecords    int           // records of one batch; default 12,000
	OutboxBytes     int           // outputs of one batch; a batch ends with the record that reaches it; default 4 MiB
	CacheBytes      int           // states kept in memory, of all partitions together, beside those of the batches at hand; default 256 MiB
	SweepRest       time.Duration // between two searches of all states for those that have expired; default 10 min
	ShutdownTimeout time.Duration // for finishing the batch at hand at revocation and shutdown; default 10 s
}

// withDefaults fills in what was left zero.
func (rt Runtime) withDefaults() Runtime {
	if rt.Logger == nil {
		rt.Logger = slog.New(slog.DiscardHandler)
	}
	if rt.Observer == nil {
		rt.Observer = nobody{}
	}
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&rt.BatchBytes, 4<<20)
	set(&rt.BatchRecords, 12_000)
	set(&rt.OutboxBytes, 4<<20)
	set(&rt.CacheBytes, 256<<20)
	if rt.SweepRest <= 0 {
		rt.SweepRest = 10 * time.Minute
	}
	if rt.ShutdownTimeout <= 0 {
		rt.ShutdownTimeout = 10 * time.Second
	}
	return rt
}

// Process runs job on every partition that its consumer group assigns to this member, until ctx ends; then it finishes
// what has begun, within rt.ShutdownTimeout, and returns nil. It waits for topics that do not exist yet, and for brokers
// and stores that do not answer. It returns an error only where going on would do harm and waiting cannot help: a job
// that is declared wrongly, or partition counts that do not fit each other or the stored state.
//
// A Step, Adopt or codec that fails (without Permanent) or panics is a mistake of the program or its configuration: the
// batch is dropped and done again from the stored state, with growing pauses, an error in the log and AlarmStep, until
// it succeeds. The record is never skipped.
func Process[I, S, P any](ctx context.Context, job Job[I, S, P], rt Runtime) error {
	if err := job.validate(); err != nil {
		return err
	}
	if rt.Log == nil || rt.Store == nil || rt.Run.ID == "" {
		return errors.New("stream: Runtime needs Log, Store and Run.ID")
	}
	rt = rt.withDefaults()
	rt.Logger = rt.Logger.With("service", job.Service, "run", rt.Run.ID)
	topics, partitions, err := survey(ctx, &job, &rt)
	if err != nil || ctx.Err() != nil {
		return err
	}
	wire := map[string]*outTopic{}
	for i := range topics {
		wire[topics[i].wire] = &topics[i]
	}

	caches := &budget{bytes: rt.CacheBytes}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	group, first := rt.Run.Group(job.Service), rt.Run.Topic(job.Inputs[0].Topic)
	err = rt.Log.Consume(ctx, group, first, func(wctx context.Context, a Assignment) {
		late, stop := lateContext(wctx, rt.ShutdownTimeout)
		defer stop()
		w := &worker[I, S, P]{
			rt: &rt, job: &job, topics: topics, wire: wire, partitions: partitions, partition: a.Partition(), a: a, caches: caches,
			log: rt.Logger.With("partition", a.Partition()), ctx: wctx, late: late, alarms: map[string]bool{},
		}
		for i := range w.reports {
			for _, in := range job.inputs() {
				w.reports[i].Inputs = append(w.reports[i].Inputs, InputReport{Topic: in.Topic})
			}
		}
		if err := w.run(); err != nil {
			cancel(refusal{err})
		}
	})
	var no refusal
	if errors.As(context.Cause(ctx), &no) {
		return no.error
	}
	return err
}

// lateContext returns a context that ends a while after ctx does.
func lateContext(ctx context.Context, after time.Duration) (late context.Context, stop func()) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		t := time.NewTimer(after)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-late.Done():
		}
	})
	return late, func() { unhook(); cancel() }
}

// survey describes the topics that the job may write to, and finds the partition count that its inputs share. It waits
// for topics that do not exist yet.
func survey[I, S, P any](ctx context.Context, job *Job[I, S, P], rt *Runtime) ([]outTopic, int32, error) {
	var names []string
	for _, in := range job.inputs() {
		names = append(names, rt.Run.Topic(in.Topic))
	}
	for _, name := range job.outputs() {
		names = append(names, rt.Run.Topic(name))
	}
	var infos map[string]TopicInfo
	var pause backoff
	for {
		var err error
		if infos, err = rt.Log.Topics(ctx, names...); err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil, 0, nil
		}
		rt.Observer.Retry(-1, "topics", err)
		rt.Logger.Warn("waiting for the topics; if they do not exist, create them: tempismo topics create", "error", err)
		if !pause.wait(ctx) {
			return nil, 0, nil
		}
	}
	first := rt.Run.Topic(job.Inputs[0].Topic)
	partitions := infos[first].Partitions
	for _, in := range job.inputs()[1:] {
		if name := rt.Run.Topic(in.Topic); infos[name].Partitions != partitions {
			return nil, 0, fmt.Errorf("stream: %s reads %s with %d partitions and %s with %d: they must be equal, re-create one of the topics",
				job.Service, first, partitions, name, infos[name].Partitions)
		}
	}
	var topics []outTopic
	for _, name := range job.outputs() {
		info := infos[rt.Run.Topic(name)]
		topics = append(topics, outTopic{name: name, wire: rt.Run.Topic(name), partitions: info.Partitions, max: info.MaxMessageBytes})
	}
	return topics, partitions, nil
}

// inputs are all that the runtime reads for the job: its Inputs, and last the tick log.
func (j *Job[I, S, P]) inputs() []Input {
	if j.Timers == nil {
		return j.Inputs
	}
	return append(slices.Clone(j.Inputs), Input{Topic: j.Timers.Topic})
}

// outputs names the topics that the job may write to: its outputs, and last the dead-letter topic of each input.
func (j *Job[I, S, P]) outputs() []string {
	names := append([]string(nil), j.Outputs...)
	for _, in := range j.inputs() {
		names = append(names, in.Topic+deadLetterSuffix)
	}
	return names
}

// deadLetterSuffix makes the name of a topic's dead-letter topic, as topics.DeadLetter does.
const deadLetterSuffix = ".dlq"

// validate finds the mistakes of a declaration.
func (j *Job[I, S, P]) validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("stream: job "+j.Service+": "+what))
		}
	}
	need(j.Service != "", "Service is empty")
	need(len(j.Inputs) > 0 && !j.Inputs[0].Broadcast, "the first input must be a keyed one: ownership follows it")
	need(j.Decode != nil && j.Step != nil, "Decode and Step are required")
	need(j.State.Append != nil && j.State.Decode != nil, "State needs Append and Decode")
	need((j.Partition.Append == nil) == (j.Partition.Decode == nil), "Partition needs both of Append and Decode, or neither")
	if t := j.Timers; t != nil {
		need(t.Topic != "" && t.Pending != nil && t.Fire != nil, "Timers needs Topic, Pending and Fire")
		need(!slices.ContainsFunc(j.Inputs, func(in Input) bool { return in.Topic == t.Topic }), "the topic of Timers must not be among the Inputs")
	}
	if x := j.Expiry; x != nil {
		need(x.Expired != nil && x.Forget != nil, "Expiry needs Expired and Forget")
		need(j.Timers == nil, "Expiry and Timers do not go together: who would fire the timers of what is forgotten?")
	}
	if l := j.Lookup; l != nil {
		need(l.Service != "" && l.Input != "" && l.Wanted != nil && l.Result != nil, "Lookup needs Service, Input, Wanted and Result")
	}
	return errors.Join(errs...)
}
