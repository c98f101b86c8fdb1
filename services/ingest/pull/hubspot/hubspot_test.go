package hubspot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/outbound"
	"github.com/tempismo/tempismo/services/ingest/pull/hubspot/hubspottest"
	"github.com/tempismo/tempismo/services/ingest/webhook/webhooktest"
)

var own = []struct{ name, event string }{
	{"sent", `{"appId":1,"appName":"Batch","created":1796119200000,"emailCampaignId":71,"hmid":"mid-1","id":"s-1","portalId":62515,"recipient":"Ann@Example.com","type":"SENT","subject":"Hello","from":"shop@example.com"}`},
	{"delivered", `{"type":"DELIVERED","id":"d-1","created":1796119201000,"recipient":"ann@example.com","emailCampaignId":71,"hmid":"mid-1","sentBy":{"id":"s-1","created":1796119200000},"smtpId":null,"response":"250 ok"}`},
	{"opened", `{"type":"OPEN","id":"o-1","created":1796122800000,"recipient":"ann@example.com","emailCampaignId":71,"hmid":"mid-1","userAgent":"Mozilla/5.0","browser":{"name":"Chrome","version":[]},"location":{"city":"Rome"},"filteredEvent":false,"duration":0}`},
	{"opened by a machine", `{"type":"OPEN","id":"o-2","created":1796122801000,"recipient":"ann@example.com","hmid":"mid-1","userAgent":"Outlook","ipAddress":"66.249.80.1","filteredEvent":true}`},
	{"clicked", `{"type":"CLICK","id":"c-1","created":1796122900000,"recipient":"ann@example.com","emailCampaignId":71,"hmid":"mid-1","url":"https://shop.example.com/a","referer":"","linkId":0,"filteredEvent":false}`},
	{"a link of what is no click", `{"type":"OPEN","id":"o-3","created":1796122900000,"recipient":"ann@example.com","hmid":"mid-1","url":"https://shop.example.com/a"}`},
	{"without an hmid", `{"type":"OPEN","id":"o-4","created":1796122900000,"recipient":"ann@example.com","sentBy":{"id":"s-1","created":1796119200000}}`},
	{"without an id", `{"type":"OPEN","created":1796122900000,"recipient":"ann@example.com","hmid":"mid-1","emailCampaignId":71}`},
	{"given up", `{"type":"BOUNCE","id":"b-1","created":1796119201000,"recipient":"bob@example.com","hmid":"mid-2","category":"UNKNOWN_USER","status":"5.1.1"}`},
	{"never sent", `{"type":"DROPPED","id":"r-1","created":1796119200500,"recipient":"bob@example.com","hmid":"mid-2","dropReason":"PREVIOUSLY_BOUNCED"}`},
	{"still tried", `{"type":"DEFERRED","id":"f-1","created":1796119201000,"recipient":"bob@example.com","hmid":"mid-2","attempt":1}`},
	{"worked on", `{"type":"PROCESSED","id":"p-1","created":1796119201000,"recipient":"bob@example.com","hmid":"mid-2"}`},
	{"a complaint", `{"type":"SPAMREPORT","id":"x-1","created":1796119201000,"recipient":"bob@example.com","hmid":"mid-2"}`},
	{"left everything", `{"type":"STATUSCHANGE","id":"n-1","created":1796119201000,"recipient":"bob@example.com","source":"SOURCE_RECIPIENT","requestedBy":"bob@example.com","portalSubscriptionStatus":"UNSUBSCRIBED","subscriptions":[],"bounced":false}`},
	{"left one list", `{"type":"STATUSCHANGE","id":"n-2","created":1796119201000,"recipient":"bob@example.com","subscriptions":[{"id":9,"status":"UNSUBSCRIBED"}]}`},
	{"came back", `{"type":"STATUSCHANGE","id":"n-3","created":1796119201000,"recipient":"bob@example.com","portalSubscriptionStatus":"SUBSCRIBED","subscriptions":[{"id":9,"status":"SUBSCRIBED"}]}`},
	{"bounces forgotten", `{"type":"UNBOUNCE","id":"u-1","created":1796119201000,"recipient":"bob@example.com"}`},
	{"bounces forgotten, as documented", `{"id":"u-2","created":1796119201000}`},
	{"unheard of", `{"type":"TELEPORTED","id":"t-1","created":"then","recipient":[]}`},
	{"unknown members", `{"new":{"a":[1]},"type":"OPEN","id":"o-5","created":1796122900000,"recipient":"ann@example.com","hmid":"mid-1"}`},
	{"no type", `{"id":"o-6","created":1796122900000,"recipient":"ann@example.com","hmid":"mid-1"}`},
	{"no time", `{"type":"OPEN","id":"o-7","recipient":"ann@example.com","hmid":"mid-1"}`},
	{"a time in seconds", `{"type":"OPEN","id":"o-8","created":1796122900,"recipient":"ann@example.com","hmid":"mid-1"}`},
	{"nobody", `{"type":"OPEN","id":"o-9","created":1796122900000,"hmid":"mid-1"}`},
	{"two at once", `{"type":"OPEN","id":"o-10","created":1796122900000,"recipient":"ann@example.com, bob@example.com","hmid":"mid-1"}`},
	{"a link without an end", `{"type":"CLICK","id":"c-2","created":1796122900000,"recipient":"ann@example.com","hmid":"mid-1","url":"https://shop.example.com/` + strings.Repeat("a", 9000) + `"}`},
	{"no object", `7`},
}

