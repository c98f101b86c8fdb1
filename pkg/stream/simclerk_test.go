package stream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"github.com/tempismo/tempismo/pkg/stream"
)

// The plot of the clerk: a second job reads what the scribe publishes, with everything that is published twice, and looks
// the scribe's states up; it has a table with tombstones beside.

// slip is what the clerk reads: an event of the scribe, or a card.
type slip struct {
	id, key, text string
	look          bool
}

func clerk(version int) stream.Job[slip, scroll, struct{}] {
	return stream.Job[slip, scroll, struct{}]{
		Service: "clerk",
		Inputs:  []stream.Input{{Topic: "log"}, {Topic: "cards", Table: true}},
		Outputs: []string{"final"},
		Decode: func(r *stream.Record, in *slip) (stream.Cause, error) {
			*in = slip{key: string(r.Key)}
			switch {
			case r.Topic == "log":
				e, err := stream.ParseEvent(r.Value)
				if err != nil {
					return stream.Cause{}, stream.Permanent(err)
				}
				var text string
				err = json.Unmarshal(e.Data, &text)
				in.id, in.text, in.look = e.ID, e.ID+"|"+strings.ReplaceAll(text, " ", ","), true
				return stream.Cause{ID: e.ID, Time: e.Time}, err
			case len(r.Value) == 0:
				in.text = fmt.Sprintf("gone|%d|", r.Offset)
				return stream.Cause{}, nil
			}
			in.text = "card|" + string(r.Value) + "|"
			return stream.Cause{ID: string(r.Value), Time: r.Time}, nil
		},
		Step: func(c *stream.Context, s *scroll, _ *struct{}, in *slip) error {
			entry := in.text
			if in.look {
				entry += "|" + string(c.Lookup())
			}
			s.entries = append(s.entries, fmt.Sprintf("%s~%d", entry, version))
			for i, key := range []string{in.key, other(in.key)} {
				c.Emit(stream.Emission{Topic: "final", Type: "t", Prefix: "f-", Subject: key, Data: finalOf(c.Cause().ID, i, s.entries)})
			}
			return nil
		},
		Lookup: &stream.Lookup[slip, scroll, struct{}]{
			Service: "scribe", Input: "a",
			Wanted: func(in *slip) bool { return in.look },
			Result: func(c *stream.Context, _ *scroll, _ *struct{}, _ *slip, seen stream.Seen) []byte {
				n := 0
				for _, e := range strings.Fields(string(seen.Value)) {
					if strings.HasPrefix(e, "a-") {
						n++
					}
				}
				return fmt.Appendf(nil, "%d@%s", n, seen.Position)
			},
		},
		State: stream.Codec[scroll]{
			Append: func(dst []byte, s *scroll) []byte { return append(dst, strings.Join(s.entries, " ")...) },
			Decode: func(b []byte, s *scroll) error { s.entries = strings.Fields(string(b)); return nil },
		},
	}
}

func finalOf(id string, i int, entries []string) []byte {
	h := fnv.New32a()
	for _, e := range entries {
		_, _ = h.Write([]byte(e))
	}
	return fmt.Appendf(nil, `"%s %d %08x"`, id, i, h.Sum32())
}

func clerkPlot() plot {
	return plot{
		run: stream.Run{ID: scribeRun}, records: 12, limits: map[string]int{"out": scribeLimit},
		services: []service{scribeService(), {
			name: "clerk", extends: appends, inputs: []string{"log", "cards"}, outputs: []string{"final"},
			process: func(ctx context.Context, rt stream.Runtime, version int) error {
				return stream.Process(ctx, clerk(version), rt)
			},
		}},
		write: func(g *writer, n int) {
			g.scribble(n)
			for range n / 2 {
				key := fmt.Sprintf("k%d", g.rng.IntN(5))
				m := stream.Message{Key: []byte(key), Time: g.at}
				if p := stream.Partition(m.Key, simPartitions); g.rng.IntN(3) > 0 {
					m.Value = fmt.Appendf(nil, "c-%d-%d", p, len(g.written["cards"][p]))
				}
				g.append("cards", stream.Partition(m.Key, simPartitions), m)
			}
		},
		check: func(w *world) string {
			if s := w.checkScribe(); s != "" {
				return s
			}
			return w.checkClerk()
		},
	}
}

