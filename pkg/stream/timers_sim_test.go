package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

// The simulation with timers. A live run: records set, move and take away timers, and whatever happens every timer that is
// left fires once, at its own due time, for the state and for a consumer that drops what it has seen. A simulated run:
// states and outputs are those of a Fold that fires what is due before every record.

// wakes is a job whose records do something to one of three timers of their key, as a hash of their id says. The state is
// the list of all that happened, and every entry is an output.
func wakes() stream.Job[line, diary, struct{}] {
	note := func(c *stream.Context, s *diary, key, entry string) {
		s.Entries = append(s.Entries, entry)
		c.Emit(stream.Emission{Topic: "out", Type: "t", Prefix: "o-", Subject: key, Data: quote(s.Entries[len(s.Entries)-1:], len(s.Entries))})
	}
	return stream.Job[line, diary, struct{}]{
		Service: "wakes",
		Inputs:  []stream.Input{{Topic: "a"}, {Topic: "b"}},
		Outputs: []string{"out"},
		Decode: func(r *stream.Record, in *line) (stream.Cause, error) {
			in.id = string(r.Value)
			return stream.Cause{ID: in.id, Time: r.Time}, nil
		},
		Step: func(c *stream.Context, s *diary, _ *struct{}, in *line) error {
			if s.Timers == nil {
				s.Timers = map[string]time.Time{}
			}
			h := hash(in.id)
			id := fmt.Sprintf("t%d", h%3)
			what := in.id + " nothing"
			switch h / 3 % 4 {
			case 0, 1:
				// Some are due already. No two records set the same time, so that a timer is told from the one it was before.
				var n int64
				fmt.Sscan(in.id[strings.LastIndexByte(in.id, '-')+1:], &n)
				s.Timers[id] = time.UnixMilli((c.Now().UnixMilli()-2000+int64(h/12%8000))/64*64 + n)
				what = fmt.Sprintf("%s set %s %d", in.id, id, s.Timers[id].UnixMilli())
			case 2:
				delete(s.Timers, id)
				what = fmt.Sprintf("%s unset %s", in.id, id)
			}
			note(c, s, keyOf(in.id), what)
			return nil
		},
		Timers: &stream.Timers[diary, struct{}]{
			Topic: "ticks",
			Pending: func(s *diary, each func(string, time.Time)) {
				for id, due := range s.Timers {
					each(id, due)
				}
			},
			Fire: func(c *stream.Context, s *diary, _ *struct{}, id string, due time.Time) error {
				if c.Now().Before(due) {
					return errors.New("early")
				}
				delete(s.Timers, id)
				what := fmt.Sprintf("fire %s %d", id, due.UnixMilli())
				if h := hash(what); h%4 == 0 {
					s.Timers[id] = time.UnixMilli((c.Now().UnixMilli() + 64 + int64(h/4%3000)) / 64 * 64)
					what += fmt.Sprintf(" set %s %d", id, s.Timers[id].UnixMilli())
				}
				// A key is where the tick says: the id of every tick's cause would be the same for all keys otherwise.
				note(c, s, keyOf(s.Entries[0]), what)
				return nil
			},
		},
		State: stream.Codec[diary]{
			Append: func(dst []byte, s *diary) []byte { b, _ := json.Marshal(s); return append(dst, b...) },
			Decode: func(b []byte, s *diary) error { return json.Unmarshal(b, s) },
		},
	}
}

func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32() >> 4
}

func wakesPlot() plot {
	return plot{
		run: stream.Run{ID: "r1"}, records: 18,
		services: []service{{
			name: "wakes", inputs: []string{"a", "b", "ticks"}, outputs: []string{"out"},
			process: func(ctx context.Context, rt stream.Runtime, _ int) error { return stream.Process(ctx, wakes(), rt) },
		}},
		write: func(g *writer, n int) {
			for range n {
				g.n++
				input, key := "ab"[g.rng.IntN(2):][:1], fmt.Sprintf("k%d", g.rng.IntN(5))
				// Producers' clocks differ: a tick may have been written before what it follows from, going by record times.
				at := time.Now().Add(time.Duration(g.rng.IntN(3)*g.rng.IntN(3000)) * time.Millisecond)
				g.append(input, stream.Partition([]byte(key), simPartitions), stream.Message{Key: []byte(key), Value: fmt.Appendf(nil, "%s-%s-%d", input, key, g.n), Time: at})
			}
		},
		settled: func(w *world) bool {
			for p := range int32(simPartitions) {
				if len(w.store.Timers(w.group("wakes", w.era.Load()), p)) > 0 {
					return false
				}
			}
			return true
		},
		check: checkWakes,
	}
}

