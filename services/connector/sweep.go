package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector/attributes"
	"github.com/tempismo/tempismo/services/connector/crm"
)

// Sweep is the name, in groups and keys, of what the connector remembers to have told a CRM of its contacts.
const Sweep = Service + "-attributes"

// Services whose states are read. Their names are part of the run's keys in the store.
const (
	deciderService  = "decider"
	profilerService = "profiler"
)

// sweeper keeps properties of the CRM's contacts in step with the profiles. It goes through the profiles of its partitions once in a
// while, a page at a time, and has the CRM told of the customers whose values are not what it was told last. What that was it keeps in
// the store, written after the CRM's answer: a crash between the two has the same values written again, and so has a store that lost
// everything. Nothing of it can bring a message about.
type sweeper struct {
	*service
	store   stream.Store
	channel string
	every   time.Duration // from the beginning of one pass to that of the next
	calling chan struct{} // held by the one call that is under way, of all partitions
	denied  atomic.Bool   // the CRM does not take updates because of a setting
}

const (
	sweepPage  = 500         // profiles that are looked at together
	sweepRest  = time.Second // between pages: a million profiles take half an hour
	sweepAgain = time.Minute // before profiles that are being rebuilt are looked at again
	// suspicious is how many contacts the CRM has to refuse, one by one and all of a batch, for that to be a matter of settings.
	suspicious = 10
)

// serve keeps contacts up to date until ctx ends.
func (s *sweeper) serve(ctx context.Context) error {
	events := s.run.Topic(topics.Events)
	infos, err := s.log.Topics(ctx, events)
	if err != nil {
		return fmt.Errorf("look at the topics (`tempismo topics create` makes them): %w", err)
	}
	s.health.Set("attributes", true, "")
	return s.log.Consume(ctx, s.run.Group(Sweep), events, func(ctx context.Context, a stream.Assignment) {
		s.target.share.own(s.clock.Now(), 1, infos[events].Partitions)
		defer func() { s.target.share.own(s.clock.Now(), -1, infos[events].Partitions) }()
		w := &sweep{sweeper: s, assignment: a, partition: a.Partition(), partitions: infos[events].Partitions, logger: s.logger.With("partition", a.Partition())}
		for b := (backoff{}); ; {
			err := w.work(ctx)
			if ctx.Err() != nil {
				return
			}
			if w.moved {
				b, w.moved = backoff{}, false
			}
			count(s.metrics.retries, with("op", "attributes"))
			s.health.Set("attributes", false, "trying again to keep contacts up to date")
			w.logger.WarnContext(ctx, "keeping contacts up to date is tried again", "error", err)
			if s.clock.Sleep(ctx, b.next()) != nil {
				return
			}
		}
	})
}

// sweep is a sweeper's work on one partition, for as long as this process owns it.
type sweep struct {
	*sweeper
	assignment stream.Assignment
	partition  int32
	partitions int32
	logger     *slog.Logger

	lease    stream.Lease
	position int64           // number of commits, by which a store that has lost the last ones is noticed
	at       stage           // what is read next
	mark     stage           // where an heir has to begin
	model    *timing.Model   // in force when the pass began
	waiting  []string        // customers to tell about, oldest first
	queued   map[string]bool // the same
	gone     []string        // entries to be deleted of whom the CRM is not to be told
	moved    bool            // something was done since work began
	held     bool            // what is read is being rebuilt, and that was said
}

// stage is how far a pass has come.
type stage struct {
	Version int       `json:"v"`
	Began   time.Time `json:"began"`
	Phase   phase     `json:"phase"`
	Cursor  uint64    `json:"cursor"`
}

// phase is what a pass is about.
type phase string

// Phases of a pass, in order. Those who have no profile any more are found among those written.
const (
	resting  phase = "" // it is over
	profiles phase = "profiles"
	written  phase = "written"
)

