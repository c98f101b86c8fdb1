package chaos

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Report is what a plan found.
type Report struct {
	Began       time.Time   `json:"began"`
	Took        Seconds     `json:"took_s"`
	Machine     string      `json:"machine"`
	Seed        uint64      `json:"seed"`
	Runs        int         `json:"runs"`
	Rows        []RowReport `json:"rows"`
	Interrupted bool        `json:"interrupted,omitempty"`
}

// RowReport is what was found of one row.
type RowReport struct {
	ID         string         `json:"row"`
	Fault      string         `json:"fault"`
	Holds      string         `json:"holds"`
	Runs       int            `json:"runs"`
	Seeds      []uint64       `json:"seeds"` // of the rounds
	Noted      map[string]int `json:"injected,omitempty"`
	Counts     Counts         `json:"checked"`
	Recoveries []Seconds      `json:"recoveries_s,omitempty"` // until the lag was back, in order
	Took       Seconds        `json:"took_s"`
	Violations []Violation    `json:"violations,omitempty"`
	Kept       []string       `json:"kept,omitempty"`   // folders of broken rounds
	Errors     []string       `json:"errors,omitempty"` // of the harness itself
}

// Seconds is a duration that JSON shows as a number of seconds.
type Seconds time.Duration

// MarshalJSON rounds to milliseconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", time.Duration(s).Seconds()), nil
}

func (rr *RowReport) add(out round) {
	rr.Runs += out.injections
	rr.Seeds = append(rr.Seeds, out.seed)
	rr.Took += Seconds(out.took)
	for what, n := range out.noted {
		rr.Noted[what] += n
	}
	for what, n := range out.counts {
		rr.Counts[what] += n
	}
	for _, d := range out.recoveries {
		rr.Recoveries = append(rr.Recoveries, Seconds(d))
	}
	rr.Violations = append(rr.Violations, out.found...)
	if out.kept != "" {
		rr.Kept = append(rr.Kept, out.kept)
	}
	if out.err != nil {
		rr.Errors = append(rr.Errors, fmt.Sprintf("seed %d: %v", out.seed, out.err))
	}
}

// Held tells whether everything that was played was checked, and held.
func (r *Report) Held() bool {
	return !r.Interrupted && !slices.ContainsFunc(r.Rows, func(rr RowReport) bool { return rr.verdict() != held })
}

// broken tells whether something was found, or could not be looked at.
func (r *Report) broken() bool {
	return slices.ContainsFunc(r.Rows, func(rr RowReport) bool { return len(rr.Violations)+len(rr.Errors) > 0 })
}

const held = "held"

// verdict is a word, or the letters of what is broken.
func (rr *RowReport) verdict() string {
	letters := map[string]bool{}
	for _, v := range rr.Violations {
		letters[v.Invariant] = true
	}
	switch {
	case len(letters) > 0:
		return "BROKEN: " + strings.Join(slices.Sorted(maps.Keys(letters)), " ")
	case len(rr.Errors) > 0:
		return "not checked"
	case rr.Runs == 0:
		return "not played"
	}
	return held
}

func (rr *RowReport) worst() Seconds {
	if len(rr.Recoveries) == 0 {
		return 0
	}
	return slices.Max(rr.Recoveries)
}

func (rr *RowReport) seeds() string {
	switch n := len(rr.Seeds); n {
	case 0:
		return ""
	case 1:
		return fmt.Sprint(rr.Seeds[0])
	default: // they count
		return fmt.Sprintf("%d-%d", rr.Seeds[0], rr.Seeds[n-1])
	}
}

func (rr *RowReport) line() string {
	return fmt.Sprintf("row %-2s %s: %d runs in %d rounds, %.1f s each; worst recovery %.1f s", rr.ID, rr.verdict(), rr.Runs, len(rr.Seeds),
		time.Duration(rr.Took).Seconds()/float64(max(rr.Runs, 1)), time.Duration(rr.worst()).Seconds())
}

// Write tells a person.
func (r *Report) Write(w io.Writer) error {
	var b bytes.Buffer
	for i := range r.Rows {
		rr := &r.Rows[i]
		fmt.Fprintf(&b, "%s\n    %s; must hold: %s; seeds %s\n", rr.line(), rr.Fault, rr.Holds, rr.seeds())
		for _, what := range slices.Sorted(maps.Keys(rr.Noted)) {
			fmt.Fprintf(&b, "    injected %4d %s\n", rr.Noted[what], what)
		}
		if len(rr.Counts) > 0 {
			b.WriteString("    checked ")
			for i, what := range slices.Sorted(maps.Keys(rr.Counts)) {
				if i > 0 {
					b.WriteString(", ")
				}
				fmt.Fprintf(&b, "%d %s", rr.Counts[what], what)
			}
			b.WriteByte('\n')
		}
		for _, v := range rr.Violations {
			fmt.Fprintf(&b, "    BROKEN %s\n", v)
		}
		for _, e := range rr.Errors {
			fmt.Fprintf(&b, "    GAVE UP %s\n", e)
		}
		for _, dir := range rr.Kept {
			fmt.Fprintf(&b, "    kept %s\n", dir)
		}
	}
	if r.Interrupted {
		b.WriteString("interrupted: the last row is not complete\n")
	}
	fmt.Fprintf(&b, "\n%s", r.table())
	_, err := w.Write(b.Bytes())
	return err
}

// table is the one of docs/reliability.md.
func (r *Report) table() string {
	var b strings.Builder
	b.WriteString("| row | fault | must hold | runs | seeds | verdict | worst recovery |\n|---|---|---|---|---|---|---|\n")
	for i := range r.Rows {
		rr := &r.Rows[i]
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %s | %s | %.1f s |\n", rr.ID, rr.Fault, strings.Join(strings.Split(rr.Holds, ""), " "), rr.Runs, rr.seeds(), rr.verdict(), time.Duration(rr.worst()).Seconds())
	}
	return b.String()
}

// machine says where it was played.
func machine() string {
	s := fmt.Sprintf("%s/%s, %d CPUs", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return s + ", " + strings.TrimSpace(value)
			}
		}
	}
	return s
}
