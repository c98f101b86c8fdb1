package ingest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// webhook is the way in of a provider.
func (s *server) webhook(p *provider) endpoint {
	return endpoint{
		route: "/v1/webhooks/" + p.name, topic: topics.Events, noun: "event", provider: p,
		allow: func(h http.Header) error { return s.verdict(context.Background(), p, p.source.Early(h)) },
		read: func(r *http.Request, body []byte, traceparent string) (batch, error) {
			return s.readWebhook(p, r, body, traceparent)
		},
		answer: func(b *batch) any {
			return struct {
				Accepted    int     `json:"accepted"`
				Ignored     int     `json:"ignored"`
				Unconsented int     `json:"unconsented"`
				Dead        int     `json:"dead"`
				Erased      int     `json:"erased"`
				Refused     []wrong `json:"refused"`
			}{len(b.messages), b.ignored, b.unconsented, b.dead, b.erased, append([]wrong{}, b.wrong...)}
		},
	}
}

// verdict is what a request is answered of which a Source says err: nil where it goes on.
func (s *server) verdict(ctx context.Context, p *provider, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, webhook.ErrUnverified) {
		// Providers seldom show the answer to who set them up.
		s.log.DebugContext(ctx, "a webhook was refused", "provider", p.name, "error", err)
		return &refusal{status: http.StatusUnauthorized, detail: err.Error(), challenge: p.challenge}
	}
	s.log.WarnContext(ctx, "whether a webhook is the provider's cannot be found out now", "provider", p.name, "error", err)
	return &refusal{status: http.StatusServiceUnavailable, detail: "it cannot be found out now whether this is " + p.name + "'s; send it again later"}
}

// readWebhook verifies a request and takes it apart.
func (s *server) readWebhook(p *provider, r *http.Request, body []byte, traceparent string) (batch, error) {
	ctx, cancel := context.WithTimeout(r.Context(), s.config.Patience)
	defer cancel()
	request := &webhook.Request{Method: r.Method, URL: s.called(r), Header: r.Header, Body: body, Now: s.now()}
	var b batch
	if err := s.verdict(ctx, p, p.source.Verify(ctx, request)); err != nil {
		return b, err
	}
	if source, ok := p.source.(webhook.Handshake); ok {
		answer, shaken, err := source.Shake(ctx, request)
		if err != nil {
			return b, s.verdict(ctx, p, err)
		}
		if shaken {
			s.log.InfoContext(ctx, "a provider has asked whether this is the right place, and was answered", "provider", p.name)
			return batch{answer: answer, shaken: true}, nil
		}
	}
	return s.mapped(p, request, traceparent)
}

// mapped makes events of a verified request, and dead letters of what is none.
func (s *server) mapped(p *provider, request *webhook.Request, traceparent string) (b batch, err error) {
	elements, err := p.reader().Read(request)
	if err != nil {
		return b, &refusal{status: http.StatusBadRequest, detail: fmt.Sprintf("this is no webhook of %s: %v", p.name, err)}
	}
	s.gather(&b, p, elements, request.Header, request.Body, traceparent)
	return b, nil
}

// gather keeps in the batch what a provider tells. An element without bytes of its own came as body.
func (s *server) gather(b *batch, p *provider, elements []webhook.Element, header http.Header, body []byte, traceparent string) {
	for i := range elements {
		x := &elements[i]
		if len(x.Raw) == 0 {
			x.Raw = body
		}
		switch {
		case x.Err != nil:
			b.bury(i, p, header, x.Raw, x.Err)
		case x.Erase != nil:
			b.erased++
			for _, a := range aliases(s.keys, x.Erase.Customer) { // under whichever keys something is held
				b.erasures = append(b.erasures, s.erasure(p, x.Erase, a.id, traceparent))
			}
		case x.Event == nil:
			b.ignored++
		default:
			if err := s.add(b, x.Event, origin{x.Machine, x.Address, true}, traceparent); err != nil {
				b.bury(i, p, header, x.Raw, err)
			}
		}
	}
}

// keep appends what is in the batch. Dead letters come last: they have no ids by which somebody could tell that one was written
// twice.
func (s *server) keep(ctx context.Context, topic string, p *provider, b *batch) error {
	err := s.out.WriteAll(ctx, topic, b.messages)
	if err == nil && len(b.erasures) > 0 {
		err = s.erase(ctx, p, b)
	}
	if err == nil && len(b.letters) > 0 {
		err = s.setAside(ctx, p, b)
	}
	return err
}

// called is the URL that the provider has called. Headers of proxies are not asked, because anybody can send them.
func (s *server) called(r *http.Request) string {
	switch {
	case s.config.PublicURL != "":
		return strings.TrimRight(s.config.PublicURL, "/") + r.URL.RequestURI()
	case r.TLS != nil:
		return "https://" + r.Host + r.URL.RequestURI()
	}
	return "http://" + r.Host + r.URL.RequestURI()
}

