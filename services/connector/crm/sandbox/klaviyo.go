package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Klaviyo imitates Klaviyo's Create Event and its bulk import of profiles (see package klaviyo) for an account with the given private key.
func Klaviyo(key string) *Fake {
	return &Fake{
		name: "klaviyo", seen: map[string]bool{}, wait: retryAfter,
		limit: []window{
			{path: "/api/events", most: 350, per: time.Second}, {path: "/api/events", most: 3500, per: time.Minute},
			{path: klaviyoImport, most: 10, per: time.Second}, {path: klaviyoImport, most: 150, per: time.Minute},
		},
		answer: func(f *Fake, r *http.Request, body []byte) reply { return klaviyo(f, key, r, body) },
	}
}

const klaviyoImport = "/api/profile-bulk-import-jobs"

func klaviyo(f *Fake, key string, r *http.Request, text []byte) reply {
	no := func(status int, code, pointer string) reply {
		return reply{status, map[string]any{"errors": []any{map[string]any{
			"id": "00000000-0000-0000-0000-000000000000", "status": status, "code": code, "title": code, "detail": code,
			"source": map[string]string{"pointer": pointer},
		}}}}
	}
	switch {
	case r.URL.Path != "/api/events" && r.URL.Path != klaviyoImport:
		return no(http.StatusNotFound, "not_found", "")
	case r.Method != http.MethodPost:
		return no(http.StatusMethodNotAllowed, "method_not_allowed", "")
	case r.Header.Get("Authorization") != "Klaviyo-API-Key "+key:
		return no(http.StatusUnauthorized, "not_authenticated", "")
	case r.Header.Get("Content-Type") != "application/vnd.api+json":
		return no(http.StatusUnsupportedMediaType, "unsupported_media_type", "")
	}
	if _, err := time.Parse(time.DateOnly, r.Header.Get("Revision")); err != nil {
		return no(http.StatusBadRequest, "invalid_revision", "")
	}
	if r.URL.Path == klaviyoImport {
		return importJob(f, text, no)
	}
	var in struct {
		Data struct {
			Type       string
			Attributes struct {
				Properties map[string]any
				Time       time.Time
				UniqueID   string `json:"unique_id"`
				Backfill   bool
				Metric     struct {
					Data struct {
						Type       string
						Attributes struct{ Name string }
					}
				}
				Profile struct {
					Data struct {
						Type, ID   string
						Attributes *struct {
							Email      string
							Phone      string `json:"phone_number"`
							ExternalID string `json:"external_id"`
						}
					}
				}
			}
		}
	}
	if json.Unmarshal(text, &in) != nil {
		return no(http.StatusBadRequest, "invalid", "/data")
	}
	e, now := in.Data.Attributes, f.now()
	m, p := e.Metric.Data, e.Profile.Data
	const at = "/data/attributes/"
	switch {
	case in.Data.Type != "event":
		return no(http.StatusBadRequest, "invalid", "/data/type")
	case e.Properties == nil || len(e.Properties) > 400:
		return no(http.StatusBadRequest, "invalid", at+"properties")
	case m.Type != "metric" || m.Attributes.Name == "" || len(m.Attributes.Name) >= 128:
		return no(http.StatusBadRequest, "invalid", at+"metric/data/attributes/name")
	case p.Type != "profile" || p.Attributes == nil:
		return no(http.StatusBadRequest, "invalid", at+"profile/data")
	case p.ID == "" && p.Attributes.Email == "" && p.Attributes.Phone == "" && p.Attributes.ExternalID == "":
		return no(http.StatusBadRequest, "missing_identifier", at+"profile/data")
	case p.Attributes.Email != "" && !strings.Contains(p.Attributes.Email, "@"):
		return no(http.StatusBadRequest, "invalid", at+"profile/data/attributes/email")
	case !e.Time.IsZero() && (e.Time.Year() < 1990 || e.Time.After(now.AddDate(1, 0, 0))):
		return no(http.StatusBadRequest, "invalid", at+"time")
	}
	if e.UniqueID == "" { // "this will use the time to the second"
		if e.Time.IsZero() {
			e.Time = now
		}
		e.UniqueID = e.Time.Truncate(time.Second).Format(time.RFC3339)
	}
	if who := p.ID + p.Attributes.Email + p.Attributes.Phone + p.Attributes.ExternalID; !e.Backfill { // backfill triggers no flow
		f.take(who+"\x00"+m.Attributes.Name+"\x00"+e.UniqueID, e.UniqueID, who)
	}
	return reply{code: http.StatusAccepted}
}

// importJob takes a job and does its work at once. It makes profiles that it does not know.
func importJob(f *Fake, text []byte, no func(status int, code, pointer string) reply) reply {
	var in struct {
		Data struct {
			Type       string
			Attributes struct {
				Profiles struct {
					Data []struct {
						Type, ID   string
						Attributes struct {
							Email      string
							ExternalID string `json:"external_id"`
							Properties map[string]any
						}
					}
				}
			}
		}
	}
	if json.Unmarshal(text, &in) != nil || in.Data.Type != "profile-bulk-import-job" {
		return no(http.StatusBadRequest, "invalid", "/data/type")
	}
	all := in.Data.Attributes.Profiles.Data
	if len(all) == 0 || len(all) > 10_000 || len(text) > 5_000_000 {
		return no(http.StatusBadRequest, "invalid", "/data/attributes/profiles/data")
	}
	for i, p := range all {
		at := fmt.Sprintf("/data/attributes/profiles/data/%d", i)
		switch a := p.Attributes; {
		case p.Type != "profile", p.ID == "" && a.Email == "" && a.ExternalID == "":
			return no(http.StatusBadRequest, "missing_identifier", at)
		case a.Email != "" && !strings.Contains(a.Email, "@"):
			return no(http.StatusBadRequest, "invalid", at+"/attributes/email")
		}
	}
	f.batch(len(all))
	for _, p := range all {
		for name, v := range p.Attributes.Properties {
			if v == nil {
				delete(p.Attributes.Properties, name) // null leaves what stands there
			}
		}
		f.update(p.ID+p.Attributes.Email+p.Attributes.ExternalID, p.Attributes.Properties)
	}
	calls, _ := f.Calls()
	return reply{http.StatusAccepted, map[string]any{"data": map[string]any{"type": "profile-bulk-import-job", "id": fmt.Sprintf("job-%d", calls), "attributes": map[string]any{"status": "queued", "total_count": len(all)}}}}
}
