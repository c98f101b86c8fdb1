package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Drain is what it took to work a backlog off. Wall is from the start of the process until a consumer has the output of the
// last record of every partition; warm leaves out the first fifth of the records.
type Drain struct {
	Events     int64   `json:"events"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"events_per_s"` // warm
	Wall       float64 `json:"wall_events_per_s"`
	CPU        Cost    `json:"cpu_s_per_million"`      // warm
	WallCPU    Cost    `json:"wall_cpu_s_per_million"` // from the start on
	PeakRSS    int64   `json:"peak_rss_bytes,omitempty"`
	Allocs     float64 `json:"allocs_per_event,omitempty"` // objects, from the start on
	AllocBytes float64 `json:"alloc_bytes_per_event,omitempty"`
	Outputs    int64   `json:"outputs"` // records on the topic that was watched
}

// Cost is processor time by process, in seconds for a million events. What cannot be seen is zero.
type Cost struct {
	Service float64 `json:"service"`
	Broker  float64 `json:"broker"`
	Redis   float64 `json:"redis"`
}

// warmFrom is the share of the records after which a drain counts as warm.
const warmFrom = 0.2

// patience is how long a drain may go without an output before it is given up.
const patience = 2 * time.Minute

// mark tells from an output how far into its input partition the service has come: the share of the records there, 1 for the
// last. Outputs stand in the partition of their input.
type mark func(r *stream.Record) (share float64, ok bool)

// watch follows an output topic.
type watch struct {
	topic string // on the wire
	sizes []int64
	mark  mark

	shares  []float64
	outputs int64
}

// drain starts cmd and follows its outputs until it has worked off everything. The process is left running.
func (s *System) drain(ctx context.Context, cmd *exec.Cmd, w *watch) (*process, *Drain, error) {
	var total int64
	for _, n := range w.sizes {
		total += n
	}
	w.shares = make([]float64, len(w.sizes))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	began := time.Now()
	p, err := start(cmd)
	if err != nil {
		return nil, nil, err
	}
	pids := [...]int{p.pid(), s.broker, s.store}
	var from, warm, end [len(pids)]Usage
	sample := func(at *[len(pids)]Usage) time.Time {
		for i, pid := range pids {
			at[i] = usage(pid)
		}
		return time.Now()
	}
	sample(&from)
	from[0] = Usage{} // all that it uses counts
	var warmed, ended time.Time
	rest := 0.0 // share of the records that were left then
	finished := errors.New("finished")
	var moved atomic.Int64 // outputs seen
	failed := make(chan error, 1)
	go func() {
		err := kafka.Tail(ctx, s.Log, w.topic, kafka.Earliest, func(r *stream.Record) error {
			w.outputs++
			moved.Add(1)
			share, ok := w.mark(r)
			if !ok || share <= w.shares[r.Partition] {
				return nil
			}
			w.shares[r.Partition] = share
			done, left := 0.0, 0
			for i, share := range w.shares {
				done += share * float64(w.sizes[i])
				if share < 1 {
					left++
				}
			}
			if warmed.IsZero() && done >= warmFrom*float64(total) {
				warmed, rest = sample(&warm), 1-done/float64(total)
			}
			if left == 0 {
				ended = sample(&end)
				return finished
			}
			return nil
		})
		if err == nil {
			err = ctx.Err()
		}
		failed <- err
	}()
	idle := time.NewTicker(patience)
	defer idle.Stop()
	for before := int64(-1); err == nil; {
		select {
		case err = <-failed:
		case <-p.dead:
			cancel()
			<-failed //nolint:errcheck // it is that of the cancelled context
			err = p.ended()
		case <-idle.C:
			if now := moved.Load(); now > before {
				before = now
				continue
			}
			cancel()
			<-failed //nolint:errcheck // it is that of the cancelled context
			err = fmt.Errorf("%s shows no progress on %s any more: %d outputs so far, and it says:\n%s", cmd.Path, w.topic, w.outputs, p.out.String())
		}
	}
	if !errors.Is(err, finished) {
		p.stop()
		return nil, nil, err
	}
	d := &Drain{Events: total, Seconds: ended.Sub(began).Seconds(), PeakRSS: end[0].Peak, Outputs: w.outputs}
	millions := float64(total) / 1e6
	d.Wall = float64(total) / d.Seconds
	d.WallCPU = cost(from[:], end[:], millions)
	d.PerSecond, d.CPU = d.Wall, d.WallCPU
	if rest > 0 { // else it was over before it was warm
		d.PerSecond = rest * float64(total) / ended.Sub(warmed).Seconds()
		d.CPU = cost(warm[:], end[:], rest*millions)
	}
	if s.Embedded {
		d.CPU.Broker, d.CPU.Redis, d.WallCPU.Broker, d.WallCPU.Redis = 0, 0, 0, 0
	}
	if objects, size, ok := allocated(ctx, adminOf(cmd)); ok {
		d.Allocs, d.AllocBytes = objects/float64(total), size/float64(total)
	}
	return p, d, nil
}

func cost(from, to []Usage, millions float64) Cost {
	spent := func(i int) float64 { return max(0, to[i].CPU-from[i].CPU) / millions }
	return Cost{Service: spent(0), Broker: spent(1), Redis: spent(2)}
}

// bySequence is the mark of what our services emit: its header names the offset of the input.
func bySequence(sizes []int64) mark {
	return func(r *stream.Record) (float64, bool) {
		for i := range r.Headers {
			if r.Headers[i].Key != "sequence" {
				continue
			}
			digits, _, _ := bytes.Cut(r.Headers[i].Value, []byte("."))
			offset, err := strconv.ParseInt(string(digits), 10, 64)
			return float64(offset+1) / float64(sizes[r.Partition]), err == nil
		}
		return 0, false
	}
}

// byEvent is the mark of the light job, on whatever engine: its output names the event, and the events are numbered. The last
// of a partition says so.
func byEvent(events int64) mark {
	kind, prefix := []byte(`"kind":"`+last+`"`), []byte(`"event":"e-`)
	return func(r *stream.Record) (float64, bool) {
		if bytes.Contains(r.Value, kind) {
			return 1, true
		}
		_, rest, ok := bytes.Cut(r.Value, prefix)
		if !ok {
			return 0, false
		}
		digits, _, _ := bytes.Cut(rest, []byte(`"`))
		n, err := strconv.ParseInt(string(digits), 10, 64)
		return min(float64(n)/float64(events), 1-1e-9), err == nil
	}
}

// allocated asks a service of ours what it has allocated since its start.
func allocated(ctx context.Context, admin string) (objects, size float64, ok bool) {
	if admin == "" {
		return 0, 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return 0, 0, false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, false
	}
	defer resp.Body.Close()
	found := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		for name, to := range map[string]*float64{"go_memstats_mallocs_total ": &objects, "go_memstats_alloc_bytes_total ": &size} {
			if v, is := strings.CutPrefix(lines.Text(), name); is {
				if *to, err = strconv.ParseFloat(v, 64); err == nil {
					found++
				}
			}
		}
	}
	return objects, size, found == 2
}
