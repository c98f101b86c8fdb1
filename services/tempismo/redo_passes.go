package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/ingest"
)

// redoing is what has been found out. Letters are read twice rather than held: there may be more of them than fits into memory.
type redoing struct {
	cmd        *redoCmd
	sys        *system
	topic      topics.Topic // where the letters came from
	mapper     *ingest.Mapper
	start, end kafka.Position // of the letters
	sum        *redone

	// What the letters say.
	oldest time.Time        // when the first of those asked for was set aside
	firsts map[int32]int64  // the first position, by partition, of a record that became one of them
	back   map[string]bool  // positions of records that were letters, and have become letters again
	wanted map[imprint]bool // what is looked for on the topic
	hooks  bool             // whether any is a webhook's

	// What the topic says.
	tries  map[string]place  // the last try, by its root
	others map[imprint]place // the last record that is no try
	again  map[imprint]place // the last try
	there  map[imprint]bool  // events of webhooks
	hashed int               // events of ingest whose customers look like pseudonyms
	plain  int               // and those whose do not

	out     *kafka.Writer
	waiting []stream.Message
	from    []*letter // by waiting
	size    int       // bytes that wait
}

// imprint is a key, a record or an event, in few bytes.
type imprint [16]byte

func imprintOf(parts ...string) imprint {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return imprint(h.Sum(nil)[:16])
}

// place is where a record stands.
type place struct {
	partition int32
	offset    int64
	at        time.Time
	root      string // of a try
}

// after reports whether the place is behind the record that became l. Positions are compared where they can be; a run that was
// moved to other partitions has others.
func (p place) after(l *letter) bool {
	return p.partition == l.partition && p.offset > l.offset || p.at.After(l.Time)
}

// begin looks up where the letters begin and end.
func (c *redoCmd) begin(ctx context.Context, sys *system) (*redoing, error) {
	name := strings.TrimSuffix(c.Topic, topics.DeadLetter(""))
	r := &redoing{
		cmd: c, sys: sys, start: kafka.Earliest, sum: &redone{Topic: sys.run.Topic(c.Topic), Into: sys.run.Topic(name), Left: []*left{}, DryRun: c.DryRun},
		topic:  topics.All[slices.IndexFunc(topics.All, func(t topics.Topic) bool { return t.Name == name })], // checked by Validate
		firsts: map[int32]int64{}, back: map[string]bool{}, wanted: map[imprint]bool{}, tries: map[string]place{}, others: map[imprint]place{}, again: map[imprint]place{}, there: map[imprint]bool{},
	}
	if c.Since != "" {
		at, _ := time.Parse(time.RFC3339, c.Since) // checked by Validate
		r.start = kafka.Since(at)
	}
	ends, err := kafka.Latest(ctx, sys.log, r.sum.Topic)
	if err != nil {
		return r, err
	}
	r.end = kafka.Offsets(ends) // what comes back meanwhile is for the next time
	if name != topics.Events {
		return r, nil
	}
	if err := sys.needStore(); err != nil { // it has what customers have consented to
		return r, err
	}
	n, err := sys.partitions(ctx)
	if err == nil {
		r.mapper, err = ingest.NewMapper(ingest.Config{Run: runOf(sys.run), Pixels: c.Pixels, Pseudonym: c.Pseudonym, Machines: c.Machines}, sys.store, n)
	}
	return r, err
}

// hook reports whether a letter is a webhook's.
func (r *redoing) hook(l *letter) bool { return r.mapper != nil && ingest.FromProvider(l.stage) }

// letters calls fn for each letter, and says whether it is one that was asked for.
func (r *redoing) letters(ctx context.Context, b *bar, fn func(l *letter, asked bool) error) error {
	defer b.done()
	var n int64
	return kafka.Range(ctx, r.sys.log, r.sum.Topic, r.start, r.end, func(rec *stream.Record) error {
		n++
		b.set(n)
		l := letterOf(rec)
		stage := r.cmd.Stage
		return fn(l, stage == "" || l.stage == stage || strings.HasSuffix(stage, ":") && strings.HasPrefix(l.stage, stage))
	})
}