// checkWakes reads every state as a story in which each timer fires as it was set last, and compares what a consumer accepts.
func checkWakes(w *world) string {
	all, problem := w.listen("out")
	if problem != "" {
		return problem
	}
	accepted := map[string][]string{}
	for _, h := range all {
		accepted[h.key] = append(accepted[h.key], h.text)
	}
	for p := range int32(simPartitions) {
		given := map[string][]string{} // ids by key and input
		for _, topic := range []string{"a", "b"} {
			for _, r := range w.log.Records(topic, p) {
				k := string(r.Key) + topic
				given[k] = append(given[k], string(r.Value))
			}
		}
		stored, _, err := w.state("wakes", p)
		if err != nil {
			return err.Error()
		}
		states := map[string]diary{}
		for k, v := range stored {
			var d diary
			if err := json.Unmarshal([]byte(v), &d); err != nil {
				return err.Error()
			}
			states[k] = d
		}
		taken := map[string][]string{}
		for k, d := range states {
			if problem := story(d.Entries, func(id string) { taken[k+id[:1]] = append(taken[k+id[:1]], id) }); problem != "" {
				return fmt.Sprintf("partition %d key %s: %s in\n%s", p, k, problem, strings.Join(d.Entries, "\n"))
			}
		}
		if !maps.EqualFunc(given, taken, slices.Equal) {
			return fmt.Sprintf("partition %d: given\n%v, taken\n%v", p, given, taken)
		}
		for k, d := range states {
			var want []string
			for i := range d.Entries {
				want = append(want, fmt.Sprintf("%d: %s", i+1, d.Entries[i]))
			}
			if w.counts[crises].Load() == 0 && !slices.Equal(accepted[k], want) {
				return fmt.Sprintf("partition %d outputs of %s:\n have %v\n want %v", p, k, accepted[k], want)
			}
			fired := map[string]bool{}
			for _, s := range accepted[k] {
				if _, what, ok := strings.Cut(s, "fire "); ok {
					if fired[what] {
						return fmt.Sprintf("partition %d: %s heard twice that %s", p, k, s)
					}
					fired[what] = true
				}
			}
		}
	}
	return w.tidy()
}

// story checks that timers fire as they were set, and that none is left.
func story(entries []string, record func(id string)) string {
	pending := map[string]string{}
	for _, e := range entries {
		f := strings.Fields(e)
		if f[0] == "fire" {
			if pending[f[1]] != f[2] {
				return fmt.Sprintf("%q, but pending is %v", e, pending)
			}
			delete(pending, f[1])
			f = f[2:]
		} else {
			record(f[0])
		}
		switch {
		case len(f) > 1 && f[1] == "set":
			pending[f[2]] = f[3]
		case len(f) > 1 && f[1] == "unset":
			delete(pending, f[2])
		}
	}
	if len(pending) > 0 {
		return fmt.Sprintf("%v never fired", pending)
	}
	return ""
}

// ringsPlot is a simulated run of the alarm clock.
func ringsPlot() plot {
	run := stream.Run{ID: "s", Simulated: true}
	return plot{
		run: run, records: 18, sameIDs: true,
		services: []service{{
			name: "clock", inputs: []string{"orders", "other", "rules", "ticks"}, outputs: []string{"rings"},
			process: func(ctx context.Context, rt stream.Runtime, _ int) error {
				return stream.Process(ctx, alarmClock(), rt)
			},
		}},
		write: func(g *writer, n int) {
			for range n {
				g.n++
				g.order(run, g.rng.IntN(14))
			}
			for p := range int32(simPartitions) {
				g.log.Append(run.Topic("ticks"), p, stream.ClockTick(run, clockAt("10:00").Add(time.Duration(g.n)*time.Minute)))
			}
		},
		check: checkRings,
	}
}

