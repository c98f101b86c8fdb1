package sandbox

import (
	"net/http"
	"net/url"
	"regexp"
)

// Mautic imitates the sending of an e-mail to a contact (see package mautic) for a user with the given password. It knows
// all contacts; number 404 is not to be contacted.
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
	path := mauticSend.FindStringSubmatch(r.URL.Path)
	form, err := url.ParseQuery(string(text))
	switch {
	case name != user || secret != password:
		return no(http.StatusUnauthorized, "API authorization denied.")
	case path == nil:
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
