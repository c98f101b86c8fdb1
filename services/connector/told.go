package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// told is what the customers of one partition have said lately, and the policy in force. The decider has asked what they want when it
// decided, and a decision lives for a day at most, so that nothing older can be news to it: told is read anew at every takeover, and
// holds no more than that.
//
// It is read when a delivery asks, up to the end that the topics have then, and not in the background: what was acknowledged
// before the question is in the answer, and a log that cannot be read stops the calls.
type told struct {
	log       stream.Log
	partition int32
	feeds     []*feed
	now       func() time.Time
	retry     func(ctx context.Context, op string, f func() error) error
	unread    func(topic string) // tells of a record that could not be read

	reading        chan struct{} // held by whoever reads
	began, through atomic.Int64  // rounds of reading that have begun, and the last one that came to the end

	mu        sync.Mutex
	customers map[string]*said
	sweepAt   int              // number of customers at which the forgotten ones are taken out
	policy    *decision.Policy // as deciders have it
}

// feed is one topic that is followed.
type feed struct {
	name   string                                            // as decisions name it
	topic  string                                            // on the wire
	first  func(ctx context.Context, f *feed) (int64, error) // where to begin
	take   func(r *stream.Record) error                      // the lock is held
	cursor stream.Cursor
	next   int64 // -1: not known
}

// mark is where something was said.
type mark struct {
	feed   string // declared name
	offset int64
}

// said is what one customer has said.
type said struct {
	answers []answer  // the newest one for each channel
	erased  *mark     // the last erasure of everything
	forget  time.Time // when none of it can be news to a decision any more
}

// answer is a yes or a no to mail.
type answer struct {
	mark
	channel string // empty: all of them
	granted bool
	at      time.Time
}

// saidOn are the topics on which something is said of customers, and how it is read.
var saidOn = [...]struct {
	name string // as it is declared
	read func(e *stream.Event, s *said, m mark) error
}{
	{topics.Attributes, readAttributes},
	{topics.Consents, readConsent},
	{topics.Erasures, readErasure},
}

func newTold(log stream.Log, run stream.Run, partition int32) *told {
	policy := decision.Default()
	t := &told{log: log, partition: partition, reading: make(chan struct{}, 1), customers: map[string]*said{}, sweepAt: 4096, policy: &policy}
	for _, on := range saidOn {
		t.feeds = append(t.feeds, &feed{name: on.name, topic: run.Topic(on.name), next: -1, first: t.lately, take: func(r *stream.Record) error {
			return t.hear(r, on.name, on.read)
		}})
	}
	t.feeds = append(t.feeds, &feed{name: topics.Policies, topic: run.Topic(topics.Policies), next: -1, first: t.lastPolicy, take: t.adopt})
	return t
}

// lately is where what can be news to a decision begins.
func (t *told) lately(ctx context.Context, f *feed) (int64, error) {
	return firstSince(ctx, t.log, f.topic, t.partition, t.now().Add(-decision.MaxExpiry-skew))
}

// lastPolicy is where the last policy stands that can be read, which may be years old: those before it are of no interest.
func (t *told) lastPolicy(ctx context.Context, f *feed) (int64, error) {
	start, end, err := t.log.Bounds(ctx, f.topic, t.partition)
	if err != nil {
		return 0, fmt.Errorf("bounds of %s/%d: %w", f.topic, t.partition, err)
	}
	for at := end - 1; at >= start; at-- {
		readable := false
		err := read(ctx, t.log, f.topic, t.partition, at, at+1, func(r *stream.Record) {
			_, err := decision.ParsePolicyRecord(r.Value)
			readable = err == nil
		})
		if err != nil {
			return 0, err
		}
		if readable {
			return at, nil
		}
	}
	return start, nil
}

// adopt puts a policy in force.
func (t *told) adopt(r *stream.Record) error {
	p, err := decision.ParsePolicyRecord(r.Value)
	if err == nil {
		t.policy = p
	}
	return err
}

// inForce is the policy in force, which is not changed.
func (t *told) inForce() *decision.Policy {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.policy
}

// readAttributes takes the answer that stands among the attributes, if there is one.
func readAttributes(e *stream.Event, s *said, m mark) error {
	var a customer.Attributes
	if e.Type != customer.Type {
		return fmt.Errorf("type: %q is not %s", e.Type, customer.Type)
	}
	if err := a.Parse(e.Data); err != nil {
		return err
	}
	s.answer(m, "", a.Consents.Mailing)
	return nil
}

// readConsent takes an answer that stands for itself, such as that of somebody who has unsubscribed.
func readConsent(e *stream.Event, s *said, m mark) error {
	var a customer.Answer
	if e.Type != customer.ConsentType {
		return fmt.Errorf("type: %q is not %s", e.Type, customer.ConsentType)
	}
	if err := a.Parse(e.Data); err != nil {
		return err
	}
	s.answer(m, a.Channel, a.Mailing)
	return nil
}

// readErasure takes an erasure of everything. What is learned from pixels alone has no part in whether somebody may be
// written to.
func readErasure(e *stream.Event, s *said, m mark) error {
	var erasure customer.Erasure
	if e.Type != customer.ErasureType {
		return fmt.Errorf("type: %q is not %s", e.Type, customer.ErasureType)
	}
	if err := erasure.Parse(e.Data); err != nil {
		return err
	}
	if erasure.All() {
		s.erased = &m
	}
	return nil
}

