package ingest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Pseudonyms are the ids by which the topics may know the customer whom senders call id: one for each key of PSEUDONYM_KEY, in their
// order; without a key the id itself. Each is the first half of an HMAC-SHA256 (RFC 2104) of the id, in 32 hexadecimal digits.
func Pseudonyms(keys config.Secret, id string) []string {
	var all []string
	for _, a := range aliases(pseudonymKeys(keys), id) {
		all = append(all, a.id)
	}
	return all
}

// alias is an id by which the topics may know a customer.
type alias struct {
	id  string
	key string // that it was made with; empty: it is the sender's own
}

func aliases(keys []string, id string) []alias {
	if len(keys) == 0 {
		return []alias{{id, ""}}
	}
	all := make([]alias, len(keys))
	for i, key := range keys {
		all[i] = alias{keyed(key, id), key}
	}
	return all
}

func keyed(key, text string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// event is the id of an event about the customer that its provider calls so. Where providers give none it is a hash of what they
// say, the address included: everything else of which stands on the topic, so that addresses could be tried out.
func (a alias) event(id string) string {
	if a.key == "" {
		return id
	}
	return keyed(a.key, "event "+id)
}

// ValidatePseudonyms names what is wrong with PSEUDONYM_KEY.
func ValidatePseudonyms(keys config.Secret) error {
	var problems []error
	all := pseudonymKeys(keys)
	for i, key := range all {
		switch {
		case len(key) < minToken:
			problems = append(problems, fmt.Errorf("PSEUDONYM_KEY: key %d has fewer than %d characters: use a long random one", i+1, minToken))
		case slices.Contains(all[:i], key):
			problems = append(problems, fmt.Errorf("PSEUDONYM_KEY: key %d stands there already", i+1))
		}
	}
	if len(all) == 0 && keys != "" { // a comma alone must not have ids written as they are
		problems = append(problems, errors.New("PSEUDONYM_KEY: has no key"))
	}
	return errors.Join(problems...)
}

// pseudonymKeys takes PSEUDONYM_KEY apart: keys separated by commas or, as in a file, by lines.
func pseudonymKeys(keys config.Secret) []string {
	all := strings.FieldsFunc(string(keys), func(r rune) bool { return r == ',' || r == '\n' || r == '\r' })
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// doubt is a message of which it is to be found out under which key its customer is known.
type doubt struct {
	at    int     // place of it in messages
	under []alias // the newest key's first
	as    func(alias) stream.Message
}

// put adds a message of the customer whom its sender calls who, made by as for whatever id the topics know him by. Before settle it is
// the newest key's.
func (s *server) put(b *batch, who string, as func(alias) stream.Message) {
	under := aliases(s.keys, who)
	if len(under) > 1 {
		b.doubts = append(b.doubts, doubt{len(b.messages), under, as})
	}
	b.messages = append(b.messages, as(under[0]))
}

// drop takes the message back that was put last.
func (b *batch) drop() {
	b.messages = b.messages[:len(b.messages)-1]
	if n := len(b.doubts); n > 0 && b.doubts[n-1].at == len(b.messages) {
		b.doubts = b.doubts[:n-1]
	}
}

// settle gives each customer of the batch the id by which the profiler has known him: while keys are exchanged, those who came before
// keep the pseudonym under the key of before, and with it their profile, what they have answered, and what the CRM calls them. The error is
// a *refusal.
func (s *server) settle(ctx context.Context, b *batch) error {
	if len(b.doubts) == 0 {
		return nil
	}
	var ids []string
	for i := range b.doubts {
		for _, a := range b.doubts[i].under {
			ids = append(ids, a.id)
		}
	}
	known, err := s.held(ctx, ids)
	if err != nil {
		return err
	}
	for i := range b.doubts {
		d := &b.doubts[i]
		place := place(d.under, known)
		s.pseudonyms.Add(ctx, 1, metric.WithAttributeSet(attribute.NewSet(attribute.String("key", strconv.Itoa(place+1)))))
		if place > 0 {
			b.messages[d.at] = d.as(d.under[place])
		}
	}
	b.doubts = nil
	return nil
}

// place is that of the first pseudonym that is known; of somebody new, that of the newest.
func place(under []alias, known map[string][]byte) int {
	return max(0, slices.IndexFunc(under, func(a alias) bool { return known[a.id] != nil }))
}

// held returns the states of those whom the profiler knows. The error is a *refusal.
func (s *server) held(ctx context.Context, ids []string) (map[string][]byte, error) {
	states, lost, err := s.register.states(ctx, ids)
	if err == nil && lost {
		err = errUnanswered
	}
	if s.asked(ctx, err) != nil {
		return nil, &refusal{status: http.StatusServiceUnavailable, detail: "under which key of PSEUDONYM_KEY the customers are known cannot be looked up now; nothing of this was taken, send it again later"}
	}
	return states, nil
}

// customer is the id by which the topics know the customer whom senders call who. The error is a *refusal.
func (s *server) customer(ctx context.Context, who string) (string, error) {
	under := aliases(s.keys, who)
	if len(under) == 1 {
		return under[0].id, nil
	}
	ids := make([]string, len(under))
	for i, a := range under {
		ids[i] = a.id
	}
	known, err := s.held(ctx, ids)
	if err != nil {
		return "", err
	}
	return under[place(under, known)].id, nil
}
