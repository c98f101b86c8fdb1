package stream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

// The plot of the scribe: one job without timers, two inputs, models that are broadcast, outputs to two partitions.

// scroll is a key's state: the records applied, in order, each with the model in force, the version of the program and
// whether the state is partial. Any double, lost or reordered application shows in it, and in the outputs, which have
// its digest.
type scroll struct{ entries []string }

// sum is the partition's state; the model is not stored with it but adopted anew.
type sum struct {
	applied int
	model   string
}

const scribeRun = "r1"

// scribe writes two lines on log for every record, to its own and to another key, up to two on out, and every third time
// one on sums.
func scribe(version int) stream.Job[line, scroll, sum] {
	return stream.Job[line, scroll, sum]{
		Service: "scribe",
		Inputs:  []stream.Input{{Topic: "a"}, {Topic: "b"}, {Topic: "models", Broadcast: true}},
		Outputs: []string{"log", "out", "sums"},
		Decode: func(r *stream.Record, in *line) (stream.Cause, error) {
			if bytes.HasPrefix(r.Value, []byte("poison")) {
				return stream.Cause{}, errPoison
			}
			in.id = string(r.Value)
			return stream.Cause{ID: in.id, Time: r.Time}, nil
		},
		Adopt: func(p *sum, topic string, value []byte) error {
			p.model = string(value)
			return nil
		},
		Step: func(c *stream.Context, s *scroll, p *sum, in *line) error {
			if s == nil {
				return nil
			}
			if strings.HasPrefix(in.id, "refused") {
				return stream.Permanent(errors.New("refused"))
			}
			entry := fmt.Sprintf("%s%s~%d", in.id, p.model, version)
			if c.Partial() {
				entry += "!"
			}
			s.entries = append(s.entries, entry)
			p.applied++
			key := keyOf(in.id)
			for i, l := range linesOf(s.entries) {
				e := stream.Emission{Topic: "out", Type: "t", Prefix: "o-", Subject: key, Data: l}
				switch i {
				case 0:
					e.Topic = "log"
				case 1:
					e.Topic, e.Subject = "log", other(key)
				}
				c.Emit(e)
			}
			if p.applied%3 == 0 {
				c.Emit(stream.Emission{Topic: "sums", Type: "sum", Prefix: "s-", Data: fmt.Append(nil, p.applied)})
			}
			return nil
		},
		State: stream.Codec[scroll]{
			Append: func(dst []byte, s *scroll) []byte { return append(dst, strings.Join(s.entries, " ")...) },
			Decode: func(b []byte, s *scroll) error { s.entries = strings.Fields(string(b)); return nil },
		},
		Partition: stream.Codec[sum]{
			Append: func(dst []byte, p *sum) []byte { return append(dst, byte(p.applied)) },
			Decode: func(b []byte, p *sum) error { p.applied = int(b[0]); return nil },
		},
	}
}

// other is the key that hears of what happens to a key.
func other(key string) string { return "k" + string('0'+(key[1]-'0'+1)%5) }

// linesOf is what is emitted for the last of the entries: two lines for log, up to two for out, as everything that was
// applied says, and before them one that is too large for out where the record is huge.
func linesOf(entries []string) (lines [][]byte) {
	h := fnv.New32a()
	for _, e := range entries {
		_, _ = h.Write([]byte(e))
	}
	id := idOf(entries[len(entries)-1])
	digest := h.Sum32()
	n := 2 + int(digest>>8)%3
	huge := strings.HasSuffix(id, "huge")
	if huge {
		n++
	}
	for i := range n {
		l := fmt.Appendf(nil, `"%s %d %08x`, id, i, digest)
		if huge && i == 2 {
			l = append(l, bytes.Repeat([]byte("x"), scribeLimit)...)
		}
		lines = append(lines, append(l, '"'))
	}
	return lines
}

// idOf is the record of an entry.
func idOf(entry string) string {
	if i := strings.IndexAny(entry, "/~"); i >= 0 {
		return entry[:i]
	}
	return entry
}

// scribeLimit is the largest record of out.
const scribeLimit = 700

func scribeService() service {
	return service{
		name: "scribe", extends: appends, inputs: []string{"a", "b", "models"}, outputs: []string{"log", "out", "sums"},
		process: func(ctx context.Context, rt stream.Runtime, version int) error {
			return stream.Process(ctx, scribe(version), rt)
		},
	}
}

// appends says whether one scroll is another with entries added.
func appends(before, now []byte) bool {
	return len(before) == 0 || bytes.HasPrefix(now, before) && (len(now) == len(before) || now[len(before)] == ' ')
}

func scribePlot() plot {
	return plot{
		run: stream.Run{ID: scribeRun}, services: []service{scribeService()}, records: 16, limits: map[string]int{"out": scribeLimit},
		write: (*writer).scribble, check: (*world).checkScribe,
	}
}

