package chaos

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// CPU is the processor time that the process has used; 0 if it has ended, or where there is no /proc.
func (p *Process) CPU() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil || !p.Alive() {
		return 0
	}
	// The name, in brackets, may hold anything: utime and stime are the 12th and 13th field after it.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}

// ticksPerSecond is the unit of /proc on every Linux that Go runs on.
const ticksPerSecond = 100

// busiest is the share of a processor that a service may use while what it needs does not answer. One that tries again
// without a pause takes all of one.
const busiest = 0.6

// vigil looks at how processes bear a fault: they neither spin nor lose their membership of the group.
type vigil struct {
	rig    *Rig
	began  time.Time
	before map[*Process]strain
}

// strain is what a process has done so far.
type strain struct {
	cpu    time.Duration
	joined float64 // partitions that it was assigned, in all
}

// watch begins a vigil over the living instances of services.
func (r *Rig) watch(services ...string) *vigil {
	v := &vigil{rig: r, began: time.Now(), before: map[*Process]strain{}}
	for _, name := range services {
		for _, p := range r.Service(name) {
			joined, _ := assigned(p.Metrics())
			v.before[p] = strain{p.CPU(), joined}
		}
	}
	return v
}

// noSpin finds processes that were busy since the vigil began. It is called at the end of the fault, before they have work
// again.
func (v *vigil) noSpin() {
	passed := time.Since(v.began)
	if passed < time.Second {
		return // too short to tell
	}
	for p, before := range v.before {
		used := p.CPU() - before.cpu
		if share := used.Seconds() / passed.Seconds(); share > busiest {
			v.rig.Found(Violation{Invariant: "V", What: fmt.Sprintf("a process was busy with %.0f %% of a processor for %s while it could do nothing: a hot loop", 100*share, passed.Round(time.Millisecond)), IDs: []string{p.ID()}})
		}
	}
}

// noRejoin finds processes whose partitions were assigned anew since the vigil began.
func (v *vigil) noRejoin() {
	for p, before := range v.before {
		if joined, ok := assigned(p.Metrics()); ok && joined > before.joined {
			v.rig.Found(Violation{Invariant: "V", What: "a process did not keep its membership of the consumer group", IDs: []string{p.ID()}})
		}
	}
}

// assigned reads from an exposition how often partitions were assigned; ok is false where there is none.
func assigned(text string) (n float64, ok bool) {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, "tempismo_stream_takeovers_total{") || !strings.Contains(line, `cause="assigned"`) {
			continue
		}
		if v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64); err == nil {
			n, ok = n+v, true
		}
	}
	return n, ok
}
