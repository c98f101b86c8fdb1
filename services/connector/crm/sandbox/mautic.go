package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"sync"
)

// Mautic imitates the sending of an e-mail to a contact and the editing of contacts (see package mautic) for a user with the given
// password. Contact 404 is not to be contacted.
func Mautic(user, password string) *Fake {
	m := &mautic{user: user, password: password}
	return &Fake{name: "mautic", answer: m.answer}
}

// mauticSend is the path of a send.
var mauticSend = regexp.MustCompile(`^/api/emails/([1-9][0-9]*)/contact/([1-9][0-9]*)/send$`)

type mautic struct {
	user, password string

	mu    sync.Mutex
	stats []stat
}

// stat is a row of email_stats.
type stat struct {
	Contact string `json:"lead_id"`
	Email   string `json:"email_id"`
	Failed  string `json:"is_failed"`
	Tokens  string `json:"tokens"` // as PHP writes them
}

func (m *mautic) answer(f *Fake, r *http.Request, text []byte) reply {
	no := func(status int, message string) reply {
		return reply{status, map[string]any{"errors": []any{map[string]any{"code": status, "message": message, "details": []any{}}}}}
	}
	name, secret, _ := r.BasicAuth()
	edit := r.URL.Path == "/api/contacts/batch/edit"
	path := mauticSend.FindStringSubmatch(r.URL.Path)
	form, err := url.ParseQuery(string(text))
	switch {
	case name != m.user || secret != m.password:
		return no(http.StatusUnauthorized, "API authorization denied.")
	case r.URL.Path == "/api/stats/email_stats" && r.Method == http.MethodGet:
		return m.sent(r.URL.Query())
	case edit && r.Method == http.MethodPatch:
		return edited(f, text, no)
	case path == nil && !edit:
		return no(http.StatusNotFound, "Item was not found.")
	case r.Method != http.MethodPost:
		return no(http.StatusMethodNotAllowed, "Method not allowed")
	case err != nil || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded":
		return no(http.StatusBadRequest, "malformed")
	case path[2] == "404":
		return reply{http.StatusOK, map[string]any{"success": false, "failed": []any{}}}
	}
	decision := form.Get("tokens[{tempismo_decision}]")
	f.take("", decision, path[2])
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats = append(m.stats, stat{path[2], path[1], "0", fmt.Sprintf(`a:1:{s:19:"{tempismo_decision}";s:%d:"%s";}`, len(decision), decision)})
	return reply{http.StatusOK, map[string]any{"success": true}}
}

// sent shows the rows of a contact and an e-mail, the last one first.
func (m *mautic) sent(query url.Values) reply {
	m.mu.Lock()
	defer m.mu.Unlock()
	by := map[string]string{}
	for _, at := range [...]string{"where[0]", "where[1]"} {
		if query.Get(at+"[expr]") == "eq" {
			by[query.Get(at+"[col]")] = query.Get(at + "[val]")
		}
	}
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil {
		limit = 30
	}
	rows := []stat{}
	for _, s := range slices.Backward(m.stats) {
		if s.Contact == by["lead_id"] && s.Email == by["email_id"] && len(rows) < limit {
			rows = append(rows, s)
		}
	}
	return reply{http.StatusOK, map[string]any{"total": len(rows), "stats": rows}}
}

// edited edits contacts. It answers as PHP does: what is numbered from 0 on without a gap is a list.
func edited(f *Fake, text []byte, no func(status int, message string) reply) reply {
	var in []map[string]any
	switch {
	case json.Unmarshal(text, &in) != nil:
		return no(http.StatusBadRequest, "malformed")
	case len(in) > 200:
		return no(http.StatusInternalServerError, "Too many")
	}
	f.batch(len(in))
	contacts, codes, errors := map[int]any{}, map[int]any{}, map[int]any{}
	for i, c := range in {
		id, _ := c["id"].(float64)
		blank, _ := c["overwriteWithBlank"].(bool)
		delete(c, "id")
		delete(c, "overwriteWithBlank")
		who := strconv.FormatInt(int64(id), 10)
		if id <= 0 || f.unknown(who) {
			codes[i], errors[i] = http.StatusNotFound, map[string]any{"message": "Item was not found.", "code": http.StatusNotFound, "type": nil}
			continue
		}
		for name, v := range c {
			if v == "" && !blank {
				delete(c, name)
			}
		}
		f.update(who, c)
		codes[i], contacts[i] = http.StatusOK, map[string]any{"id": id, "fields": c}
	}
	answer := map[string]any{"contacts": php(contacts), "statusCodes": php(codes)}
	if len(errors) > 0 {
		answer["errors"] = php(errors)
	}
	return reply{http.StatusOK, answer}
}

// php is what PHP makes of an array.
func php(array map[int]any) any {
	list := []any{}
	for i := range len(array) {
		v, ok := array[i]
		if !ok {
			return array
		}
		list = append(list, v)
	}
	return list
}
