package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/telemetry"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/ingest/pull/hubspot"
	"github.com/tempismo/tempismo/services/ingest/pull/hubspot/hubspottest"
)

// pulling is an instance that fetches, with a rig's log and a virtual clock.
type pulling struct {
	*rig
	set  app.Settings
	stop func()
}

// pulls starts an instance that fetches from a.
func (r *rig) pulls(a *hubspottest.Account, c Config) pulling {
	r.t.Helper()
	tel, err := telemetry.New(r.t.Context(), telemetry.Config{}, "ingest", "")
	if err != nil {
		r.t.Fatal(err)
	}
	p := pulling{rig: r, set: app.Settings{Telemetry: tel, Health: &app.Health{}, Log: slog.New(slog.DiscardHandler)}}
	c.Run, c.Pixels, c.Pull.Token = r.server.config.Run, r.server.config.Pixels, hubspottest.Token
	c = c.withDefaults()
	server, err := newServer(c, r.out, r.store, partitions, p.set, time.Now)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() {
		done <- server.pull(ctx, r.out.log, r.out.run, &http.Client{Transport: a}, p.set)
	}()
	p.stop = func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	}
	return p
}

// says is what the instance tells of itself.
func (p *pulling) says() string {
	_, components := p.set.Health.State()
	return fmt.Sprint(components["hubspot"])
}

// counted are the events that the instance has counted, by outcome.
func (p *pulling) counted() map[string]string {
	w := httptest.NewRecorder()
	p.set.Telemetry.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	counts := map[string]string{}
	for line := range strings.Lines(w.Body.String()) {
		for _, name := range []string{"tempismo_ingest_events_total", "tempismo_ingest_pull_rounds_total"} {
			if rest, ok := strings.CutPrefix(line, name); ok && strings.Contains(rest, `provider="hubspot"`) {
				_, outcome, _ := strings.Cut(rest, `outcome="`)
				outcome, _, _ = strings.Cut(outcome, `"`)
				counts[outcome] = strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):])
			}
		}
		if strings.HasPrefix(line, "tempismo_ingest_pull_behind_seconds") {
			counts["behind"] = strings.TrimSpace(line[strings.LastIndexByte(line, ' '):])
		}
	}
	return counts
}

// today has the virtual clock show a day of this century.
func today() { time.Sleep(time.Until(clock)) }