// checkClerk wants the clerk's states to be those of whoever reads the log and drops what he has seen.
func (w *world) checkClerk() string {
	log, wrong := w.listen("log")
	if wrong != "" {
		return wrong
	}
	final, wrong := w.listen("final")
	if wrong != "" {
		return wrong
	}
	have := map[string]string{}
	for _, h := range final {
		have[h.text[:len(h.text)-9]] = h.text
	}
	n := 0
	for p := range int32(simPartitions) {
		want := map[string][]string{} // texts by key and kind
		sources := map[string]heard{}
		for _, h := range log {
			if h.partition == p {
				want[h.key+" log"] = append(want[h.key+" log"], h.id+"|"+strings.ReplaceAll(h.text, " ", ","))
				sources[h.id] = h
			}
		}
		for _, r := range w.written["cards"][p] {
			text := fmt.Sprintf("card|%s|", r.Value)
			if len(r.Value) == 0 {
				text = fmt.Sprintf("gone|%d|", r.Offset)
			}
			want[string(r.Key)+" card"] = append(want[string(r.Key)+" card"], text)
		}
		stored, _, err := w.state("clerk", p)
		if err != nil {
			return err.Error()
		}
		got := map[string][]string{}
		for k, v := range stored {
			entries := strings.Fields(v)
			for i, e := range entries {
				e, _, _ = strings.Cut(e, "~")
				f := strings.Split(e, "|")
				id, kind := f[0], " log"
				switch f[0] {
				case "gone":
					id, kind = fmt.Sprintf("cards:%d:%s", p, f[1]), " card"
				case "card":
					id, kind = f[1], " card"
				default:
					if s := w.checkLookup(k, f[2], sources[id]); s != "" {
						return fmt.Sprintf("clerk %d key %s: %s", p, k, s)
					}
				}
				got[k+kind] = append(got[k+kind], f[0]+"|"+f[1]+map[bool]string{true: "|"}[kind == " card"])
				for j := range 2 {
					n++
					text := strings.Trim(string(finalOf(id, j, entries[:i+1])), `"`)
					what := text[:len(text)-9]
					if have[what] == "" || w.counts[crises].Load() == 0 && have[what] != text {
						return fmt.Sprintf("clerk %d key %s: committed %q, accepted %q", p, k, text, have[what])
					}
				}
			}
		}
		if !maps.EqualFunc(got, want, slices.Equal) {
			return fmt.Sprintf("clerk %d:\n have %v\n want %v", p, got, want)
		}
	}
	if n != len(final) {
		return fmt.Sprintf("clerk: committed %d outputs, accepted %d", n, len(final))
	}
	return ""
}

// checkLookup wants what was seen of a state to be what stood at the position seen with it, and, if nothing was lost, to
// contain the record whose output is read.
func (w *world) checkLookup(key, seen string, of heard) string {
	var n int
	var topic string
	var p int32
	offset := int64(-1)
	count, at, _ := strings.Cut(seen, "@")
	fmt.Sscan(count, &n)
	if f := strings.Split(at, ":"); len(f) == 3 {
		topic = f[0]
		fmt.Sscan(f[1], &p)
		fmt.Sscan(f[2], &offset)
		if topic != "a" || p != stream.Partition([]byte(key), simPartitions) {
			return "looked up " + seen
		}
	}
	want := 0
	for _, r := range w.written["a"][stream.Partition([]byte(key), simPartitions)] {
		if r.Offset <= offset && string(r.Key) == key && bytes.HasPrefix(r.Value, []byte("a-")) {
			want++
		}
	}
	if n != want {
		return fmt.Sprintf("looked up %s, but there are %d records up to there", seen, want)
	}
	var from int64
	fmt.Sscan(strings.TrimLeft(of.offset[:19], "0")+of.offset[19:20], &from)
	if own := fmt.Sprintf("/scribe/%s/a/%d", scribeRun, stream.Partition([]byte(key), simPartitions)); w.counts[crises].Load() == 0 && strings.HasSuffix(of.source, own) && from > offset {
		return fmt.Sprintf("looked up %s for what follows from record %d", seen, from)
	}
	return ""
}