// look reads the letters, to know what to look for on the topic.
func (r *redoing) look(ctx context.Context, bars *progress) error {
	return r.letters(ctx, bars.bar("reading", 0), func(l *letter, asked bool) error {
		if l.back {
			r.back[l.at()] = true
		}
		if !asked {
			return nil
		}
		r.sum.Letters++
		if r.oldest.IsZero() || l.Time.Before(r.oldest) {
			r.oldest = l.Time
		}
		if r.hook(l) {
			r.hooks = true
			mapped, err := r.mapper.Map(ctx, l.Record)
			if err != nil {
				return err
			}
			for _, m := range mapped.Events {
				id, err := eventOf(m.Value)
				if err != nil {
					return err
				}
				r.wanted[id] = true
			}
			return nil
		}
		if l.hopeless(&r.topic) != "" {
			return nil
		}
		if first, ok := r.firsts[l.partition]; !ok || l.offset < first {
			r.firsts[l.partition] = l.offset
		}
		if m, ok := r.identity(l.Record); ok {
			r.wanted[m] = true
		}
		return nil
	})
}

// eventOf names an event that ingest has written.
func eventOf(value []byte) (imprint, error) {
	var e engagement.Event
	if err := e.Parse(value); err != nil {
		return imprint{}, fmt.Errorf("read back an event: %w", err)
	}
	return imprintOf("event", e.Source, e.ID), nil
}

// identity is what makes a newer record of the topic overtake this one: its key in a table, else its key and id.
func (r *redoing) identity(rec *stream.Record) (imprint, bool) {
	if r.topic.Kind == topics.Table {
		return imprintOf("key", string(rec.Key)), true
	}
	e, err := stream.ParseEvent(rec.Value)
	return imprintOf("id", string(rec.Key), e.ID), err == nil
}

// clocks is how far clocks of writers may differ.
const clocks = time.Hour

// compare reads the topic, from the first record that became a letter on, for what it has of those that are wanted.
func (r *redoing) compare(ctx context.Context, bars *progress) error {
	if len(r.wanted) == 0 && len(r.firsts) == 0 {
		return nil
	}
	from := func(ctx context.Context, l *kafka.Log, topic string) (map[int32]int64, error) {
		at, err := kafka.Since(r.oldest.Add(-clocks))(ctx, l, topic)
		if err != nil {
			return nil, err
		}
		earliest, err := kafka.Earliest(ctx, l, topic)
		for p, first := range r.firsts {
			if _, ok := at[p]; ok {
				at[p] = max(earliest[p], min(at[p], first))
			}
		}
		return at, err
	}
	b := bars.bar("comparing", 0)
	defer b.done()
	var e engagement.Event
	return kafka.Range(ctx, r.sys.log, r.sum.Into, from, kafka.Latest, func(rec *stream.Record) error {
		at := place{rec.Partition, rec.Offset, rec.Time, ""}
		for _, h := range rec.Headers {
			if h.Key == redoHeader {
				at.root = string(h.Value)
				r.tries[at.root] = at
			}
		}
		if m, ok := r.identity(rec); ok && r.wanted[m] {
			if at.root == "" {
				r.others[m] = at
			} else {
				r.again[m] = at
			}
		}
		if r.hooks && e.Parse(rec.Value) == nil && strings.HasPrefix(e.Source, "/ingest/") {
			if m := imprintOf("event", e.Source, e.ID); r.wanted[m] {
				r.there[m] = true
			}
			if pseudonym(e.Subject) {
				r.hashed++
			} else {
				r.plain++
			}
		}
		return nil
	})
}

// pseudonym reports whether a customer's id has the form that ingest gives it under a key.
func pseudonym(id string) bool { return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == "" }

// keyed checks that there is a key where ingest has one: events without it would tell whom they are about, and be another
// customer's.
func (r *redoing) keyed() error {
	switch {
	case !r.hooks:
	case r.cmd.Pseudonym == "" && r.hashed > 0 && !r.cmd.PlainIDs:
		return fmt.Errorf("customers on %s have pseudonyms: give PSEUDONYM_KEY as ingest has it, or --plain-ids if they only look like it", r.sum.Into)
	case r.cmd.Pseudonym != "" && r.plain > 0:
		return fmt.Errorf("customers on %s have no pseudonyms: leave PSEUDONYM_KEY out, as ingest does, or look only --since it has one", r.sum.Into)
	}
	return nil
}

