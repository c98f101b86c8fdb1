package chaos

import (
	"context"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// serviceRows are the faults of service processes.
func serviceRows() []Row {
	return []Row{
		{ID: "1", Fault: "kill -9 of a service at a random moment, between commit and publish, inside a publish, between publish and the next commit",
			Holds: "LPOR", Overlap: 5, PerRound: 25, Inject: crash},
		{ID: "1b", Fault: "the same, and it comes back with another policy, model or binary", Holds: "LPOR", Overlap: 3, PerRound: 24,
			Prepare: renewable, Inject: renew, Verify: repeatsAreTheSame},
		{ID: "2", Fault: "SIGSTOP longer than the session timeout, another instance takes over, SIGCONT", Holds: "LPO", Overlap: 4, PerRound: 24, Inject: freeze},
		{ID: "3", Fault: "SIGTERM mid batch", Holds: "LPO", Overlap: 5, PerRound: 25, Prepare: smallBatches, Inject: term, Verify: littleIsRepeated},
		{ID: "4", Fault: "scale 1-3-2-1 every 5 s", Holds: "LPORM", PerRound: 25, Overlap: 25, Apart: 5 * time.Second, Prepare: alone, Inject: scale},
	}
}

// A process is killed where its work can be cut in two.
const (
	anywhere      = "at a random moment"
	beforePublish = "between commit and publish" // the outbox is stored, and this part of it never reaches the broker
	insidePublish = "inside a publish"           // the broker has appended, and the service does not learn of it
	beforeCommit  = "between publish and the next commit"
)

var points = []string{anywhere, beforePublish, insidePublish, beforeCommit}

// published is how long a row waits for a service to publish before it takes any moment instead.
const published = 8 * time.Second

// strike kills a service at a point, all of its instances where the point is one of them that cannot be told.
func (r *Rig) strike(ctx context.Context, service, point string) error {
	kill := func() {
		for _, p := range r.Service(service) {
			p.Kill()
		}
	}
	skip := r.Rand.IntN(3)
	struck := false
	switch point {
	case beforePublish:
		struck = r.Trap(ctx, service, Before, skip, published, func() Verdict { kill(); return DropConnection })
	case insidePublish:
		struck = r.Trap(ctx, service, After, skip, published, func() Verdict { kill(); return DropConnection })
	case beforeCommit:
		// The answer passes first. What the service does next takes it a moment, which may be all there is.
		if struck = r.Trap(ctx, service, After, skip, published, func() Verdict { return Forward }); struck {
			if err := sleep(ctx, time.Duration(r.Rand.Int64N(int64(3*time.Millisecond)))); err != nil {
				return err
			}
			kill()
		}
	}
	if !struck {
		point = anywhere
		alive := r.Service(service)
		if len(alive) == 0 {
			return ctx.Err()
		}
		alive[r.Rand.IntN(len(alive))].Kill()
	}
	r.Note("kill -9 of the " + service + " " + point)
	return ctx.Err()
}

// crash kills a service, which comes back after a while. Injections of one wave strike different services.
func crash(ctx context.Context, r *Rig, n int) error {
	service := Services[n%len(Services)]
	if err := r.strike(ctx, service, points[r.Rand.IntN(len(points))]); err != nil {
		return err
	}
	if err := r.Moment(ctx, 2*time.Second); err != nil {
		return err
	}
	r.restore(service)
	return nil
}

// restore spawns what is missing of one service.
func (r *Rig) restore(service string, env ...string) {
	for range r.Instances[service] - len(r.Service(service)) {
		r.Spawn(service, env...)
	}
}

// renewable tells the checks that what these services publish depends on which version they were when.
func renewable(_ context.Context, r *Rig) error {
	r.Renew("profiler", "detector", "decider")
	return nil
}

// renew kills a service while its outputs are committed and not published, and lets another version take over.
func renew(ctx context.Context, r *Rig, n int) error {
	services := []string{"decider", "profiler", "detector"}
	if r.Previous != "" { // of the others only the program can differ
		services = append(services, "connector", "ingest")
	}
	service := services[n%len(services)]
	if err := r.strike(ctx, service, points[r.Rand.IntN(len(points))]); err != nil {
		return err
	}
	bin, env, what := r.Bin, []string(nil), ""
	switch old := r.Previous != "" && r.Rand.IntN(2) == 0; {
	case old:
		bin, what = r.Previous, "the previous binary"
	case service == "decider":
		what = "another policy"
		if err := r.anotherPolicy(ctx, n); err != nil {
			return err
		}
	case service == "profiler" && r.Rand.IntN(3) == 0:
		what, env = "other settings", []string{"SCORED_BELOW=" + []string{"0.05", "0.3", "1"}[r.Rand.IntN(3)], "BATCH_RECORDS=64"}
	case service == "profiler" || service == "detector":
		if r.Rand.IntN(2) == 0 {
			what, env = pinned, []string{"MODEL=builtin.1"}
			break
		}
		what = "another model"
		if err := r.anotherModel(ctx, n); err != nil {
			return err
		}
	default:
		what = "the present binary"
	}
	if err := r.Moment(ctx, time.Second); err != nil {
		return err
	}
	// The survivors of the old version go as well: what follows is done by the new one.
	for _, p := range r.Service(service) {
		p.Kill()
	}
	for range r.Instances[service] {
		r.spawn(bin, service, env...)
	}
	r.Note(service + " comes back with " + what)
	if what != pinned {
		return nil
	}
	// Whoever is pinned reads no models. The pin goes again, so that in the end everything is read.
	if err := r.Moment(ctx, 4*time.Second); err != nil {
		return err
	}
	if err := r.strike(ctx, service, anywhere); err != nil {
		return err
	}
	for _, p := range r.Service(service) {
		p.Kill()
	}
	r.restore(service)
	return nil
}

const pinned = "a pinned model, and then without it"

// anotherPolicy puts one in force that decides otherwise.
func (r *Rig) anotherPolicy(ctx context.Context, n int) error {
	policy := decision.Default()
	err := kafka.Range(ctx, r.log, r.Run.Topic(topics.Policies), kafka.Last(1), kafka.Latest, func(rec *stream.Record) error {
		p, err := decision.ParsePolicyRecord(rec.Value)
		if err == nil {
			policy = *p
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read the policy in force: %w", err)
	}
	policy.Version = fmt.Sprintf("chaos.%d.%d", r.Seed, n)
	for name, c := range policy.Channels {
		c.Threshold = []int{0, 40, 80}[r.Rand.IntN(3)]
		policy.Channels[name] = c
	}
	e := stream.Event{ID: "pl-" + policy.Version, Source: "/chaos", Type: decision.PolicyType, Time: time.Now().UTC(), Data: policy.Append(nil)}
	return r.broadcast(ctx, topics.Policies, e.Append(nil))
}

// anotherModel puts one in force that measures otherwise.
func (r *Rig) anotherModel(ctx context.Context, n int) error {
	m := *timing.Builtin()
	m.Version = fmt.Sprintf("chaos.%d.%d", r.Seed, n)
	m.PStar *= 0.5 + r.Rand.Float64()/2
	i, j := r.Rand.IntN(len(m.Weekdays)), r.Rand.IntN(len(m.Population))
	m.Weekdays[0], m.Weekdays[i] = m.Weekdays[i], m.Weekdays[0]
	m.Population[0], m.Population[j] = m.Population[j], m.Population[0]
	data, err := m.Append(nil)
	if err != nil {
		return err
	}
	e := stream.Event{ID: "md-" + m.Version, Source: "/tempismo/trainer/" + r.Run.ID, Type: timing.ModelType, Time: time.Now().UTC(), Data: data}
	return r.broadcast(ctx, topics.Models, e.Append(nil))
}

// broadcast writes into every partition of a topic.
func (r *Rig) broadcast(ctx context.Context, topic string, value []byte) error {
	w, err := kafka.NewWriter(ctx, r.log, r.Run)
	if err != nil {
		return err
	}
	defer w.Close()
	return w.Broadcast(ctx, topic, value, time.Time{})
}

// repeatsAreTheSame holds what was published against itself: whoever publishes again publishes what was committed, byte for
// byte, whatever it would say now. Two records of one place in the source that differ show that one of them never was.
func repeatsAreTheSame(ctx context.Context, r *Rig, _ *Evidence) (found []Violation) {
	var ids []string
	n, err := r.repeats(ctx, func(e *stream.Event, same bool) {
		if !same {
			ids = append(ids, e.ID)
		}
	})
	switch {
	case err != nil:
		found = append(found, Violation{Invariant: "P", What: fmt.Sprintf("what was published could not be read: %v", err)})
	case len(ids) > 0:
		found = append(found, Violation{Invariant: "P", What: "published twice for one place in the source, and not the same: one of them was never committed", IDs: ids})
	}
	r.count("outputs published again", n)
	return found
}

// repeats calls each for every output that stands on its topic again, and returns how many there are.
func (r *Rig) repeats(ctx context.Context, each func(e *stream.Event, same bool)) (n int, err error) {
	for _, topic := range []string{topics.Scored, topics.Digests, topics.Erasures, topics.Deviations, topics.Decisions} {
		type place struct {
			partition        int32
			source, sequence string
		}
		first := map[place]uint64{}
		seed := maphash.MakeSeed()
		err := kafka.Range(ctx, r.log, r.Run.Topic(topic), kafka.Earliest, kafka.Latest, func(rec *stream.Record) error {
			e, err := stream.ParseEvent(rec.Value)
			if err != nil || e.Sequence == "" {
				return err
			}
			at, sum := place{rec.Partition, e.Source, e.Sequence}, maphash.Bytes(seed, rec.Value)
			if was, again := first[at]; again {
				n++
				each(&e, was == sum)
			} else {
				first[at] = sum
			}
			return nil
		})
		if err != nil {
			return n, fmt.Errorf("read %s: %w", topic, err)
		}
	}
	return n, nil
}

// frozen is how long a process stands still: longer than the session of a group's member, 6 s.
const frozen = 7 * time.Second

// freeze stops a process for so long that others take its partitions over, and lets it go on: it does not know.
func freeze(ctx context.Context, r *Rig, n int) error {
	service := grouped[n%len(grouped)]
	if service != "connector" { // whose claims are the group's
		if err := r.usurp(ctx, service); err != nil {
			return err
		}
	}
	hold := frozen + time.Duration(r.Rand.Int64N(int64(2*time.Second)))
	var still []*Process
	defer func() {
		for _, p := range still {
			p.Thaw()
		}
	}()
	if r.Rand.IntN(2) == 0 {
		// All of them, while what one publishes is on its way: it arrives when others have published it, too.
		over := make(chan struct{})
		defer close(over)
		frozen := make(chan struct{})
		go r.Trap(ctx, service, Before, r.Rand.IntN(3), published, func() Verdict {
			still = r.Service(service)
			for _, p := range still {
				p.Freeze()
			}
			close(frozen)
			<-over
			return Forward
		})
		select {
		case <-frozen:
			r.Note("SIGSTOP of the " + service + " " + beforePublish)
			r.Spawn(service)
		case <-time.After(published + time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if len(still) == 0 {
		alive := r.Service(service)
		still = []*Process{alive[r.Rand.IntN(len(alive))]}
		still[0].Freeze()
		r.Note("SIGSTOP of the " + service + " " + anywhere)
	}
	if err := sleep(ctx, hold); err != nil {
		return err
	}
	for _, p := range still {
		p.Thaw()
	}
	return nil
}

// smallBatches makes a batch of the profiler something to count.
func smallBatches(_ context.Context, r *Rig) error {
	r.Env["profiler"] = append(r.Env["profiler"], "BATCH_RECORDS=64")
	return nil
}

// term tells a service to stop while it publishes what it has committed. It has to finish, in time.
func term(ctx context.Context, r *Rig, n int) error {
	service := Services[n%len(Services)]
	var told []*Process
	ended := make(chan Violation, 8)
	stop := func(which []*Process) {
		told = which
		for _, p := range which {
			go func() {
				if exit, code := p.Term(); code != 0 || exit > stopIn {
					ended <- Violation{Invariant: "V", What: fmt.Sprintf("SIGTERM: it ended with code %d after %s: see %s", code, exit.Round(time.Millisecond), p.Log), IDs: []string{p.ID()}}
					return
				}
				ended <- Violation{}
			}()
		}
	}
	where := "mid batch"
	if !r.Trap(ctx, service, Before, r.Rand.IntN(3), published, func() Verdict {
		stop(r.Service(service))
		time.Sleep(time.Duration(r.Rand.Int64N(int64(300 * time.Millisecond)))) // the signal goes first
		return Forward
	}) {
		where = anywhere
		alive := r.Service(service)
		stop(alive[:1])
	}
	r.Note("SIGTERM of the " + service + " " + where)
	for range told {
		if v := <-ended; v.Invariant != "" {
			r.Found(v)
		}
	}
	if err := r.Moment(ctx, time.Second); err != nil {
		return err
	}
	r.restore(service)
	return nil
}

// littleIsRepeated counts what was published again after services had been told to stop: at most a batch each.
func littleIsRepeated(ctx context.Context, r *Rig, e *Evidence) (found []Violation) {
	var ids []string
	n, err := r.repeats(ctx, func(e *stream.Event, _ bool) { ids = append(ids, e.ID) })
	if err != nil {
		return []Violation{{Invariant: "L", What: fmt.Sprintf("what was published could not be read: %v", err)}}
	}
	r.count("outputs published again", n)
	if most := 64 * len(e.Injections); n > most {
		found = append(found, Violation{Invariant: "L", What: fmt.Sprintf("%d outputs were published again after %d stops: more than a batch each", n, len(e.Injections)), IDs: ids})
	}
	return found
}

// alone begins with one process of each service.
func alone(_ context.Context, r *Rig) error {
	for _, name := range Services {
		r.Instances[name] = 1
	}
	return nil
}

// scale brings every service to three, two, one processes, in turn.
func scale(ctx context.Context, r *Rig, n int) error {
	size := []int{3, 2, 1}[n%3]
	r.Note(fmt.Sprintf("scale to %d", size))
	for _, name := range Services {
		r.scale(name, size)
	}
	return ctx.Err()
}

// scale starts or stops processes of a service until it has so many, and waits for those that stop.
func (r *Rig) scale(name string, size int) {
	r.mu.Lock()
	r.Instances[name] = size
	r.mu.Unlock()
	var staying []*Process
	for _, p := range r.Service(name) {
		if !p.leaving() {
			staying = append(staying, p)
		}
	}
	for range size - len(staying) {
		r.Spawn(name)
	}
	for _, p := range staying[min(size, len(staying)):] {
		r.leaving.Go(func() {
			if exit, code := p.Term(); code != 0 || exit > stopIn {
				r.Found(Violation{Invariant: "V", What: fmt.Sprintf("SIGTERM: it ended with code %d after %s: see %s", code, exit.Round(time.Millisecond), p.Log), IDs: []string{p.ID()}})
			}
		})
	}
}
