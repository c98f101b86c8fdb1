package stream

import (
	"context"
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
