package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/profiler"
	"github.com/tempismo/tempismo/services/tempismo/local"
)

// repartitionCmd moves a live run to another number of partitions.
type repartitionCmd struct {
	Partitions int32  `required:"" placeholder:"N" help:"Number of partitions that the topics are to have."`
	Into       string `required:"" placeholder:"ID" help:"New run that goes on with the states. Services are started with RUN_ID=ID afterwards."`
	DryRun     bool   `help:"Check whether it could be done, and change nothing."`
	JSON       bool   `help:"Write the summary as a JSON object."`
	target
}

// Help is the example.
func (*repartitionCmd) Help() string {
	return `Everything must have been read, and everybody stopped: services, and whoever else writes to the topics. Records move to the partition
that their customer has among N, in order of time, with their timestamps; states move with their customers. Nothing is decided,
published or sent again. The topics are made anew: until all are there again a copy of each is kept beside them, and the command, given
once more, goes on where it was interrupted. The old run's states stay in Redis. See docs/operations.md.

Example:
  tempismo repartition --partitions 32 --into r2 --kafka-brokers localhost:9092 --redis-addr localhost:6379`
}

// Validate checks the arguments.
func (c *repartitionCmd) Validate() error {
	errs := []error{c.target.Validate(), runOf(stream.Run{ID: c.Into}).Validate()}
	if c.Partitions < 1 {
		errs = append(errs, errors.New("--partitions: want at least 1"))
	}
	return errors.Join(errs...)
}

// resettled is the summary.
type resettled struct {
	From    string         `json:"from"`
	Into    string         `json:"into"`
	Before  int32          `json:"before"`
	After   int32          `json:"after"`
	Records int64          `json:"records"`
	States  map[string]int `json:"states"` // by service
	DryRun  bool           `json:"dry_run"`
}

// plan is what is still to be done once every record has a copy and every state has moved. It stands on a topic of its own
// from then on until the end.
type plan struct {
	From      string          `json:"from"`
	Before    int32           `json:"before"`
	After     int32           `json:"after"`
	Topics    []plannedTopic  `json:"topics"`
	Connector map[int32]int64 `json:"connector"` // where it goes on in the decisions, by new partition
	Records   int64           `json:"records"`
	States    map[string]int  `json:"states"`
}

// plannedTopic is a topic as it is to be made anew.
type plannedTopic struct {
	Name     string             `json:"name"` // on the wire
	Replicas int                `json:"replicas"`
	Settings map[string]*string `json:"settings"` // those that were set for it
}

// move is a repartition under way.
type move struct {
	sys    *system
	into   stream.Run
	before int32
	after  int32
	say    func(format string, args ...any)
}

// Run moves.
func (c *repartitionCmd) Run(ctx context.Context, t terminal) error {
	return c.with(ctx, func(sys *system) error {
		if err := sys.needStore(); err != nil {
			return err
		}
		if sys.run.Simulated {
			return errors.New("a simulated run has topics of its own: replay or import into a new one with the number of partitions that you want")
		}
		m := &move{sys: sys, into: stream.Run{ID: c.Into}, after: c.Partitions, say: func(format string, args ...any) { fmt.Fprintf(t.err, format+"\n", args...) }}
		p, err := m.begun(ctx)
		if err != nil {
			return err
		}
		if p == nil {
			if p, err = m.prepare(ctx, c.DryRun); err != nil {
				return err
			}
		}
		if !c.DryRun {
			if err := m.finish(ctx, p); err != nil {
				return fmt.Errorf("%w\nNothing is lost: give the same command again", err)
			}
		}
		sum := resettled{p.From, c.Into, p.Before, p.After, p.Records, p.States, c.DryRun}
		if c.JSON {
			return t.json(sum)
		}
		if c.DryRun {
			fmt.Fprintf(t.out, "It can be done: run %s has %d partitions, has read everything, and nobody is at work.\n", sum.From, sum.Before)
			return nil
		}
		fmt.Fprintf(t.out, "Run %s goes on with %d partitions: %s records and %s profiles have moved.\nStart all services with RUN_ID=%s.\n", sum.Into, sum.After, grouped(sum.Records), grouped(int64(sum.States[profiler.Service])), sum.Into)
		return nil
	})
}

// copyOf names the topic that holds the copy of another; of none it names the plan.
func (m *move) copyOf(topic string) string {
	name := "tempismo.repartition." + m.into.ID
	if topic != "" {
		name += "." + topic
	}
	return name
}

// begun returns the plan of an earlier call that was interrupted; nil if there is none.
func (m *move) begun(ctx context.Context) (*plan, error) {
	name := m.copyOf("")
	var p *plan
	err := kafka.Range(ctx, m.sys.log, name, kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		p = new(plan)
		return json.Unmarshal(r.Value, p)
	})
	if errors.Is(err, stream.ErrUnknownTopic) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if p != nil && p.After != m.after {
		return nil, fmt.Errorf("a move into run %s with %d partitions was interrupted: give the command with --partitions %d to finish it", m.into.ID, p.After, p.After)
	}
	return p, nil
}

