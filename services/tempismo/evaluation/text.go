package evaluation

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// Range is what a bar wants, in words.
func (b *Bar) Range() string {
	switch {
	case b.Low <= -Unbounded || b.Low == 0 && b.High < Unbounded:
		return "at most " + number(b.High, b.Unit)
	case b.High >= Unbounded || b.High == 1 && b.Unit == "share" && b.Low < 1:
		return "at least " + number(b.Low, b.Unit)
	case b.Low == b.High:
		return number(b.Low, b.Unit)
	}
	return number(b.Low, b.Unit) + " to " + number(b.High, b.Unit)
}

// number writes a value of a unit.
func number(v float64, unit string) string {
	switch unit {
	case "share":
		return strconv.FormatFloat(100*v, 'f', 2, 64) + " %"
	case "bytes", "answers", "messages":
		return strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// Write writes the report for people.
func (r *Report) Write(w io.Writer) error {
	l := r.Log
	fmt.Fprintf(w, "%d customers, %d deliveries, %d engagements in %d sittings, %d days", l.Customers, l.Deliveries, l.Engaged, l.Sittings, l.Days)
	if l.Machine > 0 {
		fmt.Fprintf(w, "; %d engagements were a machine's", l.Machine)
	}
	if l.Repeated > 0 {
		fmt.Fprintf(w, "; %d events were repeated", l.Repeated)
	}
	fmt.Fprint(w, "\n")
	r.writeScores(w)
	r.writeBars(w)
	for _, p := range r.Pictures {
		fmt.Fprintf(w, "\n%s\n", p.Text)
	}
	_, err := fmt.Fprintln(w) // a writer that failed before fails again
	return err
}

func (r *Report) writeScores(w io.Writer) {
	strata := append([]string{All}, timing.Strata[:]...)
	for _, m := range Metrics {
		var rows []string
		found := map[string]bool{}
		for i := range Methods {
			line := Methods[i].Name
			any := false
			for _, st := range strata {
				s := r.score(Methods[i].Name, m.Name, st)
				if s == nil {
					line += "\t"
					continue
				}
				any, found[st] = true, true
				if m.Name == "top1" || m.Name == "top3" {
					line += fmt.Sprintf("\t%.1f (%.1f-%.1f)", 100*s.Value, 100*s.Lo, 100*s.Hi)
				} else {
					line += fmt.Sprintf("\t%.3f (%.3f-%.3f)", s.Value, s.Lo, s.Hi)
				}
			}
			if any {
				rows = append(rows, line)
			}
		}
		if len(rows) == 0 {
			continue
		}
		unit := ""
		if m.Name == "top1" || m.Name == "top3" {
			unit = ", in %"
		}
		fmt.Fprintf(w, "\n%s: %s%s\n", m.Name, m.About, unit)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "method\t"+strings.Join(strata, "\t"))
		for _, line := range rows {
			fmt.Fprintln(t, line)
		}
		_ = t.Flush() // the last write of the report tells
	}
}

// score finds a score; nil if there is none.
func (r *Report) score(method, metric, stratum string) *Score {
	for i := range r.Scores {
		if s := &r.Scores[i]; s.Method == method && s.Metric == metric && s.Stratum == stratum {
			return s
		}
	}
	return nil
}

func (r *Report) writeBars(w io.Writer) {
	if len(r.Bars) == 0 {
		return
	}
	fmt.Fprint(w, "\nBars\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tbar\tvalue\t99 % interval\twanted\tof")
	for i := range r.Bars {
		b := &r.Bars[i]
		mark := "holds"
		if !b.Holds {
			mark = "FAILS"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s - %s\t%s\t%d\n", mark, b.Name, number(b.Value, b.Unit), number(b.Lo, b.Unit), number(b.Hi, b.Unit), b.Range(), b.N)
	}
	_ = t.Flush()
	if len(r.Details) > 0 {
		fmt.Fprint(w, "\nBeside the bars\n")
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, d := range r.Details {
			fmt.Fprintf(t, "\t%s\t%s\n", d.Name, number(d.Value, d.Unit))
		}
		_ = t.Flush()
	}
	var whys []string
	names := map[string][]string{}
	for _, x := range r.LeftOut {
		if names[x.Why] == nil {
			whys = append(whys, x.Why)
		}
		names[x.Why] = append(names[x.Why], x.Name)
	}
	if len(whys) > 0 {
		fmt.Fprint(w, "\nLeft out\n")
	}
	for _, why := range whys {
		fmt.Fprintf(w, "  %s: %s\n", strings.Join(names[why], ", "), why)
	}
	if r.Model != "" {
		fmt.Fprintf(w, "\nThe model behind the bars\n%s", r.Model)
	}
}

// Names are the names of the methods.
func Names() []string {
	names := make([]string, 0, methods)
	for _, m := range Methods {
		names = append(names, m.Name)
	}
	return names
}

// Knows reports whether there is a method of that name.
func Knows(name string) bool {
	for _, m := range Methods {
		if m.Name == name {
			return true
		}
	}
	return false
}

// Glossary says what the names of methods, metrics and bars mean.
func Glossary() string {
	var b strings.Builder
	b.WriteString(`Scores are prequential: in order of time, every method predicts when the next sitting of a customer is (engagements less than
half an hour apart are one), is scored, and learns. Bars are measured on the time after the truth's quiet_until, with a model
fitted on the time before. A bar holds unless its 99 % interval, by a bootstrap over customers, lies wholly outside of what is
wanted: the tolerance follows from the sample, and from nothing else. If one does not hold, the exit code is 1.

Methods:
`)
	for _, m := range Methods {
		fmt.Fprintf(&b, "  %s: %s\n", m.Name, m.About)
	}
	b.WriteString("\nMetrics:\n")
	for _, m := range Metrics {
		fmt.Fprintf(&b, "  %s: %s\n", m.Name, m.About)
	}
	b.WriteString("\nBars (-STRATUM: by decayed engaged hours of evidence, hour-tail by sittings of history):\n")
	l := newLedger()
	for i := range Promises {
		p := &Promises[i]
		if p.explain {
			continue
		}
		var wanted []string
		for _, s := range l.index[p.Name] {
			w := (&Bar{Low: s.low, High: s.high, Unit: p.Unit}).Range()
			switch s.stratum {
			case 0:
				wanted = append(wanted, w+" in each stratum")
			case strata:
				wanted = append(wanted, w)
			}
		}
		fmt.Fprintf(&b, "  %s: %s; %s\n", p.Name, p.About, strings.Join(wanted, ", "))
	}
	b.WriteString(`
Examples:
  tempismo evaluate --simulate --seed 7
  tempismo evaluate --file opens.csv --customer user_id --time opened --kind open --zone Europe/Brussels
  tempismo simulate --customers 5000 --seed 9 --out town.ndjson.gz
  tempismo evaluate --file town.ndjson.gz --truth town.truth.ndjson.gz`)
	return b.String()
}
