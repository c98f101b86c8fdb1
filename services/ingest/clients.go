package ingest

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// client is one that may call the API. Tokens of the same name are one client's, so that they can be exchanged without a gap.
type client struct {
	name  string
	token [sha256.Size]byte // hashed, so that comparing takes the same time whatever the lengths
}

// clientName keeps what metrics tell apart short, and out of the way of tokens.
var clientName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// unnamed is who has a token without a name.
const unnamed = "unnamed"

// clients takes API_TOKENS apart: NAME:TOKEN, or TOKEN alone, separated by commas or, as in a file, by lines. Bearer tokens have no
// colon (RFC 6750, section 2.1). The error names all that is wrong, and says no token.
func (c Config) clients() ([]client, error) {
	var all []client
	var problems []error
	for i, item := range strings.FieldsFunc(string(c.Tokens), func(r rune) bool { return r == ',' || r == '\n' }) {
		name, token, named := strings.Cut(strings.TrimSpace(item), ":")
		if !named {
			name, token = unnamed, name
		}
		switch token = strings.TrimSpace(token); {
		case !clientName.MatchString(name):
			problems = append(problems, fmt.Errorf("API_TOKENS: token %d has a name that is none: give up to 32 small letters, digits, _ and -", i+1))
		case len(token) < minToken:
			problems = append(problems, fmt.Errorf("API_TOKENS: token %d has fewer than %d characters: use long random ones", i+1, minToken))
		}
		all = append(all, client{name, sha256.Sum256([]byte(token))})
	}
	if len(all) == 0 && c.Tokens != "" { // a comma alone must not open the API
		problems = append(problems, errors.New("API_TOKENS: has no token"))
	}
	return all, errors.Join(problems...)
}

// client names who has sent a request by its bearer token (RFC 6750); empty where that is nobody who may, or where everybody may.
func (s *server) client(h http.Header) string {
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	got, name := sha256.Sum256([]byte(strings.TrimSpace(token))), ""
	for i := range s.clients { // all of them, whichever it is
		if subtle.ConstantTimeCompare(got[:], s.clients[i].token[:]) == 1 {
			name = s.clients[i].name
		}
	}
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return name
}

// authorized asks for the token of a client, if there are any.
func (s *server) authorized(h http.Header) error {
	if len(s.clients) > 0 && s.client(h) == "" {
		return &refusal{status: http.StatusUnauthorized, detail: "the Authorization header must carry a valid bearer token"}
	}
	return nil
}

// known names the clients, once each.
func (s *server) known() []string {
	var names []string
	seen := map[string]bool{}
	for _, c := range s.clients {
		if !seen[c.name] {
			names, seen[c.name] = append(names, c.name), true
		}
	}
	return names
}
