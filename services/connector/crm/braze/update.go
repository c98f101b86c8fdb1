package braze

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/tempismo/tempismo/services/connector/crm"
)

var _ crm.Updater = (*Braze)(nil)

// UpdateTraits of /users/track, whose limit is its own: a call a second is a thousandth of it.
func (b *Braze) UpdateTraits() crm.UpdateTraits { return crm.UpdateTraits{Rate: 1, Batch: 75} }

// Update writes custom attributes of those users that Braze has.
func (b *Braze) Update(ctx context.Context, contacts []crm.Contact, now time.Time) (crm.Answer, map[int]string) {
	all := make([]map[string]any, len(contacts))
	for i := range contacts {
		one := map[string]any{"external_id": contacts[i].Customer, "_update_existing_only": true}
		for _, p := range contacts[i].Properties() {
			one[p.Name] = p.Value // null takes the attribute away
		}
		all[i] = one
	}
	text, err := json.Marshal(map[string]any{"attributes": all})
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the call cannot be written"}, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/users/track", bytes.NewReader(text))
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "BRAZE_URL is not usable"}, nil
	}
	req.Header.Set("Authorization", "Bearer "+string(b.config.APIKey))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Tempismo")
	refused := map[int]string{}
	a := crm.DoBatch(b.client, req, func(code int, header http.Header, body []byte) crm.Answer {
		a := sort(code, header, body, now)
		if a.Verdict != crm.Accepted {
			return a
		}
		var said struct {
			Errors []json.RawMessage `json:"errors"`
		}
		_ = json.Unmarshal(body, &said) // the status counts
		for _, e := range said.Errors {
			var at struct {
				Type  string `json:"type"`
				Array string `json:"input_array"`
				Index *int   `json:"index"`
			}
			if json.Unmarshal(e, &at) == nil && at.Array == "attributes" && at.Index != nil && *at.Index >= 0 && *at.Index < len(contacts) {
				refused[*at.Index] = "Braze did not take the attributes: " + crm.Clip(at.Type)
			}
		}
		return a
	})
	return a, refused
}
