package klaviyo

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/tempismo/tempismo/services/connector/crm"
)

var _ crm.Updater = (*Klaviyo)(nil)

// UpdateTraits of the bulk import: a job every two seconds is a fifth of 150 a minute. A profile that is unknown is made.
func (k *Klaviyo) UpdateTraits() crm.UpdateTraits {
	return crm.UpdateTraits{Rate: 0.5, Batch: 1000, Creates: true}
}

type (
	job struct {
		Data resource[imported] `json:"data"`
	}
	imported struct {
		Profiles profiles `json:"profiles"`
	}
	profiles struct {
		Data []resource[known] `json:"data"`
	}
	known struct {
		profile
		Properties map[string]any `json:"properties"`
	}
)

// Update has a job made of the contacts.
func (k *Klaviyo) Update(ctx context.Context, contacts []crm.Contact, now time.Time) (crm.Answer, map[int]string) {
	refused := map[int]string{}
	var all []resource[known]
	for i := range contacts {
		c := &contacts[i]
		if k.config.Profile == "email" && !strings.Contains(c.Customer, "@") {
			refused[i] = "the customer id is no e-mail address, which KLAVIYO_PROFILE says it is" // the job would be refused
			continue
		}
		to := k.who(c.Customer)
		one := resource[known]{Type: to.Type, ID: to.ID, Attributes: known{to.Attributes, map[string]any{}}}
		for _, p := range c.Properties() {
			if p.Value == nil {
				p.Value = "" // null would leave what stands there
			}
			one.Attributes.Properties[p.Name] = p.Value
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return crm.Answer{Verdict: crm.Accepted}, refused
	}
	text, err := json.Marshal(job{resource[imported]{Type: "profile-bulk-import-job", Attributes: imported{profiles{all}}}})
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the job cannot be written"}, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.url+"/api/profile-bulk-import-jobs", bytes.NewReader(text))
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "KLAVIYO_URL is not usable"}, nil
	}
	a := k.call(req, now)
	if a.Verdict != crm.Accepted {
		return a, nil
	}
	return a, refused
}
