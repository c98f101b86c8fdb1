package hubspot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tempismo/tempismo/services/connector/crm"
)

var _ crm.Updater = (*HubSpot)(nil)

// UpdateTraits of the batch endpoints: two calls for an update, every two seconds, are what 8 sends a second leave of 100 calls in 10.
func (h *HubSpot) UpdateTraits() crm.UpdateTraits { return crm.UpdateTraits{Rate: 0.5, Batch: 100} }

type inputs struct {
	Properties []string `json:"properties,omitempty"`
	IDProperty string   `json:"idProperty,omitempty"`
	Inputs     []input  `json:"inputs"`
}

type input struct {
	ID         string            `json:"id"`
	Properties map[string]string `json:"properties,omitempty"`
}

// records are what HubSpot found, or wrote.
type records struct {
	Results []struct {
		ID         string             `json:"id"`
		Properties map[string]*string `json:"properties"`
	} `json:"results"`
}

// Update writes the properties of those contacts that HubSpot has. A batch is written by HubSpot's own ids, so those are asked for
// first where the customer ids are others.
func (h *HubSpot) Update(ctx context.Context, contacts []crm.Contact, now time.Time) (crm.Answer, map[int]string) {
	ids := make([]string, len(contacts)) // HubSpot's
	for i := range contacts {
		ids[i] = contacts[i].Customer
	}
	if h.config.IDProperty != "hs_object_id" {
		a, found := h.find(ctx, contacts, now)
		if a.Verdict != crm.Accepted {
			return a, nil
		}
		ids = found
	}
	refused, at := map[int]string{}, map[string]int{}
	var write inputs
	for i, id := range ids {
		other, taken := at[id]
		switch {
		case id == "":
			refused[i] = "HubSpot does not know the contact"
			continue
		case taken:
			refused[i] = fmt.Sprintf("HubSpot has one contact for it and for the one at %d of the batch", other)
			continue
		}
		at[id] = i
		properties := map[string]string{}
		for _, p := range contacts[i].Properties() {
			properties[p.Name] = ""
			if p.Value != nil {
				properties[p.Name] = fmt.Sprint(p.Value)
			}
		}
		write.Inputs = append(write.Inputs, input{id, properties})
	}
	if len(write.Inputs) == 0 {
		return crm.Answer{Verdict: crm.Accepted}, refused
	}
	a, written := h.batch(ctx, "update", write, now)
	if a.Verdict != crm.Accepted {
		return a, nil
	}
	for _, r := range written.Results {
		delete(at, r.ID)
	}
	for _, i := range at {
		refused[i] = "HubSpot did not write the contact"
	}
	return a, refused
}

// find asks for HubSpot's ids of contacts; an empty one is that of none.
func (h *HubSpot) find(ctx context.Context, contacts []crm.Contact, now time.Time) (crm.Answer, []string) {
	by := h.config.IDProperty
	read := inputs{Properties: []string{by}, IDProperty: by}
	for i := range contacts {
		read.Inputs = append(read.Inputs, input{ID: contacts[i].Customer})
	}
	a, found := h.batch(ctx, "read", read, now)
	if a.Verdict != crm.Accepted {
		return a, nil
	}
	known := map[string]string{}
	for _, r := range found.Results {
		if v := r.Properties[by]; v != nil {
			known[strings.ToLower(*v)] = r.ID
		}
	}
	ids := make([]string, len(contacts))
	for i := range contacts {
		ids[i] = known[strings.ToLower(contacts[i].Customer)]
	}
	return a, ids
}

// batch makes one call.
func (h *HubSpot) batch(ctx context.Context, what string, in inputs, now time.Time) (crm.Answer, records) {
	var said records
	text, err := json.Marshal(in)
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the call cannot be written"}, said
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+"/crm/v3/objects/contacts/batch/"+what, bytes.NewReader(text))
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "HUBSPOT_URL is not usable"}, said
	}
	req.Header.Set("Authorization", "Bearer "+string(h.config.Token))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Tempismo")
	a := crm.DoBatch(h.client, req, func(code int, header http.Header, body []byte) crm.Answer {
		a := h.sort(code, header, body, now)
		switch {
		case code == http.StatusNotFound: // of the endpoint: what is missing of contacts is no error of the call
			a.Verdict = crm.Denied
		case a.Verdict == crm.Refused && bytes.Contains(body, []byte("PROPERTY_DOESNT_EXIST")):
			a.Verdict, a.Detail = crm.Denied, a.Detail+": a property does not exist"
		case code >= 200 && code < 300:
			a = crm.Answer{Verdict: crm.Accepted}
			if json.Unmarshal(body, &said) != nil {
				// It cannot be told who was written. Fewer at a time may fit.
				a = crm.Answer{Verdict: crm.Refused, Detail: fmt.Sprintf("HTTP %d, and an answer that cannot be read", code)}
			}
		}
		return a
	})
	return a, said
}
