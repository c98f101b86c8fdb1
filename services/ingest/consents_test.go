package ingest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// TestConsents: what a customer has answered is appended as it was said, with its time if it has one.
func TestConsents(t *testing.T) {
	for _, row := range []struct{ name, body, data, field, reason string }{
		{"an answer", `{"subject":"C-1","data":{"pixel":{"granted":false,"at":"2026-12-03T09:00:00Z"},"reason":"footer"}}`, `{"pixel":{"granted":false,"at":"2026-12-03T09:00:00Z"},"reason":"footer"}`, "", ""},
		{"an answer of now", `{"subject":"C-1","data":{"mailing":{"granted":true},"channel":"sms"}}`, `{"mailing":{"granted":true,"at":"2026-12-03T09:42:00Z"},"channel":"sms"}`, "", ""},
		{"answers of the record's time", `{"subject":"C-1","time":"2026-12-03T08:00:00+01:00","data":{"mailing":{"granted":true},"pixel":{"granted":true}}}`, `{"mailing":{"granted":true,"at":"2026-12-03T07:00:00Z"},"pixel":{"granted":true,"at":"2026-12-03T07:00:00Z"}}`, "", ""},
		{"nobody", `{"data":{"pixel":{"granted":false}}}`, "", "subject", "is required"},
		{"nothing", `{"subject":"C-1","data":{}}`, "", "data", "answers nothing"},
		{"no object", `{"subject":"C-1","data":"no"}`, "", "data", ""},
		{"neither yes nor no", `{"subject":"C-1","data":{"pixel":{"granted":"maybe"}}}`, "", "data.pixel.granted", "is string"},
		{"of tomorrow", `{"subject":"C-1","data":{"pixel":{"granted":true,"at":"2026-12-04T09:00:00Z"}}}`, "", "data.pixel.at", "lies more than"},
		{"another type", `{"subject":"C-1","type":"io.tempismo.customer.v1","data":{"pixel":{"granted":true}}}`, "", "type", "must be io.tempismo.consent.v1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, Config{})
			answer := r.send("/v1/consents", map[string]string{"Content-Type": "application/json"}, row.body)
			var records []stream.Record
			for p := range int32(partitions) {
				records = append(records, r.out.log.Records(topics.Consents, p)...)
			}
			if row.data == "" {
				var problem struct{ Errors []wrong }
				if err := json.NewDecoder(answer.Body).Decode(&problem); err != nil || answer.StatusCode != http.StatusBadRequest || len(records) != 0 {
					t.Fatalf("%d, %v, %d records", answer.StatusCode, err, len(records))
				}
				if len(problem.Errors) != 1 || problem.Errors[0].Field != row.field || !strings.HasPrefix(problem.Errors[0].Reason, row.reason) {
					t.Errorf("%+v", problem.Errors)
				}
				return
			}
			if answer.StatusCode != http.StatusAccepted || len(records) != 1 {
				t.Fatalf("%d, %d records", answer.StatusCode, len(records))
			}
			e, err := stream.ParseEvent(records[0].Value)
			if err != nil || string(e.Data) != row.data || e.Type != customer.ConsentType || e.Subject != "C-1" || string(records[0].Key) != "C-1" || e.ID == "" {
				t.Errorf("%s, %v", records[0].Value, err)
			}
		})
	}
}

// registered stores what the profiler would hold of customers who have answered so.
func (r *rig) registered(answers map[string]timing.Pixel) {
	r.t.Helper()
	for p := range int32(partitions) {
		lease, err := r.store.Claim(r.t.Context(), stream.Run{ID: "r1"}.Group(profilerService), p)
		if err != nil {
			r.t.Fatal(err)
		}
		c := stream.Commit{Next: map[string]int64{topics.Events: 1}, Partitions: partitions}
		for who, said := range answers {
			if stream.Partition([]byte(who), partitions) == p {
				profile := timing.Profile{Said: said}
				c.Keys, c.Values = append(c.Keys, who), append(c.Values, profile.Append(nil))
			}
		}
		if err := lease.Commit(r.t.Context(), &c); err != nil {
			r.t.Fatal(err)
		}
	}
}

