package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/tempismo/history"
)

// explainCmd says why something was decided, and decides it again.
type explainCmd struct {
	ID       string `arg:"" name:"decision" help:"Id of a decision (d-...), or of a request: then its whole way."`
	Customer string `placeholder:"CUSTOMER" help:"Whose it is: only this customer's partition is looked through."`
	JSON     bool   `help:"Write a JSON object."`
	target
}

// Help is the example.
func (*explainCmd) Help() string {
	return `Prints what was decided, every rule with its numbers and what it was made from. Then everything that the decider of that partition took
is folded again up to that point, with what it saw of profiles then, and what comes out is compared byte for byte.

The exit code is 0 if it agrees, 1 if it differs, and 2 if it cannot be computed again: the log no longer holds the beginning, say.

Examples:
  tempismo explain d-7f2a90c14be0335d61a2f4c8
  tempismo explain r-5512 --customer C-20417 --json`
}

// Verdicts of a recomputation.
const (
	agrees  = "agrees"
	differs = "differs"
	cannot  = "cannot"
)

// reviewed is one decision, and what comes out now.
type reviewed struct {
	Verdict     string            `json:"verdict"`
	Why         string            `json:"why,omitempty"` // it cannot be computed again
	Differences []discrepancy     `json:"differences,omitempty"`
	Position    string            `json:"position"` // of the record, topic:partition:offset
	Cause       string            `json:"cause"`    // position of the record that led to it
	Decision    json.RawMessage   `json:"decision"` // the record
	event       stream.Event      // of which Decision is the value
	data        decision.Decision // of event
}

// discrepancy is a field that comes out otherwise; a side without it is null.
type discrepancy struct {
	Field string `json:"field"`
	Was   any    `json:"was"`
	Now   any    `json:"now"`
}

// explanation is the answer to an id.
type explanation struct {
	Customer  string      `json:"customer"`
	Request   string      `json:"request,omitempty"` // where its id was given
	Verdict   string      `json:"verdict"`           // the worst of the decisions
	Decisions []*reviewed `json:"decisions"`
	Folded    int64       `json:"folded"`            // records
	Others    int64       `json:"others"`            // decisions of other customers or requests that were computed again on the way
	Otherwise int64       `json:"others_differ"`     // of these, those that came out otherwise
	Missing   []string    `json:"missing,omitempty"` // what the log no longer holds

	partition int32
	run       stream.Run
}

// ending is an error with an exit code of its own.
type ending struct {
	code int
	text string
}

func (e *ending) Error() string { return e.text }

// Run explains.
func (c *explainCmd) Run(ctx context.Context, t terminal) error {
	return c.with(ctx, func(sys *system) error {
		bars := newProgress(t.err)
		x, err := c.find(ctx, sys, bars)
		if err == nil {
			err = x.decideAgain(ctx, sys, bars)
		}
		bars.wait()
		if err != nil {
			return err
		}
		if c.JSON {
			err = t.json(x)
		} else {
			x.print(t.out)
		}
		switch {
		case err != nil || x.Verdict == agrees:
			return err
		case x.Verdict == differs:
			return &ending{1, "what is decided now differs from what was"}
		}
		return &ending{2, "it cannot be computed again"}
	})
}

// find looks for the decision, or for all of the request.
func (c *explainCmd) find(ctx context.Context, sys *system, bars *progress) (*explanation, error) {
	name := sys.run.Topic(topics.Decisions)
	starts, err := kafka.Earliest(ctx, sys.log, name)
	if err != nil {
		return nil, err
	}
	ends, err := kafka.Latest(ctx, sys.log, name)
	if err != nil {
		return nil, err
	}
	if c.Customer != "" {
		p := stream.Partition([]byte(c.Customer), int32(len(ends)))
		starts = map[int32]int64{p: starts[p]}
	}
	var total, read int64
	for p, start := range starts {
		total += ends[p] - start
	}
	bar := bars.bar("searching", total)
	defer bar.done()
	mention, err := json.Marshal(c.ID)
	if err != nil {
		return nil, err
	}
	x := &explanation{run: sys.run}
	from := func(context.Context, *kafka.Log, string) (map[int32]int64, error) { return starts, nil }
	err = kafka.Range(ctx, sys.log, name, from, kafka.Offsets(ends), func(r *stream.Record) error {
		if read++; read%1024 == 0 {
			bar.set(read)
		}
		if !bytes.Contains(r.Value, mention) {
			return nil
		}
		return x.consider(c, r)
	})
	if err != nil {
		return nil, err
	}
	if len(x.Decisions) == 0 {
		return nil, fmt.Errorf("run %q has no decision %q, and none on a request of that id, on %s: `tempismo watch decisions --from-beginning` shows what there is; what could not be read is on %s",
			sys.run.ID, c.ID, topics.Decisions, topics.DeadLetter(topics.Requests))
	}
	return x, nil
}