// write tries the letters again.
func (r *redoing) write(ctx context.Context, bars *progress) (err error) {
	if err := r.keyed(); err != nil {
		return err
	}
	if !r.cmd.DryRun {
		if r.out, err = kafka.NewWriter(ctx, r.sys.log, r.sys.run); err != nil {
			return err
		}
		defer r.out.Close()
	}
	b := bars.bar("trying", 0)
	b.total(r.sum.Letters)
	seen := map[string]bool{}
	err = r.letters(ctx, b, func(l *letter, asked bool) error {
		if !asked {
			return nil
		}
		if r.hook(l) {
			return r.remap(ctx, l)
		}
		if why := l.hopeless(&r.topic); why != "" {
			r.sum.leave(l, why)
			return nil
		}
		last, tried := r.tries[l.root]
		if seen[l.root] || tried && !r.back[fmt.Sprintf("%d:%d", last.partition, last.offset)] {
			r.sum.Settled++
			return nil
		}
		if m, ok := r.identity(l.Record); ok {
			other, again := r.others[m], r.again[m]
			if other != (place{}) && other.after(l) || again != (place{}) && again.root != l.root && again.after(l) {
				r.sum.Overtaken++
				return nil
			}
		}
		seen[l.root] = true
		r.sum.Tried++
		r.sum.Records++
		return r.put(ctx, l, l.message())
	})
	return errors.Join(err, r.flush(ctx))
}

// remap has a webhook's letter mapped, and what the topic does not have of its events written.
func (r *redoing) remap(ctx context.Context, l *letter) error {
	mapped, err := r.mapper.Map(ctx, l.Record)
	if err != nil {
		return err
	}
	fresh := 0
	for _, m := range mapped.Events {
		id, err := eventOf(m.Value)
		if err != nil {
			return err
		}
		if r.there[id] {
			continue
		}
		r.there[id] = true
		fresh++
		r.sum.Events++
		if err := r.put(ctx, l, m); err != nil {
			return err
		}
	}
	switch {
	case mapped.Wrong != nil:
		r.sum.leave(l, mapped.Wrong.Error())
	case mapped.Unconsented > 0 && len(mapped.Events) == 0:
		r.sum.Unconsented++
	case fresh > 0 || mapped.Ignored > 0 && len(mapped.Events) == 0:
		r.sum.Tried++
	default:
		r.sum.Settled++
	}
	return nil
}

// put has m, which came of l, written with others.
func (r *redoing) put(ctx context.Context, l *letter, m stream.Message) error {
	if r.cmd.DryRun {
		return nil
	}
	r.waiting = append(r.waiting, m)
	r.from = append(r.from, &letter{Record: &stream.Record{Partition: l.Partition, Offset: l.Offset}, stage: l.stage}) // l lives no longer than this call
	if r.size += len(m.Key) + len(m.Value); r.size < sortMemory/16 && len(r.waiting) < writeBatch {
		return nil
	}
	return r.flush(ctx)
}

// flush writes what waits. Of records that do not fit the topic any more the others are written all the same.
func (r *redoing) flush(ctx context.Context) error {
	if len(r.waiting) == 0 {
		return nil
	}
	err := r.out.WriteAll(ctx, r.topic.Name, r.waiting)
	if errors.Is(err, kafka.ErrTooLarge) {
		err = nil
		for i := range r.waiting {
			one := r.out.WriteAll(ctx, r.topic.Name, r.waiting[i:i+1])
			if errors.Is(one, kafka.ErrTooLarge) {
				r.sum.leave(r.from[i], "is larger than its topic takes: raise max.message.bytes of "+r.sum.Into)
				one = nil
				if r.sum.Tried--; r.hook(r.from[i]) {
					r.sum.Events--
				} else {
					r.sum.Records--
				}
			}
			if err = one; err != nil {
				break
			}
		}
	}
	r.waiting, r.from, r.size = nil, nil, 0
	if err != nil {
		return fmt.Errorf("%w; the same command goes on where this one stopped", err)
	}
	return nil
}
