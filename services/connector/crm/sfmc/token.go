package sfmc

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/tempismo/tempismo/services/connector/crm"
)

// tokens keeps the access token of all calls, and has it renewed by one of them at a time.
type tokens struct {
	config   Config
	client   *http.Client
	url      string
	renewing chan struct{} // held by whoever reads or renews; a channel, so that waiting ends with the context

	token string
	until time.Time
}

// early is how long before its end a token is renewed: longer than a call may take.
const early = time.Minute

func newTokens(c Config, client *http.Client, url string) *tokens {
	return &tokens{config: c, client: client, url: url, renewing: make(chan struct{}, 1)}
}

// get returns a token, or why there is none. As nothing has been sent then, that may always be tried again.
func (t *tokens) get(ctx context.Context, now time.Time) (string, crm.Answer) {
	select {
	case t.renewing <- struct{}{}:
		defer func() { <-t.renewing }()
	case <-ctx.Done():
		return "", crm.Answer{Verdict: crm.Retry, Detail: "access token: no answer in time"}
	}
	if t.token != "" && now.Before(t.until) {
		return t.token, crm.Answer{}
	}
	t.token = ""
	text, err := json.Marshal(struct {
		Grant  string `json:"grant_type"`
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
		MID    string `json:"account_id,omitempty"`
	}{"client_credentials", string(t.config.ClientID), string(t.config.ClientSecret), t.config.AccountID})
	if err != nil {
		return "", crm.Answer{Verdict: crm.Refused, Detail: "the call for an access token cannot be written"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(text))
	if err != nil {
		return "", crm.Answer{Verdict: crm.Refused, Detail: "SFMC_URL is not usable"}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Tempismo")
	a := crm.Do(t.client, req, func(code int, header http.Header, body []byte) crm.Answer {
		a := crm.Sort(code, header, now)
		var said struct {
			Token   string `json:"access_token"`
			Expires int64  `json:"expires_in"` // seconds
		}
		switch {
		case a.Verdict == crm.Accepted:
			// One that no header can carry would fail the call itself, of which nobody could tell then that it was not sent.
			if json.Unmarshal(body, &said) != nil || said.Token == "" || strings.ContainsFunc(said.Token, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return crm.Answer{Verdict: crm.Retry, Detail: "an answer without one"}
			}
			t.token, t.until = said.Token, now.Add(time.Duration(max(0, min(said.Expires, 24*60*60)))*time.Second-early)
		case a.Verdict == crm.Refused: // 400, for one: of the client, not of the customer
			a.Verdict = crm.Denied
		case code == http.StatusTooManyRequests && a.After == 0:
			a.After = time.Minute
		}
		return a
	})
	if a.Verdict == crm.Unknown {
		a.Verdict = crm.Retry
	}
	if a.Detail != "" {
		a.Detail = "access token: " + a.Detail
	}
	return t.token, a
}

// drop forgets a token that does not work, unless somebody else has renewed it.
func (t *tokens) drop(token string) {
	t.renewing <- struct{}{}
	defer func() { <-t.renewing }()
	if t.token == token {
		t.token = ""
	}
}