// prepare copies records and states, and changes nothing that is in use.
func (m *move) prepare(ctx context.Context, dry bool) (*plan, error) {
	sys := m.sys
	if m.into.ID == sys.run.ID {
		return nil, fmt.Errorf("--into %s: it must be a new run, since states of both stand side by side meanwhile", m.into.ID)
	}
	names := kafka.Names(sys.run)
	there, err := sys.log.Describe(ctx, sys.run, names...)
	if err != nil {
		return nil, err
	}
	p := &plan{From: sys.run.ID, After: m.after, States: map[string]int{}}
	for _, name := range names {
		t, ok := there[name]
		switch {
		case !ok:
			return nil, fmt.Errorf("topic %s is missing: `tempismo topics create`", name)
		case m.before == 0:
			m.before = t.Partitions
		case t.Partitions != m.before:
			return nil, fmt.Errorf("%s has %d partitions, others have %d: keys of the same customer stand in different ones, and this command does not know where the states belong; make that topic anew first", name, t.Partitions, m.before)
		}
		p.Topics = append(p.Topics, plannedTopic{name, t.Replicas, t.Overridden})
	}
	p.Before = m.before
	if m.before == m.after {
		return nil, fmt.Errorf("the topics have %d partitions already", m.after)
	}
	ends, err := m.still(ctx, names)
	if err != nil {
		return nil, err
	}
	if dry {
		return p, nil
	}
	done, err := sys.log.GroupOffsets(ctx, sys.run.Group(connector.Service))
	if err != nil {
		return nil, err
	}
	p.Connector = map[int32]int64{}
	copied := map[string][]int64{} // ends of the copies by declared topic
	for _, t := range p.Topics {
		m.say("copying %s", t.Name)
		if err := sys.log.Delete(ctx, m.copyOf(t.Name)); err != nil { // what an interrupted call has left
			return nil, err
		}
		if err := m.create(ctx, m.copyOf(t.Name), t, true); err != nil {
			return nil, err
		}
		var undone func(*stream.Record, int32, int64)
		if t.Name == topics.Decisions {
			undone = func(r *stream.Record, q int32, at int64) {
				if first, ok := p.Connector[q]; (!ok || at < first) && r.Offset >= done[t.Name][r.Partition] {
					p.Connector[q] = at
				}
			}
		}
		at, err := m.rekey(ctx, t.Name, ends[t.Name], undone)
		if err != nil {
			return nil, fmt.Errorf("copy %s: %w", t.Name, err)
		}
		for _, n := range at {
			p.Records += n
		}
		copied[t.Name] = at
	}
	for q := range m.after {
		if _, ok := p.Connector[q]; !ok {
			p.Connector[q] = copied[topics.Decisions][q]
		}
	}
	m.say("moving states")
	if err := m.states(ctx, copied, p.States); err != nil {
		return nil, err
	}
	// Whoever wrote or worked meanwhile is not in the copies.
	again, err := m.still(ctx, names)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.Equal(ends[name], again[name]) {
			return nil, fmt.Errorf("somebody has written to %s meanwhile: stop him, let the services read it, and begin again", name)
		}
	}
	return p, m.record(ctx, p)
}

// still checks that nobody is at work and everything is read, and returns the ends of all topics by partition.
func (m *move) still(ctx context.Context, names []string) (map[string][]int64, error) {
	sys := m.sys
	var groups []string
	for _, service := range append(working[:len(working):len(working)], connector.Service) {
		groups = append(groups, sys.run.Group(service), m.into.Group(service))
	}
	members, err := sys.log.Groups(ctx, groups...)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if members[g].Members > 0 {
			return nil, fmt.Errorf("%s is at work (%d members): stop ingest and whoever else writes, wait until `tempismo lag` shows nothing unread, and stop all services", g, members[g].Members)
		}
	}
	ends := map[string][]int64{}
	for _, name := range names {
		by, err := kafka.Latest(ctx, sys.log, name)
		if err != nil {
			return nil, err
		}
		ends[name] = make([]int64, len(by))
		for p, end := range by {
			ends[name][p] = end
		}
	}
	for _, service := range working {
		hinted, err := sys.log.GroupOffsets(ctx, m.into.Group(service))
		if err != nil {
			return nil, err
		}
		if len(hinted) > 0 {
			return nil, fmt.Errorf("run %s has been at work: choose another one", m.into.ID)
		}
		for p := range m.before {
			snap, err := sys.store.Read(ctx, sys.run.Group(service), p, nil)
			if err != nil {
				return nil, err
			}
			if snap.Lost {
				return nil, fmt.Errorf("nothing is stored of partition %d of %s: let it run until it has read everything", p, service)
			}
			for topic, at := range snap.Positions {
				if end := ends[sys.run.Topic(topic)][p]; at != end {
					return nil, fmt.Errorf("%s has read partition %d of %s up to %d of %d: let it run until `tempismo lag` shows nothing unread, and stop it", service, p, topic, at, end)
				}
			}
		}
	}
	return ends, nil
}

