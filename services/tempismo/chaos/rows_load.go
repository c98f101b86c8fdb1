package chaos

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/profiler"
)

// loadRows are the faults of what comes in, and of who is told about it.
func loadRows() []Row {
	return []Row{
		{ID: "11", Fault: "10 % duplicates, reordering by up to 48 h, later than the window, changes of daylight saving time, a leap second", Holds: "LPO",
			Inject: distort, Verify: lateIsCounted},
		{ID: "12", Fault: "hot key (half of all events), many distinct customers, 10x burst, backlog at start", Holds: "OMR", PerRound: 8, Inject: press},
		telemetryRow(),
	}
}

// distort lets strange events come for a while.
func distort(ctx context.Context, r *Rig, n int) error {
	shapes := []struct {
		what  string
		shape Shape
	}{
		{"10 % duplicates", Shape{Duplicates: .1}},
		{"reordered by up to 48 h", Shape{Reorder: 48 * time.Hour}},
		{"later than the window", Shape{Late: .2}},
		{"changes of daylight saving time, and a leap second", Shape{DST: true}},
		{"all of it", Shape{Duplicates: .1, Reorder: 48 * time.Hour, Late: .05, DST: true}},
	}
	s := shapes[n%len(shapes)]
	r.Note(s.what)
	r.Load.SetShape(s.shape)
	defer r.Load.SetShape(Shape{})
	return sleep(ctx, time.Second+time.Duration(r.Rand.Int64N(int64(3*time.Second))))
}

// lateIsCounted holds what the profiler says was too late against the ledger. The late events of the load are of customers
// whose profiles begin later.
func lateIsCounted(ctx context.Context, r *Rig, e *Evidence) []Violation {
	sent := uint64(0)
	for i := range e.Ledger {
		if a := &e.Ledger[i]; a.Topic == topics.Events && older(a, 119) && !older(a, 122) {
			sent++
		}
	}
	store, err := redis.Open(ctx, e.Redis)
	if err != nil {
		return []Violation{{Invariant: "L", What: fmt.Sprintf("the totals could not be read: %v", err)}}
	}
	defer store.Close()
	var totals profiler.Totals
	for p := range e.Partitions {
		snapshot, err := store.Read(ctx, e.Run.Group(profiler.Service), p, nil)
		var t profiler.Totals
		if err == nil {
			t, err = profiler.ReadTotals(snapshot)
		}
		if err != nil {
			return []Violation{{Invariant: "L", What: fmt.Sprintf("the totals could not be read: %v", err)}}
		}
		totals.Add(t)
	}
	r.count("late events, of the ledger", int(sent))
	r.count("late events, as the profiler counts", int(totals.Late))
	if totals.Late < sent {
		return []Violation{{Invariant: "L", What: fmt.Sprintf("%d events were too late, and the profiler has counted %d", sent, totals.Late)}}
	}
	return nil
}

// older tells whether an event was more than so many days old when it came.
func older(a *Acked, days int) bool { return a.Time.Before(a.At.AddDate(0, 0, -days)) }

// Rates of the load, in events a second.
const (
	ordinary = 500
	burst    = 10 * ordinary
)

// press has much come at once.
func press(ctx context.Context, r *Rig, n int) error {
	defer r.Load.SetRate(ordinary)
	defer r.Load.SetShape(Shape{})
	some := 2*time.Second + time.Duration(r.Rand.Int64N(int64(4*time.Second)))
	switch n % 4 {
	case 0:
		r.Note("a hot key")
		r.Load.SetShape(Shape{Hot: .5})
		r.Load.SetRate(3 * ordinary)
		return sleep(ctx, some)
	case 1:
		r.Note("many distinct customers")
		r.Load.SetShape(Shape{Distinct: .9})
		r.Load.SetRate(3 * ordinary)
		return sleep(ctx, some)
	case 2:
		r.Note(fmt.Sprintf("10x burst for %s", burstLasts))
		r.Load.SetRate(burst)
		return sleep(ctx, burstLasts)
	}
	r.Note("backlog at start")
	for _, service := range grouped {
		r.retire(service)
	}
	r.Load.SetRate(4 * ordinary)
	err := sleep(ctx, 2*some)
	r.Load.SetRate(ordinary)
	for _, service := range grouped {
		r.restore(service)
	}
	return err
}

const burstLasts = time.Minute

// backend is a telemetry backend behind a proxy that can hold everything.
type backend struct {
	*Proxy
	server *http.Server
	pushes atomic.Int64
}

func newBackend() (*backend, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &backend{}
	b.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, err := io.Copy(io.Discard, req.Body); err == nil {
			b.pushes.Add(1)
		}
	})}
	go b.server.Serve(l) //nolint:errcheck // it returns at Close
	if b.Proxy, err = NewProxy(l.Addr().String()); err != nil {
		b.server.Close()
		return nil, err
	}
	return b, nil
}

func (b *backend) close() {
	b.Proxy.Close()
	b.server.Close()
}

// telemetryRow compares what is drained while the backend answers with what is drained while it does not.
func telemetryRow() Row {
	var b *backend // of the round
	return Row{
		ID: "15", Fault: "the telemetry backend takes connections and never answers", Holds: "LPOR",
		Prepare: func(ctx context.Context, r *Rig) (err error) {
			if b, err = newBackend(); err != nil {
				return err
			}
			context.AfterFunc(ctx, b.close)
			r.Env[""] = append(r.Env[""], "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+b.Addr(), "OTEL_METRIC_EXPORT_INTERVAL=500", "TRACE_SAMPLE=1")
			return nil
		},
		Inject: func(ctx context.Context, r *Rig, _ int) error {
			r.Note("a telemetry backend that hangs")
			defer r.Load.SetRate(ordinary)
			r.Load.SetRate(4 * ordinary)
			pushed := b.pushes.Load()
			answering, err := r.throughput(ctx)
			if err != nil {
				return err
			}
			if b.pushes.Load() == pushed {
				return fmt.Errorf("the services push no telemetry: the fault would be none")
			}
			b.Hold()
			hanging, err := r.throughput(ctx)
			b.Restore()
			if err == nil && hanging < answering/2 {
				r.Found(Violation{Invariant: "R", What: fmt.Sprintf("the profiler drained %.2f of what came while the telemetry backend answered, and %.2f while it hung", answering, hanging)})
			}
			return err
		},
		Verify: func(context.Context, *Rig, *Evidence) []Violation {
			b.close()
			return nil
		},
	}
}

// throughput is how much of what comes within some seconds the profiler drains in them.
func (r *Rig) throughput(ctx context.Context) (float64, error) {
	progress := func() (taken, end int64, err error) {
		lags, err := r.log.Lag(ctx, r.Run, []string{profiler.Service})
		for _, l := range lags {
			if l.Topic == topics.Events {
				taken += l.Offset
				end += l.End
			}
		}
		return taken, end, err
	}
	taken, end, err := progress()
	if err != nil {
		return 0, err
	}
	if err := sleep(ctx, 4*time.Second); err != nil {
		return 0, err
	}
	takenNow, endNow, err := progress()
	if err == nil && endNow == end {
		err = fmt.Errorf("nothing came within the phase")
	}
	if err != nil {
		return 0, err
	}
	return float64(takenNow-taken) / float64(endNow-end), nil
}