// consider adds a record of the topic if it is asked for.
func (x *explanation) consider(c *explainCmd, r *stream.Record) error {
	e := &reviewed{Position: fmt.Sprintf("%s:%d:%d", topics.Decisions, r.Partition, r.Offset), Decision: bytes.Clone(r.Value)}
	var err error
	if e.event, err = stream.ParseEvent(e.Decision); err != nil {
		return nil //nolint:nilerr // none of ours
	}
	if err := e.data.Parse(e.event.Type, e.event.Data); err != nil {
		return nil //nolint:nilerr // likewise
	}
	if c.Customer != "" && e.event.Subject != c.Customer || e.event.ID != c.ID && e.data.Request != c.ID {
		return nil
	}
	run, topic, partition, ok := origin(e.event.Source)
	offset, err := history.OffsetOf(e.event.Sequence)
	if !ok || err != nil {
		return nil //nolint:nilerr // no service wrote it
	}
	if slices.ContainsFunc(x.Decisions, func(have *reviewed) bool { return have.event.ID == e.event.ID }) {
		return nil // whoever takes a partition over repeats the last ones
	}
	if len(x.Decisions) > 0 && (x.Customer != e.event.Subject || x.run.ID != run) {
		return fmt.Errorf("%q stands for more than one: customer %q in run %q and %q in run %q; --customer and --run say which", c.ID, x.Customer, x.run.ID, e.event.Subject, run)
	}
	x.Customer, x.partition, x.run.ID = e.event.Subject, partition, run
	if e.data.Request == c.ID {
		x.Request = c.ID
	}
	e.Cause = fmt.Sprintf("%s:%d:%d", topic, partition, offset)
	x.Decisions = append(x.Decisions, e)
	return nil
}

// origin reads the source of a decision: /tempismo/decider/RUN/TOPIC/PARTITION.
func origin(source string) (run, topic string, partition int32, ok bool) {
	f := strings.Split(source, "/")
	if len(f) != 6 || f[1] != "tempismo" || f[2] != decider.Service {
		return "", "", 0, false
	}
	n, err := strconv.ParseInt(f[5], 10, 32)
	return f[3], f[4], int32(n), err == nil
}

// decideAgain folds the partition up to the last of the decisions and compares.
func (x *explanation) decideAgain(ctx context.Context, sys *system, bars *progress) error {
	left := map[string]*reviewed{}
	for _, e := range x.Decisions {
		e.Verdict, e.Why = cannot, "the record that led to it is no longer on the log, or was taken again after the decider's state had been lost"
		left[e.event.ID] = e
	}
	past, err := history.Open(ctx, sys.log, x.run, x.partition)
	if errors.Is(err, history.ErrPartitions) {
		for _, e := range x.Decisions {
			e.Why = err.Error()
		}
		x.Verdict = cannot
		return nil
	}
	if err != nil {
		return err
	}
	defer past.Close()
	bar := bars.bar("deciding", past.Records())
	defer bar.done()
	err = past.Follow(ctx, func(s *history.Step) error {
		bar.set(past.Read())
		asked := false
		for i := range s.Decisions {
			if e := left[s.Decisions[i].ID]; e != nil {
				e.compare(s, i)
				delete(left, e.event.ID)
				asked = true
			}
		}
		if !asked {
			x.Others += int64(max(len(s.Decisions), len(s.Again)))
			if !s.Agrees() {
				x.Otherwise += int64(max(len(s.Decisions), len(s.Again)))
			}
		}
		if len(left) == 0 {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	x.Folded, x.Missing = past.Read(), past.Missing()
	x.judge()
	return nil
}

// judge sums up. What differs where the log no longer holds everything says nothing.
func (x *explanation) judge() {
	x.Verdict = agrees
	for _, e := range x.Decisions {
		if e.Verdict == differs && len(x.Missing) > 0 {
			e.Verdict, e.Why = cannot, "the log no longer holds everything that came before"
		}
		switch {
		case e.Verdict == differs, e.Verdict == cannot && x.Verdict == agrees:
			x.Verdict = e.Verdict
		}
	}
}

// compare holds a decision against what the fold decides in its place.
func (e *reviewed) compare(s *history.Step, i int) {
	e.Verdict, e.Why = agrees, ""
	var again []byte
	if i < len(s.Again) {
		again = s.Again[i].Value
	}
	if bytes.Equal(e.Decision, again) {
		return
	}
	e.Verdict = differs
	var was, now any
	if json.Unmarshal(e.Decision, &was) == nil && (again == nil || json.Unmarshal(again, &now) == nil) {
		e.Differences = discrepancies(nil, "", was, now)
	}
}

// discrepancies lists the fields in which two JSON values differ.
func discrepancies(list []discrepancy, field string, was, now any) []discrepancy {
	a, both := was.(map[string]any)
	b, ok := now.(map[string]any)
	if both && ok {
		names := slices.Sorted(maps.Keys(a))
		for name := range b {
			if _, known := a[name]; !known {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			list = discrepancies(list, strings.TrimPrefix(field+"."+name, "."), a[name], b[name])
		}
		return list
	}
	c, both := was.([]any)
	d, ok := now.([]any)
	if both && ok && len(c) == len(d) {
		for i := range c {
			list = discrepancies(list, fmt.Sprintf("%s[%d]", field, i), c[i], d[i])
		}
		return list
	}
	if x, y := compact(was), compact(now); x != y {
		list = append(list, discrepancy{field, was, now})
	}
	return list
}

// compact is a JSON value on one line.
func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