// What HubSpot's list tells goes the way of a webhook: mapped, judged, under its pseudonym, to the topic; what cannot be mapped to the
// dead letters, once; and of several instances one fetches, and the next one goes on where it was.
func TestHubSpotsListIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		today()
		r := newRig(t, Config{})
		a := &hubspottest.Account{}
		at := time.Now().Add(-5 * time.Hour)
		event := func(id, typ, more string, after time.Duration) hubspottest.Event {
			created := at.Add(after)
			return hubspottest.Event{ID: id, Created: created, Raw: fmt.Sprintf(`{"id":%q,"created":%d,"type":%q,"hmid":"m-1"%s}`, id, created.UnixMilli(), typ, more)}
		}
		nobody := event("e-4", "OPEN", "", 4*time.Hour)
		a.Happen(
			event("e-1", "SENT", `,"recipient":"Anna@Example.com"`, 0),
			event("e-2", "OPEN", `,"recipient":"anna@example.com","userAgent":"Outlook"`, 4*time.Hour),
			event("e-3", "OPEN", `,"recipient":"anna@example.com","filteredEvent":true`, 4*time.Hour+time.Second),
			nobody,
			event("e-5", "DEFERRED", `,"recipient":"anna@example.com"`, 4*time.Hour),
		)
		const secret = "a secret of some length"
		c := Config{Pseudonym: secret, Pull: hubspot.Config{Since: 6 * time.Hour}}
		one, two := r.pulls(a, c), r.pulls(a, c)
		time.Sleep(5 * time.Hour)
		synctest.Wait()

		check := func(want ...string) {
			t.Helper()
			var got []string
			for _, e := range r.events(liveTopic) {
				got = append(got, fmt.Sprint(e.Kind, " ", e.Actor, " ", e.Provider, " ", validTrace(e.Trace), " ", e.Subject == Pseudonyms(r.server.config.Pseudonym, "anna@example.com")[0]))
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		r.server.config.Pseudonym = secret
		all := []string{"sent human hubspot true true", "open human hubspot true true", "open machine hubspot true true"}
		check(all...)
		values, headers := r.letters()
		if len(values) != 1 || values[0] != nobody.Raw || !strings.Contains(headers[0], "recipient: is required") || !strings.Contains(headers[0], "ingest:hubspot.list") || !strings.HasPrefix(headers[0], "hubspot: ") {
			t.Errorf("dead letters %q, %q", values, headers)
		}
		// Everybody is ready, and the one whose turn it is not says so.
		working, idle := &one, &two
		if !strings.Contains(one.says(), "fetched up to") {
			working, idle = &two, &one
		}
		if !strings.Contains(working.says(), "{true its events are fetched up to ") || !strings.Contains(idle.says(), "{true its events are another instance's turn}") {
			t.Errorf("%q, %q", working.says(), idle.says())
		}
		counts := working.counted()
		if counts["accepted"] != "3" || counts["ignored"] != "1" || counts["dead"] != "1" || counts["complete"] == "" || counts["known"] == "" || counts["behind"] == "" || counts["failed"] != "" {
			t.Errorf("%v", counts)
		}
		if len(idle.counted()) != 0 {
			t.Errorf("whose turn it is not counts %v", idle.counted())
		}

		// The one that fetches ends, and what happens meanwhile is fetched by the other.
		kept := r.out.log.Offsets("tempismo.r1."+pullService, liveTopic)
		if d := time.Since(time.UnixMilli(kept[0])); d < 3*time.Hour || d > 3*time.Hour+2*time.Minute || len(kept) != 1 {
			t.Errorf("kept %v, %v ago", kept, d)
		}
		working.stop()
		at = time.Now()
		a.Happen(event("e-6", "CLICK", `,"recipient":"anna@example.com","url":"https://example.com/"`, -time.Second))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		check(append(all, "click human hubspot true true")...)

		// With a token that is refused nothing changes but what is said; with Kafka away neither.
		a.Fails(hubspottest.Status(401, "INVALID_AUTHENTICATION"))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if says := idle.says(); !strings.Contains(says, "{true ") || !strings.Contains(says, "401") || idle.counted()["denied"] == "" {
			t.Errorf("%s, %v", says, idle.counted())
		}
		a.Fails(hubspottest.Status(429, "RATE_LIMITS"))
		time.Sleep(10 * time.Minute)
		a.Fails(nil)
		r.out.lose(topics.Events)
		at = time.Now()
		a.Happen(event("e-7", "OPEN", `,"recipient":"anna@example.com"`, -time.Second))
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if counts := idle.counted(); counts["throttled"] == "" || counts["failed"] == "" || counts["unacknowledged"] == "" || !strings.Contains(idle.says(), "away") {
			t.Errorf("%s, %v", idle.says(), counts)
		}
		r.out.lose("")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		check(append(all, "click human hubspot true true", "open human hubspot true true")...)
		idle.stop()
	})
}

// An offset that is no time of this service's is not believed: it begins anew, and says nothing of having come anywhere.
func TestWhereFetchingBegins(t *testing.T) {
	for _, tt := range []struct {
		name string
		kept int64
		want time.Duration // ago
	}{
		{"nothing is kept", -1, 6 * time.Hour},
		{"an offset", 123456, 6 * time.Hour},
		{"a time that has not come", clock.Add(100 * 24 * time.Hour).UnixMilli(), 6 * time.Hour},
		{"a time of weeks ago", clock.Add(-500 * time.Hour).UnixMilli(), 500 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				today()
				r := newRig(t, Config{})
				a := &hubspottest.Account{}
				before, after := time.Now().Add(-tt.want-time.Minute), time.Now().Add(-tt.want+time.Minute)
				a.Happen(hubspottest.Event{ID: "before", Created: before}, hubspottest.Event{ID: "after", Created: after})
				if tt.kept >= 0 {
					ctx, cancel := context.WithCancel(t.Context())
					done := make(chan error, 1)
					go func() {
						done <- r.out.log.Consume(ctx, r.out.run.Group(pullService), liveTopic, func(ctx context.Context, a stream.Assignment) {
							if a.Partition() == 0 {
								if err := a.Hint(ctx, map[string]int64{liveTopic: tt.kept}); err != nil {
									t.Error(err)
								}
							}
							<-ctx.Done()
						})
					}()
					synctest.Wait()
					cancel()
					<-done
				}
				p := r.pulls(a, Config{Pull: hubspot.Config{Since: 6 * time.Hour}})
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				if events := r.events(liveTopic); len(events) != 1 || !events[0].Time.Equal(after) {
					t.Errorf("got %+v, want the event of %v", events, after)
				}
				p.stop()
			})
		})
	}
}

