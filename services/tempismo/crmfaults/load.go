package crmfaults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// load writes what is to be carried out: most of it as decisions, a tenth as requests, for which the decider decides. Between
// them stand decisions that are none to send, and copies.
type load struct {
	mode      Mode
	writer    *kafka.Writer
	random    *rand.Rand
	decisions int
	perSecond float64
	life      time.Duration // of those that do not expire soon
	written   atomic.Int64
}

// passed are types of decisions that no connector may act on.
var passed = [...]string{decision.WaitType, decision.HeldOutType, decision.BlockedType, decision.ExpiredType, decision.CancelledType}

// A request may be released from some time within the first minute on, and is within four: while nothing is known of its customer, the
// decider may wait until shortly before the deadline.
const earliest, latest = time.Minute, 4 * time.Minute

// write writes everything, a second's worth at a time.
func (l *load) write(ctx context.Context) error {
	end := time.Now().Add(l.life).UTC().Truncate(time.Second)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := 0; i < l.decisions; {
		var decisions, requests []stream.Message
		for range max(1, int(l.perSecond)) {
			if i == l.decisions {
				break
			}
			if i%10 == 4 {
				requests = append(requests, l.request(i))
			} else {
				decisions = append(decisions, l.decide(i, end)...)
			}
			i++
		}
		err := l.writer.WriteAll(ctx, topics.Decisions, decisions)
		if err = errors.Join(err, l.writer.WriteAll(ctx, topics.Requests, requests)); err != nil {
			return err
		}
		l.written.Store(int64(i))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// decide makes the i-th decision up. A third of the customers gets two, some get three.
func (l *load) decide(i int, end time.Time) (all []stream.Message) {
	now := time.Now().UTC()
	expires := end
	switch i % 20 {
	case 7: // too late from the beginning
		expires = now
	case 3, 13: // these may expire while they wait
		expires = now.Add(time.Duration(1+l.random.IntN(60)) * time.Second)
	}
	who := i % max(1, l.decisions*2/3)
	if i%20 == 11 {
		who = i / 20 % max(1, l.decisions/60)
	}
	id := fmt.Sprintf("d-%08x%016x", i, l.random.Uint64())
	record := func(id, typ string) stream.Message {
		d := decision.Decision{
			Reason: decision.BestSlot, DecidedAt: now, Channel: "email", Message: "winter", Zone: "Europe/Rome", NotBefore: now, ExpiresAt: expires,
			Rules: []decision.Rule{}, Summary: "made up",
		}
		e := stream.Event{ID: id, Source: "/crmfaults", Type: typ, Subject: l.mode.customer(who), Time: now, Data: d.Append(nil)}
		return stream.Message{Key: []byte(e.Subject), Value: e.Append(nil)}
	}
	if i%25 == 8 {
		all = append(all, record(fmt.Sprintf("d-ffffffff%016x", l.random.Uint64()), passed[i/25%len(passed)]))
	}
	all = append(all, record(id, decision.SendNowType))
	if i%50 == 21 {
		all = append(all, record(id, decision.SendNowType))
	}
	return all
}

// request makes a message up that waits for its moment. Its customer has no decisions of ours.
func (l *load) request(i int) stream.Message {
	now := time.Now().UTC()
	data := fmt.Appendf(nil, `{"action":"place","channel":"email","message":"winter","not_before":%q,"deadline":%q}`,
		now.Add(time.Duration(l.random.Int64N(int64(earliest)))).Format(time.RFC3339), now.Add(latest).Format(time.RFC3339))
	e := stream.Event{ID: requestID(i), Source: "/crmfaults", Type: decision.RequestType, Subject: l.mode.customer(l.decisions + i), Time: now, Data: data}
	return stream.Message{Key: []byte(e.Subject), Value: e.Append(nil)}
}

func requestID(i int) string { return fmt.Sprintf("r-%d", i) }

// requests is how many requests are written.
func (l *load) requests() int { return (l.decisions + 5) / 10 }
