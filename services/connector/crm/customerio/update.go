package customerio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tempismo/tempismo/services/connector/crm"
)

var _ crm.Updater = (*CustomerIO)(nil)

// ValidateUpdates names what is missing for people to be updated.
func (c Config) ValidateUpdates() error {
	if c.TransactionalID != "" {
		return errors.New("CONNECTOR_ATTRIBUTES: needs a Track API key, which Customer.io's transactional messages have not: leave it out, or send events")
	}
	return nil
}

// UpdateTraits of the batch of the Track API: one call a second beside the 80 of sends. 500 people take 250 of the 500 KB. A person who is
// unknown is made.
func (c *CustomerIO) UpdateTraits() crm.UpdateTraits {
	return crm.UpdateTraits{Rate: 1, Batch: 500, Creates: true}
}

type entity struct {
	Type        string            `json:"type"`
	Action      string            `json:"action"`
	Identifiers map[string]string `json:"identifiers"`
	Attributes  map[string]any    `json:"attributes"`
}

// Update identifies the people with their attributes.
func (c *CustomerIO) Update(ctx context.Context, contacts []crm.Contact, now time.Time) (crm.Answer, map[int]string) {
	all := make([]entity, len(contacts))
	for i := range contacts {
		e := entity{Type: "person", Action: "identify", Identifiers: map[string]string{"id": contacts[i].Customer}, Attributes: map[string]any{}}
		for _, p := range contacts[i].Properties() {
			if p.Value == nil {
				p.Value = ""
			}
			e.Attributes[p.Name] = p.Value
		}
		all[i] = e
	}
	text, err := json.Marshal(map[string]any{"batch": all})
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the call cannot be written"}, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/api/v2/batch", bytes.NewReader(text))
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "CUSTOMERIO_URL is not usable"}, nil
	}
	req.SetBasicAuth(string(c.config.SiteID), string(c.config.TrackKey))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Tempismo")
	refused := map[int]string{}
	a := crm.DoBatch(c.client, req, func(code int, header http.Header, body []byte) crm.Answer {
		a := crm.Sort(code, header, now)
		var said struct {
			Errors []struct {
				Index  *int   `json:"batch_index"`
				Reason string `json:"reason"`
				Field  string `json:"field"`
			} `json:"errors"`
		}
		err := json.Unmarshal(body, &said)
		switch {
		case code == http.StatusTooManyRequests && a.After == 0:
			a.After = 10 * time.Second
		case code == http.StatusMultiStatus:
			for _, e := range said.Errors {
				if e.Index == nil || *e.Index < 0 || *e.Index >= len(contacts) {
					err = errors.New("an error without a place")
					break
				}
				refused[*e.Index] = "Customer.io did not take the person: " + crm.Clip(e.Reason+" "+e.Field)
			}
			if err != nil || len(said.Errors) == 0 { // it cannot be told who was refused; fewer at a time say
				a = crm.Answer{Verdict: crm.Refused, Detail: fmt.Sprintf("HTTP %d, and an answer that cannot be read", code)}
			}
		}
		return a
	})
	return a, refused
}
