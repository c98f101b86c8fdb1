package mautic

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tempismo/tempismo/services/connector/crm"
)

var _ crm.Updater = (*Mautic)(nil)

// UpdateTraits of the batch edit, which takes 200 contacts and works while it answers: 20 every two seconds spare a small server.
func (m *Mautic) UpdateTraits() crm.UpdateTraits { return crm.UpdateTraits{Rate: 0.5, Batch: 20} }

// Update edits the contacts' fields.
func (m *Mautic) Update(ctx context.Context, contacts []crm.Contact, now time.Time) (crm.Answer, map[int]string) {
	refused := map[int]string{}
	var all []map[string]any
	var places []int // in contacts
	for i := range contacts {
		id, err := strconv.ParseInt(contacts[i].Customer, 10, 64)
		if err != nil || id <= 0 {
			refused[i] = "the customer id is no number of a contact"
			continue
		}
		one := map[string]any{"id": id, "overwriteWithBlank": true}
		for _, p := range contacts[i].Properties() {
			if p.Value == nil {
				p.Value = ""
			}
			one[p.Name] = p.Value
		}
		all, places = append(all, one), append(places, i)
	}
	if len(all) == 0 {
		return crm.Answer{Verdict: crm.Accepted}, refused
	}
	text, err := json.Marshal(all)
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the call cannot be written"}, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, m.url+"/api/contacts/batch/edit", bytes.NewReader(text))
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "MAUTIC_URL is not usable"}, nil
	}
	req.SetBasicAuth(m.config.User, string(m.config.Password))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "Tempismo")
	a := crm.DoBatch(m.client, req, func(code int, header http.Header, body []byte) crm.Answer {
		a := crm.Sort(code, header, now)
		switch {
		case code == http.StatusTooManyRequests && a.After == 0:
			a.After = 10 * time.Second
		case a.Verdict == crm.Accepted:
			wrong, ok := failures(body)
			if !ok { // a page, or half an answer; fewer at a time may fit
				return crm.Answer{Verdict: crm.Refused, Detail: fmt.Sprintf("HTTP %d, and an answer that cannot be read", code)}
			}
			for at, status := range wrong {
				if at < len(places) {
					refused[places[at]] = fmt.Sprintf("Mautic did not edit the contact: %d", status)
				}
			}
		}
		return a
	})
	if a.Verdict != crm.Accepted {
		return a, nil
	}
	return a, refused
}

// failures are the statuses of those elements of a batch that were not edited. PHP writes what is numbered from 0 on as a list, and as
// an object otherwise.
func failures(body []byte) (wrong map[int]int, ok bool) {
	var said struct {
		Contacts json.RawMessage `json:"contacts"`
		Codes    json.RawMessage `json:"statusCodes"`
		Errors   json.RawMessage `json:"errors"`
	}
	if json.Unmarshal(body, &said) != nil || said.Contacts == nil {
		return nil, false
	}
	wrong = map[int]int{}
	for at, text := range elements(said.Codes) {
		var status int
		if json.Unmarshal(text, &status) == nil && status >= 400 {
			wrong[at] = status
		}
	}
	for at, text := range elements(said.Errors) {
		var e struct {
			Code int `json:"code"`
		}
		if string(text) != "null" && json.Unmarshal(text, &e) == nil {
			wrong[at] = e.Code
		}
	}
	return wrong, true
}

func elements(text json.RawMessage) map[int]json.RawMessage {
	all := map[int]json.RawMessage{}
	var list []json.RawMessage
	if json.Unmarshal(text, &list) == nil {
		for i, e := range list {
			all[i] = e
		}
		return all
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) == nil {
		for name, e := range object {
			if i, err := strconv.Atoi(name); err == nil && i >= 0 {
				all[i] = e
			}
		}
	}
	return all
}
