package stream_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/tempismo/tempismo/pkg/stream"
)

// journal is a key's state: the records applied, in order, each with the model in force. Any double, lost or reordered
// application shows in it, and in the outputs, which quote it.
type journal struct{ entries []string }

// tally is the partition's state; the model is not stored with it but adopted anew.
type tally struct {
	applied int
	model   string
}

type line struct{ id string }

var errPoison = stream.Permanent(errors.New("poison"))

func journalJob() stream.Job[line, journal, tally] {
	return stream.Job[line, journal, tally]{
		Service: "journal",
		Inputs:  []stream.Input{{Topic: "a"}, {Topic: "b"}, {Topic: "models", Broadcast: true}},
		Outputs: []string{"out", "sums"},
		Decode: func(r *stream.Record, in *line) (stream.Cause, error) {
			if bytes.HasPrefix(r.Value, []byte("poison")) {
				return stream.Cause{}, errPoison
			}
			in.id = string(r.Value)
			return stream.Cause{ID: in.id, Time: r.Time}, nil
		},
		Adopt: func(p *tally, topic string, value []byte) error {
			p.model = string(value)
			return nil
		},
		Step: func(c *stream.Context, s *journal, p *tally, in *line) error {
			if s == nil {
				return nil
			}
			if strings.HasPrefix(in.id, "refused") {
				return stream.Permanent(errors.New("refused"))
			}
			s.entries = append(s.entries, in.id+p.model)
			p.applied++
			for i := range outputsOf(s.entries) {
				c.Emit(stream.Emission{Topic: "out", Type: "t", Prefix: "o-", Subject: keyOf(in.id), Data: quote(s.entries, i)})
			}
			if p.applied%3 == 0 {
				c.Emit(stream.Emission{Topic: "sums", Type: "sum", Prefix: "s-", Data: fmt.Append(nil, p.applied)})
			}
			return nil
		},
		State: stream.Codec[journal]{
			Append: func(dst []byte, s *journal) []byte { return append(dst, strings.Join(s.entries, " ")...) },
			Decode: func(b []byte, s *journal) error { s.entries = strings.Fields(string(b)); return nil },
		},
		Partition: stream.Codec[tally]{
			Append: func(dst []byte, p *tally) []byte { return append(dst, byte(p.applied)) },
			Decode: func(b []byte, p *tally) error { p.applied = int(b[0]); return nil },
		},
	}
}

// keyOf: ids are input-key-number.
func keyOf(id string) string { return strings.Split(id, "-")[1] }

// outputsOf is 0, 1 or 2, depending on everything that was applied.
func outputsOf(entries []string) int {
	h := fnv.New32a()
	for _, e := range entries {
		h.Write([]byte(e))
	}
	return int(h.Sum32()>>8) % 3
}

func quote(entries []string, i int) []byte {
	b, _ := json.Marshal(fmt.Sprintf("%d: %s", i, strings.Join(entries, " ")))
	return b
}
