package board

import (
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
)

// Bounds of a feed.
const (
	Shown   = 50  // rows that the page keeps
	kept    = 600 // rows of a kind that are looked through for one customer
	perTick = 5   // new rows at most at a Tick, chosen by hash
)

// Row is one line of a feed: a deviation or a decision.
type Row struct {
	ID        string
	Customer  string
	Time      time.Time // of the engagement that caused it
	Kind      string    // of the deviation, or the word of the decision's type
	Deviation *deviation.Deviation
	Decision  *decision.Decision
	Outcome   *decision.Outcome // the latest, if any
}

// feed keeps the latest rows. Between two ticks rows are gathered; a tick shows a sample of them.
type feed struct {
	shown   []Row            // newest first
	recent  map[string]*ring // by kind, so that a habit that moved is not pushed out by a hundred bursts
	pending []Row            // newest first, at most Shown
	arrived int              // since the last tick
	ticked  bool
	ratio   [60]struct{ shown, arrived int } // of the last ticks
	tick    int
	minutes [61]minute
}

// ring keeps the latest rows in order of arrival.
type ring struct {
	rows []Row
	next int
}

func (g *ring) add(r Row) {
	if len(g.rows) < kept {
		g.rows = append(g.rows, r)
		return
	}
	g.rows[g.next] = r
	g.next = (g.next + 1) % kept
}

type minute struct {
	at     int64
	n, now int
}

// before orders rows newest first; ids break ties, so that the order does not depend on arrival.
func before(a, b Row) int {
	if c := b.Time.Compare(a.Time); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

func insert(rows []Row, r Row) []Row {
	i, _ := slices.BinarySearchFunc(rows, r, before)
	if i >= Shown {
		return rows
	}
	if len(rows) == Shown {
		rows = rows[:Shown-1]
	}
	return slices.Insert(rows, i, r)
}

func (f *feed) add(r Row) {
	g := f.recent[r.Kind]
	if g == nil {
		if f.recent == nil {
			f.recent = map[string]*ring{}
		}
		if g = new(ring); len(f.recent) < maxKinds {
			f.recent[r.Kind] = g
		}
	}
	g.add(r)
	f.pending = insert(f.pending, r)
	f.arrived++

	at := floorDiv(r.Time.Unix(), 60)
	m := &f.minutes[uint64(at)%uint64(len(f.minutes))]
	if m.at < at {
		*m = minute{at: at}
	}
	if m.at == at {
		m.n++
		if r.Kind == "send_now" {
			m.now++
		}
	}
}

func (f *feed) outcome(o *decision.Outcome) {
	all := [][]Row{f.shown, f.pending}
	for _, g := range f.recent {
		all = append(all, g.rows)
	}
	for _, rows := range all {
		for i := range rows {
			// A retry's intent may be read after the result of another partition's; a final result stays.
			if r := &rows[i]; r.ID == o.Decision && (r.Outcome == nil || o.Result.Final()) {
				r.Outcome = o
			}
		}
	}
}

// Tick moves what arrived since the last Tick into the shown rows and returns those that are new, newest first. More
// than five are sampled by the hash of their id, so that every viewer sees the same; the first Tick shows all it has.
func (f *feed) Tick() []Row {
	fresh := f.pending
	if f.ticked && len(fresh) > perTick {
		slices.SortFunc(fresh, func(a, b Row) int {
			if x, y := hash(a.ID), hash(b.ID); x != y {
				if x < y {
					return -1
				}
				return 1
			}
			return strings.Compare(a.ID, b.ID)
		})
		fresh = fresh[:perTick]
		slices.SortFunc(fresh, before)
	}
	for _, r := range fresh {
		f.shown = insert(f.shown, r)
	}
	if f.ticked {
		f.ratio[f.tick%len(f.ratio)] = struct{ shown, arrived int }{len(fresh), f.arrived}
		f.tick++
	}
	f.pending, f.arrived, f.ticked = nil, 0, true
	return fresh
}

func hash(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	return h.Sum64()
}

// Feed is what the page says of a feed.
type Feed struct {
	Rows     []Row   // newest first, at most Shown
	LastHour int     // rows of the last hour of event time, shown or not
	SentNow  int     // send_now decisions among them
	OneIn    float64 // one in so many of the latest rows is shown; 1: all of them
}

func (f *feed) view(clock time.Time) Feed {
	v := Feed{Rows: slices.Clone(f.shown), OneIn: 1}
	now := floorDiv(clock.Unix(), 60)
	for _, m := range f.minutes {
		if m.n > 0 && m.at > now-60 && m.at <= now {
			v.LastHour += m.n
			v.SentNow += m.now
		}
	}
	var shown, arrived int
	for _, r := range f.ratio {
		shown += r.shown
		arrived += r.arrived
	}
	if shown > 0 {
		v.OneIn = float64(arrived) / float64(shown)
	}
	return v
}

// Tick shows what arrived in both feeds since the last Tick; call it once a second. See feed.Tick.
func (b *Board) Tick() (deviations, decisions []Row) {
	return b.deviations.Tick(), b.decisions.Tick()
}

// Deviations is the feed of deviations.
func (b *Board) Deviations() Feed { return b.deviations.view(b.clock) }

// Decisions is the feed of decisions.
func (b *Board) Decisions() Feed { return b.decisions.view(b.clock) }

// Customer returns the latest rows of one customer, newest first, as far as the board remembers.
func (b *Board) Customer(id string) []Row {
	var rows []Row
	for _, f := range []*feed{&b.deviations, &b.decisions} {
		for _, g := range f.recent {
			for _, r := range g.rows {
				if r.Customer == id {
					rows = append(rows, r)
				}
			}
		}
	}
	slices.SortFunc(rows, before)
	return rows
}

// Recent lists the customers of the shown rows, latest first, each once, at most n.
func (b *Board) Recent(n int) []string {
	rows := slices.Concat(b.deviations.shown, b.decisions.shown)
	slices.SortStableFunc(rows, before)
	var out []string
	for _, r := range rows {
		if len(out) < n && r.Customer != "" && !slices.Contains(out, r.Customer) {
			out = append(out, r.Customer)
		}
	}
	return out
}