func TestEventsAreMapped(t *testing.T) {
	var b strings.Builder
	for _, tt := range own {
		page, err := ReadPage([]byte(`{"hasMore":false,"events":[` + tt.event + `],"offset":""}`))
		fmt.Fprintf(&b, "# %s\n%s", tt.name, webhooktest.Show(page.Elements, err))
		if err == nil && (len(page.Elements) != 1 || string(page.Elements[0].Raw) != tt.event) {
			t.Errorf("%s: %d elements, %s", tt.name, len(page.Elements), page.Elements[0].Raw)
		}
	}
	webhooktest.Golden(t, "own.golden", b.String())
}

// FuzzReadPage: whatever HubSpot answers, it is refused, or each of its events is one thing and every event is valid; and a page that
// is not the last one says where the next begins.
func FuzzReadPage(f *testing.F) {
	var all []string
	for _, tt := range own {
		all = append(all, tt.event)
		f.Add([]byte(`{"hasMore":false,"events":[` + tt.event + `]}`))
	}
	f.Add([]byte(`{"hasMore":true,"offset":"a","events":[` + strings.Join(all, ",\n") + `]}`))
	for _, body := range []string{``, `{`, `[]`, `null`, `{"events":null,"hasMore":false}`, `{"events":[],"hasMore":null}`, `{"events":[null],"hasMore":true,"offset":7}`, `{"EVENTS":[],"hasmore":false}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		page, err := ReadPage(body)
		if err != nil {
			if page.Elements != nil || page.More {
				t.Fatalf("it is refused, and read all the same: %+v", page)
			}
			return
		}
		if page.More && page.Offset == "" {
			t.Fatal("there are more, nobody knows where")
		}
		inOrder(page.Elements)
		webhooktest.Check(t, page.Elements)
		for _, x := range page.Elements {
			if x.Raw == nil {
				t.Fatal("an element without its bytes")
			}
		}
	})
}

func TestConfig(t *testing.T) {
	good := Config{Token: hubspottest.Token}
	for _, tt := range []struct {
		name string
		bend func(*Config)
		want []string
	}{
		{"as it comes", func(*Config) {}, nil},
		{"off, whatever else is said", func(c *Config) { *c = Config{URL: "x", Every: -1} }, nil},
		{"a short token", func(c *Config) { c.Token = "pat" }, []string{"HUBSPOT_PULL_TOKEN: is no access token"}},
		{"a token of two lines", func(c *Config) { c.Token = hubspottest.Token + "\nX: y" }, []string{"HUBSPOT_PULL_TOKEN: is no access token"}},
		{"no URL", func(c *Config) { c.URL = "api.hubapi.com" }, []string{"HUBSPOT_PULL_URL: \"api.hubapi.com\": give scheme and host"}},
		{"plain http", func(c *Config) { c.URL = "http://10.0.0.1" }, []string{"HUBSPOT_PULL_ALLOW_PRIVATE=true"}},
		{"plain http that is meant", func(c *Config) { c.URL, c.AllowPrivate = "http://10.0.0.1", true }, nil},
		{"everything at once", func(c *Config) {
			c.URL, c.Every, c.Late, c.Since = "ftp://x", time.Second, time.Minute, time.Second
		}, []string{"HUBSPOT_PULL_URL", "HUBSPOT_PULL_EVERY: 1s is not", "HUBSPOT_PULL_LATE: 1m0s is not", "HUBSPOT_PULL_SINCE: 1s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := good
			tt.bend(&c)
			err := c.Validate()
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
			if err != nil && c.Token != "" && strings.Contains(err.Error(), string(c.Token)) {
				t.Errorf("it tells the token: %v", err)
			}
		})
	}
}

// The client reaches no address of this machine or its network unless that is meant, believes no certificate of nobody's, and gives
// up on who does not answer.
func TestClient(t *testing.T) {
	hang := make(chan struct{})
	a := &hubspottest.Account{}
	plain := httptest.NewServer(a)
	secure := httptest.NewUnstartedServer(a)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	secure.StartTLS()
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer plain.Close()
	defer secure.Close()
	defer slow.Close()
	defer close(hang)
	for _, tt := range []struct {
		name  string
		c     Config
		check func(error) bool
	}{
		{"this machine", Config{URL: plain.URL}, func(err error) bool { return errors.Is(err, outbound.ErrForbidden) }},
		{"this machine, meant", Config{URL: plain.URL + "/", AllowPrivate: true}, func(err error) bool { return err == nil }},
		{"another token", Config{URL: plain.URL, AllowPrivate: true, Token: config.Secret("another " + hubspottest.Token)}, func(err error) bool {
			no := (*Refusal)(nil)
			return errors.As(err, &no) && no.Denied()
		}},
		{"a certificate of nobody's", Config{URL: secure.URL, AllowPrivate: true}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "certificate") }},
		{"no answer", Config{URL: slow.URL, AllowPrivate: true}, func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.c.Token == "" {
				tt.c.Token = hubspottest.Token
			}
			p := &Puller{Config: tt.c, Client: tt.c.Client()}
			defer p.Client.CloseIdleConnections()
			ctx := t.Context()
			if tt.name == "no answer" { // at once: what a slow HubSpot leads to after timeout
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
			}
			if _, err := p.page(ctx, 1, 2, ""); !tt.check(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}
