package ingest

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/telemetry"
)

func TestTokensOfClients(t *testing.T) {
	const long, longer = "a-token-that-nobody-guesses", "another-token-that-nobody-guesses"
	for _, tt := range []struct {
		sentence string
		tokens   config.Secret
		want     string // names, in order
		wrong    []string
	}{
		{"none", "", "", nil},
		{"one without a name", long, "unnamed", nil},
		{"several without names", long + ", " + longer, "unnamed unnamed", nil},
		{"of clients", "crm:" + long + ",web-shop:" + longer, "crm web-shop", nil},
		{"of a client that exchanges its own", "crm:" + long + ",crm:" + longer, "crm crm", nil},
		{"a name and none", "crm:" + long + "," + longer, "crm unnamed", nil},
		{"in lines, as of a file", "crm:" + long + "\n" + longer + "\r\n", "crm unnamed", nil},
		{"too short", "crm:short," + long + ",tiny", "", []string{"token 1 has fewer", "token 3 has fewer"}},
		{"a name that is none", "The CRM:" + long, "", []string{"token 1 has a name that is none"}},
		{"no name before the colon", ":" + long, "", []string{"token 1 has a name that is none"}},
		{"a name alone", "crm:", "", []string{"token 1 has fewer"}},
		{"a comma, which opens nothing", ",", "", []string{"has no token"}},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			all, err := Config{Tokens: tt.tokens}.clients()
			if (err != nil) != (tt.wrong != nil) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.wrong {
				if !strings.Contains(err.Error(), "API_TOKENS: "+want) {
					t.Errorf("%q is not in %v", want, err)
				}
			}
			if err != nil {
				if strings.Contains(err.Error(), long) || strings.Contains(err.Error(), "short,") || strings.Contains(err.Error(), "The CRM") {
					t.Errorf("the error tells what is secret: %v", err)
				}
				return
			}
			var names []string
			for _, c := range all {
				names = append(names, c.name)
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Who has sent something is told by the token's name; a token that was taken away opens nothing, and its name is not asked for.
func TestClientsAreToldApart(t *testing.T) {
	set := app.Settings{}.WithDefaults()
	var err error
	if set.Telemetry, err = telemetry.New(t.Context(), telemetry.Config{}, "ingest", "test"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = set.Telemetry.Shutdown(context.Background()) }()
	r := newRig(t, Config{Tokens: "crm:first-token-of-the-crm,crm:second-token-of-the-crm,web:first-token-of-the-web,plain-token-of-somebody"})
	if r.server, err = newServer(r.server.config, r.out, r.store, partitions, set, func() time.Time { return clock }); err != nil {
		t.Fatal(err)
	}
	r.handler = r.server.handler()
	for i, tt := range []struct {
		authorization string
		want          int
	}{
		{"Bearer first-token-of-the-crm", 202},
		{"bearer second-token-of-the-crm", 202},
		{"Bearer first-token-of-the-web", 202},
		{"Bearer plain-token-of-somebody", 202},
		{"Bearer crm:first-token-of-the-crm", 401},
		{"Bearer third-token-of-the-crm", 401},
		{"Bearer crm", 401},
		{"Bearer unnamed", 401},
		{"Bearer ", 401},
		{"Basic first-token-of-the-crm", 401},
		{"", 401},
	} {
		response := r.send("/v1/events", map[string]string{"Content-Type": structured["Content-Type"], "Authorization": tt.authorization}, event(string(rune('a'+i)), "C-1"))
		if response.StatusCode != tt.want {
			t.Errorf("%q: status %d, want %d", tt.authorization, response.StatusCode, tt.want)
		}
	}
	recorder := httptest.NewRecorder()
	set.Telemetry.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	got := map[string]string{}
	for line := range strings.Lines(recorder.Body.String()) {
		if _, rest, ok := strings.Cut(line, `client="`); ok && strings.HasPrefix(line, "tempismo_ingest_events_total{") && strings.Contains(line, `outcome="accepted"`) {
			name, _, _ := strings.Cut(rest, `"`)
			got[name] = strings.TrimSpace(line[strings.LastIndex(line, " "):])
		}
		if strings.Contains(line, "token-of") {
			t.Errorf("a token is told: %s", line)
		}
	}
	if want := map[string]string{"crm": "2", "web": "1", "unnamed": "1"}; !maps.Equal(got, want) {
		t.Errorf("accepted are %v, want %v", got, want)
	}
	if names := r.server.known(); !slices.Equal(names, []string{"crm", "web", "unnamed"}) {
		t.Errorf("clients are %q", names)
	}
}