// As long as nobody can tell whether customers have consented to pixels no open is taken, and nothing of that time is settled.
func TestFetchingWaitsUntilConsentsAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		today()
		r := newRig(t, Config{Pixels: config.Pixels{Consent: "required"}}) // no profiler has run
		a := &hubspottest.Account{}
		open := time.Now().Add(-5 * time.Hour)
		a.Happen(hubspottest.Event{ID: "e-1", Created: open})
		p := r.pulls(a, Config{Pull: hubspot.Config{Since: 6 * time.Hour}})
		time.Sleep(time.Hour)
		synctest.Wait()
		kept := r.out.log.Offsets(r.out.run.Group(pullService), liveTopic)[0]
		if events := r.events(liveTopic); len(events) != 0 || kept > open.UnixMilli() || !strings.Contains(p.says(), "consented") || p.counted()["failed"] == "" {
			t.Errorf("%d events, kept %d, %s, %v", len(events), kept, p.says(), p.counted())
		}
		p.stop()
	})
}

// On a broker, with HTTP between, and stopped at any moment: every event stands on the topic in the end, under one id each.
func TestFetchingOnABroker(t *testing.T) {
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	store, err := redis.StartEmbedded("", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	run := stream.Run{ID: "r1"}
	account := &hubspottest.Account{}
	api := httptest.NewServer(account)
	defer api.Close()
	c := Config{Kafka: broker.Config(), Redis: redis.Config{Addr: store.Addr()}, Run: config.Run{ID: "r1", Mode: "live"}, Pixels: config.Pixels{Consent: "assumed"}, Pull: hubspot.Config{Token: hubspottest.Token, URL: api.URL, AllowPrivate: true, Since: 12 * time.Hour, Every: 10 * time.Second}}
	if err := kafka.EnsureTopics(t.Context(), c.Kafka, run, partitions); err != nil {
		t.Fatal(err)
	}
	log, err := kafka.Open(t.Context(), c.Kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	// found counts what stands on the topic, by id.
	found := func() map[string]int {
		ids := map[string]int{}
		err := kafka.Range(t.Context(), log, topics.Events, kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
			var e engagement.Event
			if err := e.Parse(r.Value); err != nil {
				return err
			}
			ids[strings.Clone(e.ID)]++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	const lives, each = 4, 500
	for life := range lives {
		var events []hubspottest.Event
		for i := range each {
			events = append(events, hubspottest.Event{ID: fmt.Sprintf("%d-%d", life, i), Created: time.Now().Add(-time.Duration(i) * 20 * time.Second)})
		}
		account.Happen(events...)
		if c.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan error)
		go func() { stopped <- Run(ctx, c, app.Settings{}) }()
		// The last life is long enough; the others end after some of their events, in the middle.
		for want := len(found()) + 1 + life*100; life < lives-1 && len(found()) < want || life == lives-1 && len(found()) < reached(life, each); {
			time.Sleep(50 * time.Millisecond)
		}
		stop()
		if err := <-stopped; err != nil {
			t.Errorf("stopped with %v", err)
		}
	}
	if n := len(slices.Collect(maps.Keys(found()))); n != reached(lives-1, each) {
		t.Errorf("%d events, want %d", n, reached(lives-1, each))
	}
}

// reached is how many events there are at the end of a life.
func reached(life, each int) int { return (life + 1) * each }
