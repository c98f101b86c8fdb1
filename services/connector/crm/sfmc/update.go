package sfmc

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/tempismo/tempismo/services/connector/crm"
)

var _ crm.Updater = (*SFMC)(nil)

// ValidateUpdates names what is missing for contacts to be written.
func (c Config) ValidateUpdates() error {
	var err error
	if c.DataExtension == "" {
		err = errors.New("SFMC_DATA_EXTENSION: must be set for CONNECTOR_ATTRIBUTES; it is the external key of the data extension that is written to")
	}
	if c.KeyColumn == "" {
		err = errors.Join(err, errors.New("SFMC_KEY_COLUMN: must not be empty; it is the primary key of the data extension"))
	}
	return err
}

// UpdateTraits of the upsert of rows: 50 at a time are what Salesforce advises. A row that is unknown is made.
func (m *SFMC) UpdateTraits() crm.UpdateTraits {
	return crm.UpdateTraits{Rate: 1, Batch: 50, Creates: true}
}

type row struct {
	Keys   map[string]string `json:"keys"`
	Values map[string]any    `json:"values"`
}

// Update writes the rows of contacts.
func (m *SFMC) Update(ctx context.Context, contacts []crm.Contact, now time.Time) (crm.Answer, map[int]string) {
	rows := make([]row, len(contacts))
	for i := range contacts {
		rows[i] = row{map[string]string{m.config.KeyColumn: contacts[i].Customer}, map[string]any{}}
		for _, p := range contacts[i].Properties() {
			if p.Value == nil {
				p.Value = ""
			}
			rows[i].Values[p.Name] = p.Value
		}
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the call cannot be written"}, nil
	}
	return m.call(ctx, m.url+"/hub/v1/dataevents/key:"+url.PathEscape(m.config.DataExtension)+"/rowset", text, now, func(code int, header http.Header, body []byte) crm.Answer {
		if code >= 200 && code < 300 { // with the rows, whose columns may be called as they like
			return crm.Answer{Verdict: crm.Accepted}
		}
		return sort(code, header, body, now)
	}), nil
}