func (p *stage) decode(b []byte) error {
	*p = stage{}
	if len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, p); err != nil {
		return fmt.Errorf("progress of %s: %w", Sweep, err)
	}
	if p.Version != 1 {
		return fmt.Errorf("progress of %s: version %d is unknown to this program: run the newer one (docs/operations.md, Upgrades and rollback)", Sweep, p.Version)
	}
	return nil
}

// work makes one pass after the other until ctx ends. Its errors are tried again from what is stored.
func (w *sweep) work(ctx context.Context) error {
	if err := w.assignment.Confirm(ctx); err != nil {
		return fmt.Errorf("confirm the assignment: %w", err)
	}
	lease, err := w.store.Claim(ctx, w.run.Group(Sweep), w.partition)
	if err != nil {
		return err
	}
	defer lease.Close()
	w.lease, w.position = lease, lease.Meta().Positions[topics.Events]
	w.waiting, w.queued, w.gone = nil, map[string]bool{}, nil
	if err := w.mark.decode(lease.Meta().Partition); err != nil {
		return err
	}
	w.at = w.mark
	for ctx.Err() == nil {
		now := w.clock.Now()
		if next := w.at.Began.Add(w.every); w.at.Phase == resting && now.Before(next) {
			_ = w.clock.Sleep(ctx, next.Sub(now)) // cut short when ctx ends, which the loop sees by itself
			continue
		}
		if w.at.Phase == resting {
			w.at = stage{Version: 1, Began: now, Phase: profiles}
			w.mark = w.at
		}
		if err := w.pass(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// errRebuilding says that what is stored of the profiles, or of consents, is less than what was.
var errRebuilding = errors.New("it is being rebuilt")

// pass goes on with a pass until it is over.
func (w *sweep) pass(ctx context.Context) error {
	for w.at.Phase != resting {
		err := w.page(ctx)
		if errors.Is(err, errRebuilding) { // who reads now would take everybody for forgotten
			if !w.held {
				w.logger.InfoContext(ctx, "contacts wait", "error", err)
			}
			w.held, w.model = true, nil
			if err := w.clock.Sleep(ctx, sweepAgain); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		w.moved, w.held = true, false
		if !w.denied.Load() {
			w.health.Set("attributes", true, "")
		}
		if err := w.clock.Sleep(ctx, sweepRest); err != nil {
			return err
		}
	}
	count(w.metrics.passes)
	w.model = nil
	return nil
}

// page looks at one page, and has the CRM told as soon as a batch is full or the phase over.
func (w *sweep) page(ctx context.Context) error {
	if w.model == nil {
		if _, err := w.peek(ctx, profilerService, nil); err != nil { // before the model, which is work to read
			return err
		}
		if err := w.adopt(ctx); err != nil {
			return err
		}
	}
	here, next := w.at, w.at
	look := w.changed
	if here.Phase == written {
		look = w.forgotten
	}
	names, cursor, err := look(ctx)
	if err != nil {
		return err
	}
	if next.Cursor = cursor; cursor == 0 {
		next.Phase = map[phase]phase{profiles: written, written: resting}[here.Phase]
	}
	for _, name := range names {
		if !w.queued[name] { // a store may show one twice
			w.queued[name] = true
			w.waiting = append(w.waiting, name)
		}
	}
	batch, told := w.target.updater.UpdateTraits().Batch, false
	for len(w.waiting) >= batch || next.Phase != here.Phase && len(w.waiting) > 0 {
		some := w.waiting[:min(batch, len(w.waiting))]
		if err := w.tell(ctx, some); err != nil {
			return err
		}
		for _, name := range some {
			delete(w.queued, name)
		}
		w.waiting, told = w.waiting[len(some):], true
	}
	switch {
	case len(w.waiting) == 0:
		w.mark = next
	case told: // who waits now is of this page
		w.mark = here
	}
	w.at = next
	if len(w.gone) > 0 || next.Phase != here.Phase {
		return w.commit(ctx, nil)
	}
	return nil
}

// adopt takes the model that the profiler has in force.
func (w *sweep) adopt(ctx context.Context) error {
	seen, err := w.store.Read(ctx, w.run.Group(profilerService), w.partition, nil)
	if err != nil {
		return err
	}
	w.model = timing.Builtin()
	if record := seen.Broadcast[topics.Models]; len(record) > 0 {
		if w.model, err = timing.ParseModelRecord(record); err != nil {
			return fmt.Errorf("model in force: %w", err)
		}
	}
	return nil
}

// changed are the customers of a page of profiles of whom the CRM is to be told something else than last time.
func (w *sweep) changed(ctx context.Context) (names []string, next uint64, err error) {
	if _, err := w.peek(ctx, profilerService, nil); err != nil {
		return nil, 0, err
	}
	all, states, next, err := w.store.Page(ctx, w.run.Group(profilerService), w.partition, w.at.Cursor, sweepPage)
	if err != nil {
		return nil, 0, err
	}
	changes, err := w.decide(ctx, all, states)
	for i := range changes {
		names = append(names, changes[i].contact.Customer)
	}
	return names, next, err
}

// forgotten are the customers of a page of those written who have no profile any more.
func (w *sweep) forgotten(ctx context.Context) (names []string, next uint64, err error) {
	all, _, next, err := w.lease.Page(ctx, w.at.Cursor, sweepPage)
	if err != nil {
		return nil, 0, err
	}
	states, err := w.peek(ctx, profilerService, all)
	if err != nil {
		return nil, 0, err
	}
	for i, name := range all {
		if states[i] == nil {
			names = append(names, name)
		}
	}
	return names, next, nil
}

// peek reads states of another service.
func (w *sweep) peek(ctx context.Context, service string, names []string) ([][]byte, error) {
	seen, err := w.store.Peek(ctx, w.run.Group(service), w.partition, names)
	switch {
	case err != nil:
		return nil, err
	case len(seen.Rebuilding) > 0, seen.Lost && service == profilerService:
		return nil, fmt.Errorf("what the %s knows: %w", service, errRebuilding)
	case seen.Values == nil:
		return make([][]byte, len(names)), nil
	}
	return seen.Values, nil
}

// change is what a contact is to be told anew.
type change struct {
	contact crm.Contact
	values  attributes.Values
	refused string // why the CRM does not take it; empty: it did
}

// compare finds out of which customers the CRM is to be told something else than last time. What cannot be read is counted, and left
// as it is: it will not be read by trying again, but by another program.
func (w *sweep) compare(ctx context.Context, names []string, states [][]byte) (changes []change, err error) {
	was := make([][]byte, len(names))
	if len(names) > 0 {
		if err := w.lease.Load(ctx, names, was); err != nil {
			return nil, err
		}
	}
	now := w.clock.Now()
	at := now
	if w.run.Simulated {
		at = time.Time{}
	}
	for i, name := range names {
		var before attributes.Written
		var profile timing.Profile
		if was[i] != nil {
			err = before.Decode(was[i])
		}
		if states[i] != nil && err == nil {
			err = profile.Decode(states[i])
		}
		if err != nil {
			count(w.metrics.contacts, with("result", "unreadable"))
			w.logger.WarnContext(ctx, "a contact is passed over", "error", err)
			err = nil
			continue
		}
		values := attributes.Of(&profile, w.model, w.channel, at, before.Values)
		switch {
		case values == (attributes.Values{}) && was[i] != nil && w.target.updater.UpdateTraits().Creates:
			w.gone = append(w.gone, name) // told of, it would be made again
		case values != before.Values || values == (attributes.Values{}) && was[i] != nil:
			changes = append(changes, change{contact: values.Contact(name, now), values: values})
		}
	}
	return changes, nil
}

// decide is compare without those who have refused mail, of whom nothing new is told.
func (w *sweep) decide(ctx context.Context, names []string, states [][]byte) ([]change, error) {
	changes, err := w.compare(ctx, names, states)
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	who := make([]string, len(changes))
	for i := range changes {
		who[i] = changes[i].contact.Customer
	}
	consents, err := w.peek(ctx, deciderService, who)
	if err != nil {
		return nil, err
	}
	kept := changes[:0]
	for i, c := range changes {
		var s decision.State
		if consents[i] != nil {
			if err := s.Decode(consents[i]); err != nil {
				return nil, fmt.Errorf("what the decider knows: %w", err)
			}
		}
		if c.contact.Timing != nil && s.MailingRefused(w.channel) {
			count(w.metrics.contacts, with("result", "unconsented"))
			continue
		}
		kept = append(kept, c)
	}
	return kept, nil
}

// tell has the CRM told of customers, and notes what it was told.
func (w *sweep) tell(ctx context.Context, names []string) error {
	for tries := 0; ; tries++ {
		taken, noes, err := w.ask(ctx, names)
		if err != nil {
			return err
		}
		if len(noes) < suspicious || taken > 0 {
			if len(noes) == 0 {
				return nil
			}
			return w.commit(ctx, noes)
		}
		w.deny(ctx, "the CRM takes the properties of nobody: "+noes[0].refused)
		if err := w.clock.Sleep(ctx, pauseAfter(tries, 0)); err != nil {
			return err
		}
	}
}

// ask calls the CRM until it has answered about every one of the customers. Where it refuses all of them it is asked about each half: one
// contact that it does not like must not stand for the others. Those taken are noted at once; the noes are for the caller.
func (w *sweep) ask(ctx context.Context, names []string) (taken int, noes []change, err error) {
	for tries := 0; ; tries++ {
		changes, a, refused, err := w.call(ctx, names)
		switch {
		case err != nil:
			return 0, nil, err
		case len(changes) == 0:
			return 0, nil, nil
		case a.Verdict == crm.Accepted:
			for i, why := range refused {
				changes[i].refused = why
			}
			w.allow()
			return len(changes), nil, w.commit(ctx, changes)
		case a.Verdict == crm.Refused && len(changes) == 1:
			changes[0].refused = a.Detail
			return 0, changes, nil
		case a.Verdict == crm.Refused:
			for _, half := range [][]string{names[:len(names)/2], names[len(names)/2:]} {
				n, no, err := w.ask(ctx, half)
				if err != nil {
					return 0, nil, err
				}
				taken, noes = taken+n, append(noes, no...)
			}
			return taken, noes, nil
		case a.Verdict == crm.Gone:
			if w.target.close() {
				w.health.Set("target", false, "it answered HTTP 410 and is disabled until the connector is restarted")
				w.logger.ErrorContext(ctx, "the target answered HTTP 410 and is disabled; correct WEBHOOK_URL and restart")
			}
		case a.Verdict == crm.Denied, a.Verdict == crm.Forbidden:
			w.deny(ctx, a.Detail)
		}
		if err := w.clock.Sleep(ctx, pauseAfter(tries, a.After)); err != nil {
			return 0, nil, err
		}
	}
}

// pauseAfter is how long to wait after so many failures before: as long as the CRM says or, at most half an hour, by the schedule.
func pauseAfter(tries int, said time.Duration) time.Duration {
	if said > 0 {
		return said
	}
	return schedule[min(tries, 2)]
}

// deny says that the CRM takes no properties because of a setting: somebody has to act.
func (w *sweep) deny(ctx context.Context, detail string) {
	w.health.Set("attributes", false, "contacts are not written, check the key, its permissions and the properties in the CRM: "+detail)
	if !w.denied.Swap(true) {
		w.logger.ErrorContext(ctx, "contacts are not written: check the key, its permissions and the properties in the CRM", "answer", detail)
	}
}

func (w *sweep) allow() {
	w.denied.Store(false)
	w.health.Set("attributes", true, "")
}

// call makes one call about those of the customers of whom there is something to tell, if there are any, once it is its turn: sends go
// first, and there is one call at a time. What there is to tell is worked out then, for much may have happened in the meantime.
func (w *sweep) call(ctx context.Context, names []string) (changes []change, a crm.Answer, refused map[int]string, err error) {
	select {
	case w.calling <- struct{}{}:
		defer func() { <-w.calling }()
	case <-ctx.Done():
		return nil, a, nil, ctx.Err()
	}
	if err := w.turn(ctx); err != nil {
		return nil, a, nil, err
	}
	called := false
	defer func() {
		if !called {
			w.target.share.leave()
		}
	}()
	states, err := w.peek(ctx, profilerService, names)
	if err != nil {
		return nil, a, nil, err
	}
	if changes, err = w.decide(ctx, names, states); err != nil || len(changes) == 0 {
		return nil, a, nil, err
	}
	if err := w.assignment.Confirm(ctx); err != nil { // whoever has the partition now may have written something newer
		return nil, a, nil, fmt.Errorf("confirm the assignment: %w", err)
	}
	contacts := make([]crm.Contact, len(changes))
	for i := range changes {
		contacts[i] = changes[i].contact
	}
	began := w.clock.Now()
	a, refused = w.target.updater.Update(ctx, contacts, began)
	if ctx.Err() != nil {
		return nil, a, nil, ctx.Err()
	}
	called = true
	now := w.clock.Now()
	if a.After > 0 {
		w.target.share.pause(now.Add(a.After))
	}
	if w.target.share.note(a, began, now) {
		w.logger.WarnContext(ctx, "the target fails again and again: contacts are held back, and one call at a time tries it", "answer", a.Detail)
	}
	w.metrics.updates.Record(ctx, now.Sub(began).Seconds(), with("verdict", string(a.Verdict)))
	return changes, a, refused, nil
}

// turn waits for a turn of the share that properties have, and then for one that no send needs.
func (w *sweep) turn(ctx context.Context) error {
	if err := w.target.share.turn(ctx, w.clock); err != nil {
		return err
	}
	for {
		now := w.clock.Now()
		wait := max(w.target.share.hold(now), w.target.hold(now))
		if w.target.isGone() {
			wait = time.Hour // until somebody restarts the connector
		}
		if wait == 0 {
			wait = w.target.spare(now)
		}
		if wait == 0 && !w.target.share.enter(now) {
			wait = breakProbe
		}
		if wait == 0 {
			return ctx.Err()
		}
		if err := w.clock.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// commit notes what the CRM has answered, and how far the pass is.
func (w *sweep) commit(ctx context.Context, changes []change) error {
	mark, err := json.Marshal(w.mark)
	if err != nil {
		return err
	}
	c := &stream.Commit{Next: map[string]int64{topics.Events: w.position + 1}, Partitions: w.partitions, Partition: mark, Gone: w.gone}
	if w.position > 0 {
		c.Base = map[string]int64{topics.Events: w.position}
	}
	why := ""
	for i := range changes {
		now := &changes[i]
		result := "written"
		switch {
		case now.refused != "":
			result, why = "refused", now.refused
		case now.contact.Timing == nil:
			result = "emptied"
		}
		count(w.metrics.contacts, with("result", result))
		if now.contact.Timing == nil { // also where it was refused: there is nothing left to tell
			c.Gone = append(c.Gone, now.contact.Customer)
			continue
		}
		entry := attributes.Written{Values: now.values, Refused: now.refused != ""}
		c.Keys, c.Values = append(c.Keys, now.contact.Customer), append(c.Values, entry.Append(nil))
	}
	if why != "" {
		w.logger.WarnContext(ctx, "the CRM refuses contacts; they are not tried again before what is told of them changes", "answer", why)
	}
	if err := w.lease.Commit(ctx, c); err != nil {
		return err
	}
	w.position++
	w.gone = nil
	w.moved = true
	return nil
}
