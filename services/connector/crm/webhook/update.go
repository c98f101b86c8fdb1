package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/tempismo/tempismo/services/connector/crm"
)

var _ crm.Updater = (*Webhook)(nil)

// UpdateType is the type of a message about contacts.
const UpdateType = "tempismo.attributes"

// UpdateTraits of a receiver that follows the specification, which advises messages of less than 20 kB: 50 contacts have 15.
func (w *Webhook) UpdateTraits() crm.UpdateTraits { return crm.UpdateTraits{Rate: 2, Batch: 50} }

// Update hands over one message about all of the contacts. Its id is made of what it says.
func (w *Webhook) Update(ctx context.Context, contacts []crm.Contact, now time.Time) (crm.Answer, map[int]string) {
	type one struct {
		Customer   string         `json:"customer"`
		Attributes map[string]any `json:"attributes"`
	}
	all := make([]one, len(contacts))
	for i := range contacts {
		all[i] = one{contacts[i].Customer, map[string]any{}}
		for _, p := range contacts[i].Properties() {
			all[i].Attributes[p.Name] = p.Value
		}
	}
	body, err := json.Marshal(struct {
		Type      string           `json:"type"`
		Timestamp time.Time        `json:"timestamp"`
		Data      map[string][]one `json:"data"`
	}{UpdateType, now.UTC().Truncate(time.Second), map[string][]one{"contacts": all}})
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the message cannot be written"}, nil
	}
	sum := sha256.Sum256(body)
	return w.post(ctx, "at-"+hex.EncodeToString(sum[:12]), body, now), nil
}