// answer takes an answer in place of the one for the same channel that was given before. Which one counts is the rule of
// customer.Latest. One that is only told again stays where it was told first.
func (s *said) answer(m mark, channel string, c *customer.Consent) {
	if c == nil {
		return
	}
	given := answer{m, channel, c.Granted, c.At}
	for i := range s.answers {
		if before := &s.answers[i]; before.channel == channel {
			if given.outdoes(before) {
				*before = given
			}
			return
		}
	}
	given.channel = strings.Clone(channel)
	s.answers = append(s.answers, given)
}

// outdoes reports whether a counts and b does not, of two answers that concern the same messages.
func (a *answer) outdoes(b *answer) bool {
	return a.at.After(b.at) || a.at.Equal(b.at) && !a.granted && b.granted
}

// forbids says why a decision must not be carried out after all; empty: nothing is known against it. Only what the decider
// had not read when it decided is news: of the rest it knows more than stands here.
func (t *told) forbids(d *delivery) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.customers[d.customer]
	if s == nil {
		return ""
	}
	if s.erased != nil && d.news(*s.erased) {
		return "everything that is held of the customer was erased after the decision"
	}
	var last *answer
	for i := range s.answers {
		if a := &s.answers[i]; (a.channel == "" || a.channel == d.channel) && (last == nil || a.outdoes(last)) {
			last = a
		}
	}
	if last == nil || last.granted || !d.news(last.mark) {
		return ""
	}
	return "mail was refused at " + last.at.UTC().Format(time.RFC3339) + ", for " + cmp.Or(last.channel, "every channel") + ", which the decision did not know"
}

// catchUp reads what has been said up to now. Those who ask while somebody reads share the next reading.
func (t *told) catchUp(ctx context.Context) error {
	asked := t.began.Load()
	select {
	case t.reading <- struct{}{}:
		defer func() { <-t.reading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if t.through.Load() > asked { // it began after the question
		return nil
	}
	round := t.began.Add(1)
	for _, f := range t.feeds {
		if err := t.retry(ctx, "follow "+f.name, func() error { return t.follow(ctx, f) }); err != nil {
			return err
		}
	}
	t.through.Store(round)
	return nil
}

// follow reads a topic up to the end that it has now.
func (t *told) follow(ctx context.Context, f *feed) error {
	idle := f.cursor != nil // a broker closes a connection over which nothing has come for minutes, which shows at the next request
	for wait := time.Duration(0); ; {
		if err := t.open(ctx, f); err != nil {
			return err
		}
		records, err := f.cursor.Fetch(ctx, 1<<20, wait)
		if err != nil {
			t.shut(f)
			if errors.Is(err, stream.ErrOffsetOutOfRange) {
				f.next, err = -1, errTaken
			}
			if !idle || ctx.Err() != nil {
				return fmt.Errorf("fetch %s/%d: %w", f.topic, t.partition, err)
			}
			idle = false
			continue
		}
		idle = false
		t.take(f, records)
		if f.next = f.cursor.Next(); f.next >= f.cursor.End() {
			return nil
		}
		wait = time.Second // there is more
	}
}

// errTaken is not the log's own error, because it is no reason to give up: what can be news is looked for anew.
var errTaken = errors.New("the log does not hold what was to be read next")

// open begins where reading has come to or, at first, where the feed says.
func (t *told) open(ctx context.Context, f *feed) (err error) {
	if f.cursor != nil {
		return nil
	}
	if f.next < 0 {
		if f.next, err = f.first(ctx, f); err != nil {
			f.next = -1
			return err
		}
	}
	if f.cursor, err = t.log.Open(ctx, f.topic, t.partition, f.next); err != nil {
		f.cursor = nil
		return fmt.Errorf("open %s/%d at %d: %w", f.topic, t.partition, f.next, err)
	}
	return nil
}

func (t *told) shut(f *feed) {
	if f.cursor != nil {
		f.cursor.Close()
		f.cursor = nil
	}
}

// close ends reading, when nobody asks any more.
func (t *told) close() {
	for _, f := range t.feeds {
		t.shut(f)
	}
}

// take notes what records say. One that cannot be read is a dead letter of those who learn from the topic; here it is
// counted, since nobody knows what it says.
func (t *told) take(f *feed, records []stream.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range records {
		if f.take(&records[i]) != nil {
			t.unread(f.name)
		}
	}
	if len(t.customers) < t.sweepAt {
		return
	}
	now := t.now()
	for id, s := range t.customers {
		if s.forget.Before(now) {
			delete(t.customers, id)
		}
	}
	t.sweepAt = max(4096, 2*len(t.customers))
}

// hear notes what one record of a feed says of a customer.
func (t *told) hear(r *stream.Record, feed string, read func(e *stream.Event, s *said, m mark) error) error {
	if len(r.Value) == 0 { // attributes that are deleted
		return nil
	}
	e, err := stream.ParseEvent(r.Value)
	if err != nil {
		return err
	}
	if e.Subject != string(r.Key) {
		return errors.New("subject: is not the key of the record")
	}
	s := t.customers[e.Subject]
	if s == nil {
		s = &said{}
	}
	if err := read(&e, s, mark{feed, r.Offset}); err != nil {
		return err
	}
	if len(s.answers) == 0 && s.erased == nil {
		return nil
	}
	if forget := r.Time.Add(decision.MaxExpiry + skew + margin); forget.After(s.forget) {
		s.forget = forget
	}
	t.customers[strings.Clone(e.Subject)] = s
	return nil
}
