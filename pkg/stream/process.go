package stream

import (
	"context"
	"errors"
	"log/slog"
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
	BatchRecords    int           // records of one batch; default 16,384
	OutboxBytes     int           // outputs of one batch; a batch ends with the record that reaches it; default 4 MiB
	CacheKeys       int           // states kept in memory for each partition; default 100,000
	ShutdownTimeout time.Duration // for finishing the batch at hand at revocation and shutdown; default 10 s
}

// Process runs job until ctx ends, and returns nil then.
func Process[I, S, P any](ctx context.Context, job Job[I, S, P], rt Runtime) error {
	<-ctx.Done()
	return nil
}

// outputs names the topics that the job may write to: its outputs, and last the dead-letter topic of each input.
func (j *Job[I, S, P]) outputs() []string {
	names := append([]string(nil), j.Outputs...)
	for _, in := range j.Inputs {
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
	return errors.Join(errs...)
}
