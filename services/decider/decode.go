package decider

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// Input is a record of one of the decider's topics. What is set depends on the topic.
type Input struct {
	topic      string
	deviation  deviation.Deviation
	request    decision.Request
	attributes []byte // the data object; nil: a tombstone
	answer     customer.Answer
	erasure    customer.Erasure
	outcome    decision.Outcome
}

// wantsLookup: whatever may be planned or released needs the profile. What changes otherwise sets timers.
func (in *Input) wantsLookup() bool {
	return in.topic == topics.Requests || in.topic == topics.Deviations && in.deviation.Actionable
}

// decode reads a record of a topic. Its errors name the field; they are permanent, because the bytes will not change.
func decode(r *stream.Record, in *Input, topic string) (stream.Cause, error) {
	*in = Input{topic: topic}
	if topic == topics.Attributes && len(r.Value) == 0 {
		return stream.Cause{}, nil
	}
	e, err := stream.ParseEvent(r.Value)
	if err != nil {
		return stream.Cause{}, err
	}
	if err := check(&e, r, topic); err != nil {
		return stream.Cause{}, err
	}
	cause := stream.Cause{ID: e.ID, Time: e.Time, Trace: e.Traceparent}
	switch topic {
	case topics.Deviations:
		if err = json.Unmarshal(e.Data, &in.deviation); err != nil {
			err = fmt.Errorf("data: %w", err)
		}
	case topics.Requests:
		err = in.request.Parse(e.ID, e.Data)
		cause.ID = e.ID + "/" + stamp(&e)
	case topics.Attributes:
		cause.Time = time.Time{} // what is told is true when it is read: a replay tells it before all events
		in.attributes = e.Data
	case topics.Consents:
		cause.Time = time.Time{}
		err = in.answer.Parse(e.Data)
	case topics.Erasures:
		cause.Time = time.Time{}
		err = in.erasure.Parse(e.Data)
	case topics.Outcomes:
		err = in.outcome.Parse(e.Data)
	}
	return cause, err
}

// stamp tells what is asked for at different times under one id of a request from each other: the decisions that follow from
// each need ids of their own.
func stamp(e *stream.Event) string {
	sum := sha256.Sum256(append(e.Time.UTC().AppendFormat(nil, time.RFC3339Nano), e.Data...))
	return hex.EncodeToString(sum[:4])
}

// types are the CloudEvents types of the topics that are read.
var types = map[string]string{
	topics.Deviations: deviation.Type, topics.Requests: decision.RequestType, topics.Attributes: customer.Type, topics.Consents: customer.ConsentType, topics.Erasures: customer.ErasureType,
	topics.Outcomes: decision.OutcomeType, topics.Policies: decision.PolicyType, topics.Models: timing.ModelType,
}

// check holds the envelope to what stands on the topic. Policies and models concern everybody, and have no key.
func check(e *stream.Event, r *stream.Record, topic string) error {
	switch {
	case e.Type != types[topic]:
		return fmt.Errorf("type: %q is not %s", e.Type, types[topic])
	case e.Subject != string(r.Key) && topic != topics.Policies && topic != topics.Models:
		return errors.New("subject: is not the key of the record")
	case e.Time.IsZero():
		return errors.New("time: missing")
	}
	return nil
}
