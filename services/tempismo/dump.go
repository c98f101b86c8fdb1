package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/profiler"
)

// dumpCmd writes what stands on a topic, or in the store, as text.
type dumpCmd struct {
	What    string   `arg:"" placeholder:"TOPIC|profiles" help:"A topic, or profiles."`
	Dedupe  bool     `help:"Of records with the same id, write the first only."`
	Without []string `placeholder:"FIELD" help:"Leave out further fields of the envelope, e.g. sequence."`
	target
}

// Help is the example.
func (*dumpCmd) Help() string {
	return `Topics are written in order of partition and offset, one record a line: partition, key, value. What differs between two
runs of the same input is left out: traceparent and the records' timestamps. Profiles are written in order of the
customer, decoded, one JSON object a line.

Example:
  tempismo dump timing.deviations.v1 --data ./opens >a; tempismo dump timing.deviations.v1 --data ./again >b; cmp a b`
}

// Run dumps.
func (c *dumpCmd) Run(ctx context.Context, t terminal) (err error) {
	if c.What != "profiles" {
		if err := topicName(c.What); err != nil {
			return err
		}
	}
	sys, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close()) }()
	out := bufio.NewWriterSize(t.out, 1<<16)
	if c.What == "profiles" {
		err = dumpProfiles(ctx, sys, out)
	} else {
		err = c.topic(ctx, sys, out)
	}
	return errors.Join(err, out.Flush())
}

func (c *dumpCmd) topic(ctx context.Context, sys *system, out *bufio.Writer) error {
	name := sys.run.Topic(c.What)
	ends, err := kafka.Latest(ctx, sys.log, name)
	if err != nil {
		return err
	}
	without := append([]string{"traceparent"}, c.Without...)
	seen := map[string]bool{}
	for p := range int32(len(ends)) {
		err := eachRecord(ctx, sys.log, name, p, ends[p], func(r *stream.Record) error {
			value, id, err := strip(r.Value, without)
			if err != nil { // a dead letter, maybe: as it is, but on one line
				value, id = fmt.Appendf(nil, "%q", r.Value), ""
			}
			if c.Dedupe && id != "" {
				if seen[id] {
					return nil
				}
				seen[id] = true
			}
			_, err = fmt.Fprintf(out, "%d %s %s\n", p, r.Key, value)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachRecord reads one partition from its start up to end.
func eachRecord(ctx context.Context, log *kafka.Log, topic string, partition int32, end int64, fn func(*stream.Record) error) error {
	start, _, err := log.Bounds(ctx, topic, partition)
	if err != nil {
		return err
	}
	at := map[int32]int64{partition: start}
	to := map[int32]int64{partition: end}
	return kafka.Range(ctx, log, topic, kafka.Offsets(at), kafka.Offsets(to), func(r *stream.Record) error {
		if r.Partition != partition {
			return nil
		}
		return fn(r)
	})
}

// strip takes members off a JSON object and keeps the order of the others. It returns the object's id, too.
func strip(value []byte, without []string) (kept []byte, id string, err error) {
	d := json.NewDecoder(bytes.NewReader(value))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, "", errors.New("no JSON object")
	}
	kept = append(kept, '{')
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, "", err
		}
		name, _ := t.(string)
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, "", err
		}
		if name == "id" {
			if err := json.Unmarshal(raw, &id); err != nil {
				return nil, "", err
			}
		}
		if slices.Contains(without, name) {
			continue
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(append(kept, '"'), name...)
		kept = append(append(kept, '"', ':'), raw...)
	}
	if _, err := d.Token(); err != nil {
		return nil, "", err
	}
	return append(kept, '}'), id, nil
}

func dumpProfiles(ctx context.Context, sys *system, out *bufio.Writer) error {
	if err := sys.needStore(); err != nil {
		return err
	}
	n, err := sys.partitions(ctx)
	if err != nil {
		return err
	}
	type entry struct {
		customer string
		state    []byte
	}
	var all []entry
	for p := range n {
		err := sys.store.Scan(ctx, sys.run.Group(profiler.Service), p, func(key string, value []byte) bool {
			all = append(all, entry{key, bytes.Clone(value)})
			return true
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return bytes.Compare([]byte(a.customer), []byte(b.customer)) })
	for _, e := range all {
		line, err := profileLine(e.customer, e.state)
		if err != nil {
			return fmt.Errorf("profile of %q: %w", e.customer, err)
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// channelLine is what a profile's bytes say of one channel, in words.
type channelLine struct {
	Channel    string          `json:"channel"`
	Evidence   timing.Evidence `json:"evidence"`
	Rate       float64         `json:"rate"`
	Confidence int             `json:"confidence"`
	Level      string          `json:"level"`
	Silent     bool            `json:"silent,omitempty"`
	Last       string          `json:"last"` // local hour of the last event
}

// profileLine writes a profile for comparing: what can be read, and the bytes, so that equal lines are equal profiles.
func profileLine(customer string, state []byte) ([]byte, error) {
	var p timing.Profile
	if err := p.Decode(state); err != nil {
		return nil, err
	}
	m := timing.Builtin()
	line := struct {
		Customer string        `json:"customer"`
		Zone     string        `json:"zone"`
		Channels []channelLine `json:"channels"`
		State    []byte        `json:"state"`
	}{customer, p.Zone, nil, state}
	for i := range p.Channels {
		ch := &p.Channels[i]
		head, ok := ch.Head()
		if !ok {
			continue
		}
		v := p.View(m, ch.Name, head)
		line.Channels = append(line.Channels, channelLine{ch.Name, v.Evidence, v.Rate, v.Confidence, v.Level, ch.Silent(), localHour(head)})
	}
	return json.Marshal(line)
}