// states moves the states of all services into the new run, whose topics end at ends.
func (m *move) states(ctx context.Context, ends map[string][]int64, states map[string]int) (err error) {
	positions := func(service string) ([]map[string]int64, error) {
		snap, err := m.sys.store.Read(ctx, m.sys.run.Group(service), 0, nil)
		if err != nil {
			return nil, err
		}
		all := make([]map[string]int64, m.after)
		for q := range all {
			all[q] = map[string]int64{}
			for topic := range snap.Positions {
				all[q][topic] = ends[topic][q]
			}
		}
		return all, nil
	}
	at, err := positions(profiler.Service)
	if err != nil {
		return err
	}
	profiles, err := profiler.Job(profiler.Config{DefaultZone: "UTC"}) // it steps nothing here
	if err != nil {
		return err
	}
	if states[profiler.Service], err = stream.Resettle(ctx, profiles, m.sys.store, stream.Resettling[timing.Profile, profiler.Partition]{
		From: m.sys.run, To: m.into, Before: m.before, After: m.after, Ends: at,
		Begin: func(q int32, old []profiler.Partition) profiler.Partition { return profiler.Resettle(q, m.after, old) },
	}); err != nil {
		return err
	}
	if at, err = positions(detector.Service); err != nil {
		return err
	}
	if states[detector.Service], err = stream.Resettle(ctx, detector.Job(detector.Config{}, nil), m.sys.store, stream.Resettling[deviation.Memory, detector.Partition]{
		From: m.sys.run, To: m.into, Before: m.before, After: m.after, Ends: at,
	}); err != nil {
		return err
	}
	if at, err = positions(decider.Service); err != nil {
		return err
	}
	states[decider.Service], err = stream.Resettle(ctx, decider.Job(m.into, nil), m.sys.store, stream.Resettling[decision.State, decider.Partition]{
		From: m.sys.run, To: m.into, Before: m.before, After: m.after, Ends: at, Note: decider.Note,
	})
	return err
}

// record writes the plan: from here on there is no way back, and every way on.
func (m *move) record(ctx context.Context, p *plan) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	name := m.copyOf("")
	if err := m.sys.log.Delete(ctx, name); err != nil {
		return err
	}
	if err := m.create(ctx, name, p.Topics[0], true, 1); err != nil {
		return err
	}
	producer, err := m.sys.log.Producer(ctx)
	if err != nil {
		return err
	}
	defer producer.Close()
	_, err = producer.Produce(ctx, name, 0, []stream.Message{{Value: b, Time: time.Now()}})
	return err
}

// finish makes the topics anew from their copies.
func (m *move) finish(ctx context.Context, p *plan) error {
	sys := m.sys
	m.before = p.Before
	ends := map[string]map[int32]int64{}
	for _, t := range p.Topics {
		there, err := sys.log.Describe(ctx, m.into, m.copyOf(t.Name))
		if err != nil {
			return err
		}
		if _, left := there[m.copyOf(t.Name)]; left {
			m.say("making %s anew", t.Name)
			if err := sys.log.Delete(ctx, t.Name); err != nil {
				return err
			}
			if err := m.create(ctx, t.Name, t, false); err != nil {
				return err
			}
			if err := m.restore(ctx, t.Name); err != nil {
				return fmt.Errorf("copy %s back: %w", t.Name, err)
			}
			if err := sys.log.Delete(ctx, m.copyOf(t.Name)); err != nil {
				return err
			}
		}
		if ends[t.Name], err = kafka.Latest(ctx, sys.log, t.Name); err != nil {
			return err
		}
	}
	for _, service := range working {
		snap, err := sys.store.Read(ctx, m.into.Group(service), 0, nil)
		if err != nil {
			return err
		}
		read := map[string]map[int32]int64{}
		for topic := range snap.Positions {
			read[m.into.Topic(topic)] = ends[m.into.Topic(topic)]
		}
		if err := sys.log.SetGroupOffsets(ctx, m.into.Group(service), read); err != nil {
			return err
		}
	}
	if err := sys.log.SetGroupOffsets(ctx, m.into.Group(connector.Service), map[string]map[int32]int64{m.into.Topic(topics.Decisions): maps.Clone(p.Connector)}); err != nil {
		return err
	}
	if sys.dir != "" {
		held, _ := local.Load(sys.dir)
		held.Run, held.Partitions = m.into.ID, m.after
		if err := local.Save(sys.dir, held); err != nil {
			return err
		}
	}
	return sys.log.Delete(ctx, m.copyOf(""))
}