// scribble writes records of several keys, some from an upstream Step that repeats itself, some that are refused, some models.
func (g *writer) scribble(n int) {
	for range n {
		g.n++
		g.at = g.at.Add(time.Duration(g.rng.IntN(3)) * time.Millisecond)
		key := fmt.Sprintf("k%d", g.rng.IntN(5))
		id := fmt.Sprintf("a-%s-%d", key, g.n)
		p := stream.Partition([]byte(key), simPartitions)
		m := stream.Message{Key: []byte(key), Value: []byte(id), Time: g.at}
		switch r := g.rng.IntN(20); {
		case r == 0:
			m.Value = fmt.Appendf(nil, "poison-%s-%d", key, g.n)
			g.append("a", p, m)
		case r == 1:
			m.Value = fmt.Appendf(nil, "refused-%s-%d", key, g.n)
			g.append("a", p, m)
		case r == 2:
			m.Value = append(m.Value, "huge"...)
			g.append("a", p, m)
		case r == 3:
			for part := range int32(simPartitions) {
				g.append("models", part, stream.Message{Value: fmt.Appendf(nil, "/m%d", g.n), Time: g.at})
			}
		case r < 10:
			m.Value = fmt.Appendf(nil, "b-%s-%d", key, g.n)
			m.Headers = []stream.Header{{Key: "source", Value: []byte("/tempismo/up/r1/x/0")}, {Key: "sequence", Value: fmt.Appendf(nil, "%020d.000", g.n)}}
			g.append("b", p, m)
		case r < 12 && g.m.crisis != shortened: // the upstream publishes its last outbox again
			sent := g.written["b"][p]
			for _, r := range sent[max(0, len(sent)-3):] {
				g.append("b", p, stream.Message{Key: r.Key, Value: r.Value, Headers: r.Headers, Time: g.at})
			}
		default:
			g.append("a", p, m)
		}
	}
}

// fold is the independent reference: the records of a partition from what is kept on, in order of time, topic and offset,
// applied once.
func (w *world) fold(p int32, kept bool) (states map[string][]string) {
	var all []stream.Record
	for _, topic := range []string{"a", "b", "models"} {
		from := int64(0)
		if kept {
			from = w.kept[topic][p]
		}
		all = append(all, w.written[topic][p][from:]...)
	}
	slices.SortStableFunc(all, func(a, b stream.Record) int { return a.Time.Compare(b.Time) })
	states = map[string][]string{}
	model, seen := "", map[string]bool{}
	for _, r := range all {
		id := string(r.Value)
		switch {
		case r.Topic == "models":
			model = id
		case strings.HasPrefix(id, "poison"), strings.HasPrefix(id, "refused"):
		case !seen[id]:
			seen[id] = true
			states[string(r.Key)] = append(states[string(r.Key)], id+model)
		}
	}
	return states
}

// checkScribe compares states with the fold of the log, and what a consumer accepts with what the states say.
func (w *world) checkScribe() string {
	want, given := map[string]string{}, map[string]bool{}
	applied := 0
	for p := range int32(simPartitions) {
		stored, meta, err := w.state("scribe", p)
		if err != nil {
			return err.Error()
		}
		states := map[string][]string{}
		for k, v := range stored {
			if v != "" { // a record that is refused leaves one
				states[k] = strings.Fields(v)
			}
		}
		if s := w.checkScrolls(states, w.fold(p, true)); s != "" {
			return fmt.Sprintf("partition %d: %s", p, s)
		}
		trimmed := w.kept["a"][p] > 0 || w.kept["b"][p] > 0
		for _, entries := range states {
			for _, e := range entries {
				if strings.HasSuffix(e, "!") != trimmed {
					return fmt.Sprintf("partition %d: partial %v, but %s", p, trimmed, e)
				}
			}
		}
		if meta.Partial != trimmed {
			return fmt.Sprintf("partition %d: partial is %v, not %v", p, meta.Partial, trimmed)
		}
		for _, entries := range states {
			applied += len(entries)
			for n := range entries {
				for i, l := range linesOf(entries[:n+1]) {
					topic := "out "
					if i < 2 {
						topic = "log "
					}
					if text := topic + strings.Trim(string(l), `"`); len(text) < scribeLimit {
						want[text[:len(text)-9]] = text
					}
				}
			}
		}
		for _, entries := range w.fold(p, false) {
			for _, e := range entries {
				given[idOf(e)] = true
			}
		}
		if s := w.checkLetters(p); s != "" {
			return fmt.Sprintf("partition %d: %s", p, s)
		}
	}
	if s := w.checkLines(want, given); s != "" {
		return s
	}
	if s := w.checkSums(applied); s != "" {
		return s
	}
	return w.tidy()
}

