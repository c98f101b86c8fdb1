package sandbox

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
)

// Mautic imitates the sending of an e-mail to a contact and the editing of contacts (see package mautic) for a user with the given
// password. Contact 404 is not to be contacted.
func Mautic(user, password string) *Fake {
	return &Fake{name: "mautic", answer: func(f *Fake, r *http.Request, body []byte) reply { return mautic(f, user, password, r, body) }}
}

// mauticSend is the path of a send.
var mauticSend = regexp.MustCompile(`^/api/emails/[1-9][0-9]*/contact/([1-9][0-9]*)/send$`)

func mautic(f *Fake, user, password string, r *http.Request, text []byte) reply {
	no := func(status int, message string) reply {
		return reply{status, map[string]any{"errors": []any{map[string]any{"code": status, "message": message, "details": []any{}}}}}
	}
	name, secret, _ := r.BasicAuth()
	edit := r.URL.Path == "/api/contacts/batch/edit"
	path := mauticSend.FindStringSubmatch(r.URL.Path)
	form, err := url.ParseQuery(string(text))
	switch {
	case name != user || secret != password:
		return no(http.StatusUnauthorized, "API authorization denied.")
	case edit && r.Method == http.MethodPatch:
		return edited(f, text, no)
	case path == nil && !edit:
		return no(http.StatusNotFound, "Item was not found.")
	case r.Method != http.MethodPost:
		return no(http.StatusMethodNotAllowed, "Method not allowed")
	case err != nil || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded":
		return no(http.StatusBadRequest, "malformed")
	case path[1] == "404":
		return reply{http.StatusOK, map[string]any{"success": false, "failed": []any{}}}
	}
	f.take("", form.Get("tokens[{tempismo_decision}]"), path[1])
	return reply{http.StatusOK, map[string]any{"success": true}}
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