// order writes a record of event time 10:00 and as many minutes as there were records, or up to five less.
func (g *writer) order(run stream.Run, kind int) {
	key := fmt.Sprintf("k%d", g.rng.IntN(5))
	at := clockAt("10:00").Add(time.Duration(g.n) * time.Minute)
	if g.rng.IntN(4) == 0 {
		at = at.Add(-time.Duration(g.rng.IntN(5)) * time.Minute)
	}
	id := fmt.Sprintf("t%d", g.rng.IntN(3))
	later := clockAt("10:00").Add(time.Duration(g.n-3+g.rng.IntN(12)) * time.Minute).Format("15:04")
	topic, p := "orders", stream.Partition([]byte(key), simPartitions)
	what := "nothing"
	switch kind {
	case 0, 1, 2, 3, 4:
		what = "set " + id + " " + later
	case 5:
		what = "unset " + id
	case 6:
		what = "now " + id
	case 7:
		what = fmt.Sprintf("set again-%d-%d %s", 1+g.rng.IntN(3), g.rng.IntN(3), later)
	case 8:
		topic, what = "other", "set "+id+" "+later
	case 9:
		for p := range int32(simPartitions) {
			g.log.Append(run.Topic("rules"), p, stream.Message{Value: fmt.Appendf(nil, "%s rule under %d", at.Format("15:04"), g.n)})
		}
		return
	case 11: // upstream publishes it twice, the second time with another content
		for i := range 2 {
			later := at.Add(time.Duration(i*g.rng.IntN(9)) * time.Minute).Format("15:04")
			g.log.Append(run.Topic("other"), p, stream.Message{Key: []byte(key), Value: []byte(later + " nothing"), Headers: []stream.Header{
				{Key: "source", Value: []byte("/up")}, {Key: "sequence", Value: fmt.Appendf(nil, "%020d.000", g.n)}}})
		}
		return
	case 10:
		g.log.Append(run.Topic("orders"), p, stream.Message{Key: []byte(key), Value: []byte("no time")})
		return
	}
	g.log.Append(run.Topic(topic), p, stream.Message{Key: []byte(key), Value: []byte(at.Format("15:04") + " " + what)})
}

// checkRings compares states and outputs with those of a Fold that takes the records in the order of record time and topic,
// and before each fires what is due at its event time.
func checkRings(w *world) string {
	all, problem := w.listen("rings")
	if problem != "" {
		return problem
	}
	for p := range int32(simPartitions) {
		states, outputs, err := foldRings(w, p)
		if err != nil {
			return err.Error()
		}
		stored, _, err := w.state("clock", p)
		if err != nil {
			return err.Error()
		}
		for k, v := range stored {
			if v != string(states[k]) {
				return fmt.Sprintf("partition %d key %s:\n have %s\n want %s", p, k, v, states[k])
			}
			delete(states, k)
		}
		if len(states) > 0 {
			return fmt.Sprintf("partition %d: missing %s", p, states)
		}
		var want []string
		for _, o := range outputs {
			if e, err := stream.ParseEvent(o.Value); err == nil && o.Topic == "rings" {
				want = append(want, e.ID+" "+strings.Trim(string(e.Data), `"`))
			}
		}
		var got []string
		for _, h := range all {
			if strings.HasSuffix(h.source, fmt.Sprintf("/%d", p)) {
				got = append(got, h.id+" "+h.text)
			}
		}
		if !slices.Equal(got, want) {
			return fmt.Sprintf("partition %d: outputs\n have %v\n want %v", p, got, want)
		}
	}
	return w.tidy()
}

// foldRings is the reference.
func foldRings(w *world, p int32) (states map[string][]byte, outputs []stream.Output, err error) {
	var all []stream.Record
	for _, topic := range []string{"orders", "other", "rules", "ticks"} {
		for _, r := range w.log.Records(w.run.Topic(topic), p) {
			if topic != "ticks" || len(r.Key) == 0 {
				all = append(all, r)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b stream.Record) int { return a.Time.Compare(b.Time) })
	fold, err := stream.NewFold(alarmClock(), w.run, p, simPartitions)
	if err != nil {
		return nil, nil, err
	}
	var horizon, written time.Time
	seen := map[string]bool{}
	advance := func(until time.Time) {
		if now := fold.Context().Now(); now.After(until) {
			until = now
		}
		var out []stream.Output
		if err == nil {
			out, err = fold.Advance(until)
			outputs = append(outputs, out...)
		}
	}
	for _, r := range all {
		at := time.Time{}
		switch text := string(r.Value); {
		case len(r.Key) == 0 && strings.HasSuffix(r.Topic, "ticks"):
			e, _ := stream.ParseEvent(r.Value)
			if e.Time.After(horizon) {
				horizon, written = e.Time, r.Time
			}
			continue
		case strings.HasSuffix(r.Topic, "rules"):
			if written.Before(r.Time) {
				at = horizon
			}
		case len(r.Headers) > 0 && seen[string(r.Headers[1].Value)]:
		case text != "no time":
			at = clockAt(text[:5])
			if len(r.Headers) > 0 {
				seen[string(r.Headers[1].Value)] = true
			}
		}
		advance(at)
		var out []stream.Output
		if err == nil {
			out, err = fold.Apply(&r)
			outputs = append(outputs, out...)
		}
	}
	advance(horizon)
	states = map[string][]byte{}
	for _, k := range fold.Keys() {
		states[k] = alarmClock().State.Append(nil, fold.State(k))
	}
	return states, outputs, err
}
