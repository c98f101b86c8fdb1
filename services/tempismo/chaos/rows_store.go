package chaos

import (
	"context"
	"fmt"
	"time"
)

// storeRows are the faults of Redis.
func storeRows() []Row {
	return []Row{
		{ID: "7", Fault: "Redis is killed with -9 and starts again, without its last second, or empty; failover to a stale replica", Holds: "LPNV", PerRound: 8, Inject: loseStore},
		{ID: "8", Fault: "Redis answers OOM, READONLY, LOADING, BUSY, NOSCRIPT; it stands still for 2 s; its answers are lost", Holds: "LV", PerRound: 14, Inject: refuseStore},
	}
}

// loseStore kills Redis. What comes back knows everything, lacks the last moments, or is empty.
func loseStore(ctx context.Context, r *Rig, n int) error {
	if n%4 == 2 {
		return failOver(ctx, r)
	}
	disk, what := Kept, "kill -9 of Redis, which keeps its file"
	switch n % 4 {
	case 1:
		disk, what = Unsynced, "kill -9 of Redis, which loses its last second"
	case 3:
		disk, what = Empty, "kill -9 of Redis, which comes back empty"
	}
	r.Note(what)
	watching := r.watch(grouped...)
	r.Redis.Kill()
	if err := r.Moment(ctx, 2*time.Second); err != nil {
		return err
	}
	watching.noSpin()
	return r.Redis.Restart(ctx, disk)
}

// failOver promotes a replica that has missed the last moments.
func failOver(ctx context.Context, r *Rig) error {
	r.Note("failover to a stale replica")
	if err := r.Redis.Replica(ctx); err != nil {
		return err
	}
	r.Redis.Sever()
	if err := sleep(ctx, 100*time.Millisecond+time.Duration(r.Rand.Int64N(int64(1500*time.Millisecond)))); err != nil {
		return err
	}
	return r.Redis.Failover(ctx)
}

// refuseStore has Redis answer with errors, or not at all, for a second to three.
func refuseStore(ctx context.Context, r *Rig, n int) error {
	faults := []struct {
		what  string
		begin func() error
		end   func() error
	}{
		{"OOM",
			func() error { return r.Redis.Config(ctx, "maxmemory", "1mb") },
			func() error { return r.Redis.Config(ctx, "maxmemory", "0") }},
		{"READONLY",
			func() error { return r.Redis.Client().Do(ctx, "REPLICAOF", "127.0.0.1", "1").Err() },
			func() error { return r.Redis.Client().Do(ctx, "REPLICAOF", "NO", "ONE").Err() }},
		{"LOADING",
			func() error { return r.Redis.Reload(ctx) },
			func() error { return r.Redis.Loaded(ctx) }},
		{"BUSY",
			func() error { return r.Redis.Occupy(ctx) },
			func() error { return r.Redis.Client().ScriptKill(ctx).Err() }},
		{"NOSCRIPT", // a server that has lost its scripts has lost its connections, too
			func() error {
				r.Redis.Proxy.Break()
				return r.Redis.Client().ScriptFlush(ctx).Err()
			},
			func() error {
				r.Redis.Proxy.Break()
				return r.Redis.Client().ScriptFlush(ctx).Err()
			}},
		{"a stall",
			func() error { return r.Redis.Freeze() },
			func() error { return r.Redis.Thaw() }},
		{"lost answers",
			func() error { r.Redis.Proxy.Mute(); return nil },
			func() error { r.Redis.Proxy.Restore(); return nil }},
	}
	f := faults[n%len(faults)]
	lasts := time.Second + time.Duration(r.Rand.Int64N(int64(2*time.Second)))
	if f.what == "a stall" {
		lasts = 2 * time.Second
	}
	watching := r.watch(grouped...)
	r.Note("Redis: " + f.what)
	if err := f.begin(); err != nil {
		return fmt.Errorf("%s: %w", f.what, err)
	}
	err := sleep(ctx, lasts)
	watching.noSpin()
	if e := f.end(); e != nil {
		return fmt.Errorf("end of %s: %w", f.what, e)
	}
	watching.noRejoin()
	return err
}
