package rows

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/ingest/pull/hubspot"
)

// What ingest fetches from HubSpot's list of email events, and what the preset reads in a file of the same pages, are the same events
// under the same ids: whoever does both has each once.
func TestWhatIsFetchedFromHubSpotIsWhatIsImported(t *testing.T) {
	const more = `{"hasMore":true,"offset":"a","events":[
		{"type":"OPEN","created":1790003600000,"recipient":" Ann@Example.com ","emailCampaignId":71,"hmid":"mid-1"},
		{"type":"open","id":"o-9","created":"1790003600000","recipient":"ann@example.com","sentBy":{"id":"s-1","created":1790000000000},"userAgent":"Mozilla/5.0","ipAddress":"66.249.80.1"},
		{"type":"CLICK","id":" c-9","created":1790003700001,"recipient":"847297356","url":"https://shop.example.com/a?b=c d","filteredEvent":"true"},
		{"type":"CLICK","id":"c-10","created":1790003700002,"recipient":"ann@example.com","url":"","hmid":"","sentBy":{}},
		{"type":"BOUNCE","id":7,"created":1790003700003,"recipient":"bob@example.com","hmid":12,"emailCampaignId":"71"},
		{"type":"OPEN","id":"o-11","created":1790003600000,"recipient":"ann@example.com,bob@example.com"},
		{"type":"OPEN","id":"o-12","created":1790003600000,"recipient":"a@b@example.com"},
		{"type":"STATUSCHANGE","id":"n-9","created":1790003700004,"recipient":"bob@example.com","portalSubscriptionStatus":"unsubscribed"},
		{"type":"","id":"o-13","created":1790003600000,"recipient":"ann@example.com"}]}`
	for name, text := range map[string]string{"hubspot.json": testdata(t, "hubspot.json"), "more": more} {
		page, err := hubspot.ReadPage([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r, err := Open(strings.NewReader(text), "page.json", Mapping{Preset: "hubspot", Channel: "email"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		imported, rejected := []engagement.Event{}, 0
		for {
			e, _, err := r.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if bad := new(LineError); errors.As(err, &bad) {
				rejected++
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			imported = append(imported, *e)
		}
		fetched, ignored := 0, int64(0)
		for _, x := range page.Elements {
			switch {
			case x.Err != nil:
				rejected--
			case x.Event == nil:
				ignored++
			case fetched == len(imported):
				t.Fatalf("%s: %+v is fetched only", name, x.Event)
			default:
				engagement.DefaultLists().Judge(x.Event, x.Machine, x.Address) // as ingest does
				want := imported[fetched]
				if x.Event.Source != "/ingest/hubspot" {
					t.Errorf("%s: source %q", name, x.Event.Source)
				}
				if want.Source = x.Event.Source; *x.Event != want {
					t.Errorf("%s: fetched  %+v\nimported %+v", name, *x.Event, want)
				}
				fetched++
			}
		}
		if fetched != len(imported) || fetched < 5 || rejected != 0 || ignored != r.Ignored {
			t.Errorf("%s: %d of %d events are fetched; %d more are rejected, %d of %d ignored", name, fetched, len(imported), rejected, ignored, r.Ignored)
		}
	}
}