// Headers of dead letters, named as Kafka Connect and the runtime name them. What came over HTTP has no topic, partition and offset.
const (
	letterTopic     = "__connect.errors.topic"
	letterPartition = "__connect.errors.partition"
	letterOffset    = "__connect.errors.offset"
	letterClass     = "__connect.errors.class.name"
	letterMessage   = "__connect.errors.exception.message"
	letterStage     = "__connect.errors.stage"
)

// What begins a dead letter's header that was one of the request, and a stage that was ours.
const (
	requestHeader = "http."
	stageOfOurs   = "ingest:"
)

// bury makes a dead letter of element i of a request, which cannot be mapped. The answer lists the first of them. What is about
// several recipients is several elements of the same bytes: they are one letter, which has the first reason.
func (b *batch) bury(i int, p *provider, h http.Header, raw []byte, why error) {
	if len(b.wrong) < maxWrong {
		b.refuse(i, why)
	}
	b.dead++
	if n := len(b.letters); n > 0 && same(b.letters[n-1].Value, raw) {
		return
	}
	m := stream.Message{Key: []byte(p.name), Value: raw, Headers: []stream.Header{
		{Key: letterClass, Value: fmt.Appendf(nil, "%T", why)},
		{Key: letterMessage, Value: []byte(why.Error())},
		{Key: letterStage, Value: []byte(p.stage())},
	}}
	if source, ok := p.reader().(webhook.Wanting); ok {
		for _, name := range source.Wants() {
			m.Headers = append(m.Headers, stream.Header{Key: requestHeader + name, Value: []byte(h.Get(name))})
		}
	}
	b.letters = append(b.letters, m)
}

// same reports whether two views are of the same bytes in the same place.
func same(a, b []byte) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// erasure is the record by which everything that is held of a customer is forgotten, as tempismo erase writes it. The same
// deletion, told twice, is the same record.
func (s *server) erasure(p *provider, x *webhook.Erase, id, traceparent string) stream.Message {
	data := customer.Erasure{Signals: []string{customer.SignalAll}, Before: x.Before, Reason: "the customer was erased in " + p.name}
	record := stream.Event{
		ID: "er-" + hash(p.name, id, x.Before.Format(time.RFC3339Nano)), Source: "/ingest/" + p.name, Type: customer.ErasureType, Subject: id,
		Time: s.now().UTC().Truncate(time.Millisecond), Traceparent: traceparent, Data: data.Append(nil),
	}
	return stream.Message{Key: []byte(id), Value: record.Append(nil), Headers: headers}
}

// erase writes the erasures of a request and, because everything goes, that nothing is known of these customers.
func (s *server) erase(ctx context.Context, p *provider, b *batch) error {
	if err := s.out.WriteAll(ctx, topics.Erasures, b.erasures); err != nil {
		return err
	}
	nothing := make([]stream.Message, len(b.erasures))
	for i, m := range b.erasures {
		nothing[i] = stream.Message{Key: m.Key, Headers: headers}
	}
	if err := s.out.WriteAll(ctx, topics.Attributes, nothing); err != nil {
		return err
	}
	s.log.InfoContext(ctx, "customers are to be forgotten, as a provider was told", "provider", p.name, "customers", b.erased)
	return nil
}

// setAside writes the dead letters of a request.
func (s *server) setAside(ctx context.Context, p *provider, b *batch) error {
	err := s.writeLetters(ctx, b.letters)
	if err == nil {
		s.log.WarnContext(ctx, "events of a provider could not be mapped and went to the dead letters", "provider", p.name, "events", b.dead, "letters", len(b.letters),
			"index", b.wrong[0].Index, "field", b.wrong[0].Field, "reason", b.wrong[0].Reason)
	}
	return err
}

// writeLetters writes dead letters.
func (s *server) writeLetters(ctx context.Context, letters []stream.Message) error {
	topic := topics.DeadLetter(topics.Events)
	err := s.out.WriteAll(ctx, topic, letters)
	if errors.Is(err, kafka.ErrTooLarge) {
		return s.setAsideInPart(ctx, topic, letters)
	}
	return err
}

// setAsideInPart writes dead letters of which the topic does not take one. What does not fit is cut, and says so: as much of it
// is kept as does.
func (s *server) setAsideInPart(ctx context.Context, topic string, letters []stream.Message) error {
	for i := range letters {
		m := letters[i]
		err := s.out.WriteAll(ctx, topic, []stream.Message{m})
		for errors.Is(err, kafka.ErrTooLarge) && len(m.Value) > 0 {
			m.Value = m.Value[:len(m.Value)/2]
			m.Headers = slices.Clone(letters[i].Headers)
			// The last of that name: a record may have come with one.
			for why := len(m.Headers) - 1; why >= 0; why-- {
				if m.Headers[why].Key == letterMessage {
					m.Headers[why].Value = fmt.Appendf(nil, "%s (of %d bytes %d fit this topic: raise its max.message.bytes)", m.Headers[why].Value, len(letters[i].Value), len(m.Value))
					break
				}
			}
			err = s.out.WriteAll(ctx, topic, []stream.Message{m})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// shake answers a handshake.
func shake(w http.ResponseWriter, answer []byte) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(answer) // the client is gone; there is nobody left to tell
}