// checkScrolls compares the states of a partition with the fold. Where the interleaving of the inputs is free, they have
// the same records once each, those of one input in its order, of whatever model and version.
func (w *world) checkScrolls(states, want map[string][]string) string {
	if !slices.Equal(slices.Sorted(maps.Keys(states)), slices.Sorted(maps.Keys(want))) {
		return fmt.Sprintf("have states of %v, want %v", slices.Sorted(maps.Keys(states)), slices.Sorted(maps.Keys(want)))
	}
	for k := range want {
		if w.ordered() {
			have := make([]string, len(states[k]))
			for i, e := range states[k] {
				have[i], _, _ = strings.Cut(e, "~")
			}
			if !slices.Equal(have, want[k]) {
				return fmt.Sprintf("key %s:\n have %v\n want %v", k, states[k], want[k])
			}
			continue
		}
		for _, input := range []string{"a", "b"} {
			of := func(entries []string) (ids []string) {
				for _, e := range entries {
					if strings.HasPrefix(e, input) {
						ids = append(ids, idOf(e))
					}
				}
				return ids
			}
			if h, w := of(states[k]), of(want[k]); !slices.Equal(h, w) {
				return fmt.Sprintf("key %s input %s:\n have %v\n want %v", k, input, h, w)
			}
		}
	}
	return ""
}

// checkLines compares what is accepted with want, the lines that the states tell, by what they are without digest. After a
// crisis in which the second execution may differ from the first, it is that one, or the other: for what every record
// causes, exactly one, for what only some do, at most one. Of records that were first executed after the crisis, it is what
// was committed.
func (w *world) checkLines(want map[string]string, given map[string]bool) string {
	have, once := map[string]string{}, map[string]bool{}
	for _, topic := range []string{"log", "out"} {
		all, wrong := w.listen(topic)
		if wrong != "" {
			return wrong
		}
		for _, h := range all {
			text := topic + " " + h.text
			what := text[:len(text)-9]
			if have[what] != "" {
				return fmt.Sprintf("accepted twice: %s and %s", have[what], text)
			}
			have[what] = text
			input, part, offset := position(h.source, h.offset)
			once[text[4:strings.LastIndexByte(what, ' ')]] = offset >= w.reach[input][part]
			id, index := strings.Fields(what)[1], strings.Fields(what)[2]
			to := keyOf(id)
			if index == "1" {
				to = other(to)
			}
			if !given[id] || h.key != to || h.partition != stream.Partition([]byte(to), simPartitions) {
				return fmt.Sprintf("accepted for %s in partition %d: %s", h.key, h.partition, text)
			}
		}
	}
	if w.exact() {
		for what, text := range want {
			if have[what] != text {
				return fmt.Sprintf("committed %q, accepted %q", text, have[what])
			}
		}
		if len(have) != len(want) {
			return fmt.Sprintf("accepted %d outputs, committed %d:\n%v\n%v", len(have), len(want), have, want)
		}
		return ""
	}
	for what, text := range want {
		if once[what[4:strings.LastIndexByte(what, ' ')]] && have[what] != text {
			return fmt.Sprintf("committed %q, and nothing before, but accepted %q", text, have[what])
		}
	}
	for what, text := range have {
		if once[what[4:strings.LastIndexByte(what, ' ')]] && want[what] == "" {
			return fmt.Sprintf("accepted %q, which was never committed", text)
		}
	}
	for id := range given {
		for _, what := range []string{"log " + id + " 0", "log " + id + " 1"} {
			if have[what] == "" {
				return "never accepted: " + what
			}
		}
	}
	return ""
}

func (w *world) checkSums(applied int) string {
	sums, wrong := w.listen("sums")
	if wrong != "" {
		return wrong
	}
	by := map[int32]int{}
	for _, s := range sums {
		by[s.partition]++
		if w.exact() && s.text != fmt.Sprint(3*by[s.partition]) {
			return fmt.Sprintf("partition %d: sum %d is %s", s.partition, by[s.partition], s.text)
		}
	}
	if n := len(sums); w.exact() && (n > applied/3 || n < applied/3-1) { // each of two partitions has a rest of its own
		return fmt.Sprintf("%d records applied, %d sums", applied, n)
	}
	return ""
}

// checkLetters wants every record that cannot be taken among the dead letters, with its bytes and where it failed.
func (w *world) checkLetters(p int32) string {
	want, have := map[string]string{}, map[string]string{}
	for _, r := range w.written["a"][p] {
		stage := map[string]string{"poison": "decode", "refused": "step"}[strings.Split(string(r.Value), "-")[0]]
		if bytes.HasSuffix(r.Value, []byte("huge")) {
			stage = "output"
		}
		if stage != "" {
			want[fmt.Sprint(r.Offset)] = stage + " " + string(r.Value)
		}
	}
	for _, r := range w.log.Records("a.dlq", p) {
		h := map[string]string{}
		for _, x := range r.Headers {
			h[strings.TrimPrefix(x.Key, "__connect.errors.")] = string(x.Value)
		}
		text := h["stage"] + " " + string(r.Value)
		if before, ok := have[h["offset"]]; ok && before != text {
			return fmt.Sprintf("dead letters of %s: %s and %s", h["offset"], before, text)
		}
		have[h["offset"]] = text
	}
	if !maps.Equal(have, want) {
		return fmt.Sprintf("dead letters\n have %v\n want %v", have, want)
	}
	for _, topic := range []string{"b.dlq", "models.dlq"} {
		if n := len(w.log.Records(topic, p)); n > 0 {
			return fmt.Sprintf("%d dead letters in %s", n, topic)
		}
	}
	return ""
}
