package chaos

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

const maxRSS = 512 << 20

// memory holds the largest memory of each process against its bound.
func (f *facts) memory(v *verdict) {
	bound := f.MaxRSS
	if bound == 0 {
		bound = maxRSS
	}
	most := map[string]int64{}
	for i := range f.Samples {
		if s := &f.Samples[i]; s.Process != "" {
			most[s.Process] = max(most[s.Process], s.RSS)
		}
	}
	var ids []string
	for _, process := range slices.Sorted(maps.Keys(most)) {
		v.counts["most memory of a process, MB"] = max(v.counts["most memory of a process, MB"], most[process]>>20)
		if most[process] > bound {
			ids = append(ids, fmt.Sprintf("%s: %d MB", process, most[process]>>20))
		}
	}
	v.broken("M", fmt.Sprintf("processes with more memory than %d MB", bound>>20), ids)
}

// abreast is by how much services may be behind who keep up: an event waits that long for its turn, no longer.
const abreast = 2 * time.Second

// recovery finds faults after which the services took longer than half of the fault and 15 seconds to keep up again. Where
// the next fault came before that was over, both are taken for one.
func (f *facts) recovery(v *verdict) {
	var ids []string
	for i := 0; i < len(f.Injections); i++ {
		from := f.Injections[i].From
		for {
			to := f.Injections[i].To
			limit := to.Add(to.Sub(from)/2 + 15*time.Second)
			at, known := f.abreastAfter(to)
			if known && !at.After(limit) {
				ms := at.Sub(to).Milliseconds()
				v.counts["slowest recovery, ms"] = max(v.counts["slowest recovery, ms"], ms)
				break
			}
			if i+1 < len(f.Injections) && f.Injections[i+1].From.Before(limit) {
				i++
				continue
			}
			if len(f.Samples) > 0 {
				ids = append(ids, fmt.Sprintf("%s at %s", f.Injections[i].What, from.Format(time.TimeOnly)))
			}
			break
		}
	}
	v.count("injections", len(f.Injections))
	v.broken("R", "not recovered within half of the fault and 15 s", ids)
}

func (f *facts) abreastAfter(t time.Time) (time.Time, bool) {
	for i := range f.Samples {
		s := &f.Samples[i]
		if s.Process == "" && s.Lag >= 0 && s.Behind <= abreast && s.At.After(t) {
			return s.At, true
		}
	}
	return time.Time{}, false
}

// shows is how long after a fault it may become visible: a session of the group has to end first, or a call to time out.
const shows = 10 * time.Second

// seen finds faults that no sample shows: nobody was unready, nothing was tried again, taken over or alarmed about.
func (f *facts) seen(v *verdict) {
	var ids []string
	for i := range f.Injections {
		in := &f.Injections[i]
		if !Visible(f.Samples, in.From, in.To.Add(shows)) {
			ids = append(ids, fmt.Sprintf("%s at %s", in.What, in.From.Format(time.TimeOnly)))
		}
	}
	v.broken("V", "faults that nothing showed", ids)
}

// Visible reports whether a process was unready or did not answer between two instants, or a metric of those that show
// faults moved.
func Visible(samples []Sample, from, to time.Time) bool {
	before := map[string]map[string]float64{}
	for i := range samples {
		s := &samples[i]
		if s.Process == "" || s.At.After(to) {
			continue
		}
		if s.At.Before(from) {
			before[s.Process] = s.Metrics
			continue
		}
		if !s.Ready || s.Metrics == nil {
			return true
		}
		for _, name := range watched {
			if s.Metrics[name] > before[s.Process][name] {
				return true
			}
		}
	}
	return false
}