func opened(who string, ago time.Duration) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"o-%s","source":"/test","type":"io.tempismo.engagement.v1","subject":%q,"time":%q,"data":{"kind":"open","channel":"email","user_agent":"Mail/1"}}`, who, who, clock.Add(-ago).Format(time.RFC3339))
}

// TestWhatIsNotConsentedToReachesNoTopic: opens that a customer has not consented to are left out and counted, and of everything else
// the user agent; what needs no pixel stays.
func TestWhatIsNotConsentedToReachesNoTopic(t *testing.T) {
	yes, no := timing.Pixel{At: clock.Add(-time.Hour).UnixMilli(), Granted: true}, timing.Pixel{At: clock.Add(-time.Hour).UnixMilli()}
	click := strings.NewReplacer(`"open"`, `"click"`, `o-never`, `c-never`).Replace(opened("never", 0))
	body := "[" + strings.Join([]string{opened("yes", 0), opened("no", 0), opened("never", 0), opened("early", 2*time.Hour), click}, ",") + "]"
	for _, row := range []struct {
		consent string
		want    map[string]string // user agents of what is appended, by id
	}{
		{"required", map[string]string{"o-yes": "Mail/1", "c-never": ""}},
		{"assumed", map[string]string{"o-yes": "Mail/1", "o-never": "Mail/1", "o-early": "Mail/1", "c-never": "Mail/1"}},
	} {
		r := newRig(t, Config{Pixels: config.Pixels{Consent: row.consent}})
		r.registered(map[string]timing.Pixel{"yes": yes, "no": no, "early": yes})
		answer := r.send("/v1/events", map[string]string{"Content-Type": "application/json"}, body)
		var counts struct{ Accepted, Ignored, Unconsented int }
		if err := json.NewDecoder(answer.Body).Decode(&counts); err != nil || answer.StatusCode != http.StatusAccepted {
			t.Fatalf("%s: %d, %v", row.consent, answer.StatusCode, err)
		}
		if counts.Accepted != len(row.want) || counts.Unconsented != 5-len(row.want) {
			t.Errorf("%s: %+v", row.consent, counts)
		}
		got := map[string]string{}
		for _, e := range r.events(topics.Events) {
			got[e.ID] = e.UserAgent
			if e.Kind != engagement.Click && e.Kind != engagement.Open {
				t.Errorf("%+v", e)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(row.want) {
			t.Errorf("%s: %v, want %v", row.consent, got, row.want)
		}
	}
}

// TestWithoutTheRegisterTheSenderKeepsIt: where it cannot be looked up whether a customer has consented, nothing is taken that would
// need it, and nothing is lost; the rest goes on.
func TestWithoutTheRegisterTheSenderKeepsIt(t *testing.T) {
	r := newRig(t, Config{Pixels: config.Pixels{Consent: "required"}}) // no profiler has run
	if answer := r.send("/v1/events", map[string]string{"Content-Type": "application/json"}, opened("anna", 0)); answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("%d", answer.StatusCode)
	}
	delivered := strings.NewReplacer(`"open"`, `"delivered"`, `,"user_agent":"Mail/1"`, ``).Replace(opened("anna", 0))
	if answer := r.send("/v1/events", map[string]string{"Content-Type": "application/json"}, delivered); answer.StatusCode != http.StatusAccepted {
		t.Errorf("a delivery is answered %d", answer.StatusCode)
	}
	if got := r.events(topics.Events); len(got) != 1 {
		t.Errorf("%d events were appended", len(got))
	}
	r.registered(map[string]timing.Pixel{"anna": {At: 1, Granted: true}})
	if answer := r.send("/v1/events", map[string]string{"Content-Type": "application/json"}, opened("anna", 0)); answer.StatusCode != http.StatusAccepted {
		t.Errorf("once the profiler is there: %d", answer.StatusCode)
	}
}
