package connector

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	nooptrace "go.opentelemetry.io/otel/trace/noop"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/braze"
	"github.com/tempismo/tempismo/services/connector/crm/customerio"
	"github.com/tempismo/tempismo/services/connector/crm/hubspot"
	"github.com/tempismo/tempismo/services/connector/crm/klaviyo"
	"github.com/tempismo/tempismo/services/connector/crm/mautic"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
	"github.com/tempismo/tempismo/services/connector/crm/sfmc"
)

// books are the CRMs that take properties of contacts.
var books = []struct {
	name string
	fake func() *sandbox.Fake
	open func(*http.Client) crm.CRM
	id   func(i int) string
}{
	{"klaviyo", func() *sandbox.Fake { return sandbox.Klaviyo("pk_test") }, func(c *http.Client) crm.CRM {
		return klaviyo.New(klaviyo.Config{APIKey: "pk_test", Metric: "Send now"}, c, "http://crm")
	}, address},
	{"braze", func() *sandbox.Fake { return sandbox.Braze("key") }, func(c *http.Client) crm.CRM {
		return braze.New(braze.Config{APIKey: "key", CampaignID: "campaign"}, c, "http://crm")
	}, address},
	{"customer.io", func() *sandbox.Fake { return sandbox.CustomerIO("site", "key", "app") }, func(c *http.Client) crm.CRM {
		return customerio.New(customerio.Config{SiteID: "site", TrackKey: "key", Event: "send now"}, c, "http://crm")
	}, address},
	{"hubspot", func() *sandbox.Fake { return sandbox.HubSpot("token") }, func(c *http.Client) crm.CRM {
		return hubspot.New(hubspot.Config{Token: "token", Property: "tempismo", IDProperty: "email"}, c, "http://crm")
	}, address},
	{"mautic", func() *sandbox.Fake { return sandbox.Mautic("u", "p") }, func(c *http.Client) crm.CRM {
		return mautic.New(mautic.Config{User: "u", Password: "p", EmailID: 7}, c, "http://crm")
	}, func(i int) string { return fmt.Sprint(1000 + i) }},
	{"sfmc", func() *sandbox.Fake { return sandbox.SFMC("id", "secret") }, func(c *http.Client) crm.CRM {
		return sfmc.New(sfmc.Config{ClientID: "id", ClientSecret: "secret", EventKey: "e", DataExtension: "timing", KeyColumn: "ContactKey"}, c, "http://crm")
	}, address},
}

func address(i int) string { return fmt.Sprintf("c%d@example.com", i) }

// ward is a store with profiles in it, and a CRM whose contacts are to be kept up to date. Its time is that of a synctest bubble.
type ward struct {
	t       *testing.T
	store   *streamtest.Store
	log     *streamtest.Log
	fake    *sandbox.Fake
	network *pipes
	open    func(*http.Client) crm.CRM
	run     stream.Run
	health  *app.Health
	target  *target // of the last life
}

func newWard(t *testing.T, fake *sandbox.Fake, open func(*http.Client) crm.CRM) *ward {
	w := &ward{t: t, store: streamtest.NewStore(), log: streamtest.NewLog(), fake: fake, open: open, run: live(), network: newPipes(fake)}
	w.log.Create(topics.Events, stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
	return w
}

// put stores what a service knows of customers; nil is nothing any more.
func (w *ward) put(service string, states map[string][]byte, change ...func(*stream.Commit)) {
	w.t.Helper()
	lease, err := w.store.Claim(w.t.Context(), w.run.Group(service), partition)
	if err != nil {
		w.t.Fatal(err)
	}
	defer lease.Close()
	c := &stream.Commit{Base: lease.Meta().Positions, Next: map[string]int64{topics.Events: lease.Meta().Positions[topics.Events] + 1}, Partitions: 1}
	for name, state := range states {
		if state == nil {
			c.Gone = append(c.Gone, name)
			continue
		}
		c.Keys, c.Values = append(c.Keys, name), append(c.Values, state)
	}
	for _, f := range change {
		f(c)
	}
	if err := lease.Commit(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
}

// reads is the profile of a customer who has read at an hour of the day, Rome's, for so many days until now.
func reads(t *testing.T, hour, days int) *timing.Profile {
	t.Helper()
	p := &timing.Profile{Zone: "Europe/Rome"}
	w := timing.World{Model: timing.Builtin()}
	rome, err := calendar.Zone(p.Zone)
	if err != nil {
		t.Fatal(err)
	}
	now, _ := calendar.LocalHour(time.Now(), rome)
	for day := now/timing.Day - int64(days); day < now/timing.Day; day++ {
		c := p.Channel("email")
		c.Delivered(&w, day*timing.Day+int64(hour)-1)
		c.Engaged(&w, day*timing.Day+int64(hour), 20)
	}
	return p
}

// live runs the connector's sweeper for so long.
func (w *ward) live(d time.Duration) {
	w.t.Helper()
	stop := w.start()
	time.Sleep(d)
	stop()
}

// start starts a sweeper, and returns what ends it.
func (w *ward) start() (stop func()) {
	client := w.network.client()
	m, err := newMetrics(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.health, w.target = &app.Health{}, aim(w.open(client), crm.Calls{Concurrency: 16})
	s := &sweeper{
		service: &service{
			log: w.log, run: w.run, name: "crm", target: w.target, metrics: m, tracer: nooptrace.Tracer{},
			health: w.health, logger: slog.New(slog.DiscardHandler), clock: wall{},
		},
		store: w.store, channel: "email", every: 24 * time.Hour, calling: make(chan struct{}, 1),
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		client.CloseIdleConnections()
	}
}

// wrote are the writes since the last n.
func (w *ward) wrote(n int) []sandbox.Written {
	all, _ := w.fake.Written()
	return all[n:]
}

// TestOnlyWhatHasChangedIsWritten: every contact once, in full batches, and then nothing for days; whoever changes is written alone, whoever is
// forgotten is emptied where nobody would be made again by it, and so it is after a restart. A store that was emptied has all of them written once more.
func TestOnlyWhatHasChangedIsWritten(t *testing.T) {
	const customers = 1203
	for _, b := range books {
		t.Run(b.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWard(t, b.fake(), b.open)
				defer w.network.close()
				states := map[string][]byte{}
				morning, evening := reads(t, 10, 60).Append(nil), reads(t, 20, 60).Append(nil)
				for i := range customers {
					states[b.id(i)] = morning
				}
				states[b.id(customers)] = reads(t, 10, 0).Append(nil) // of whom nothing is known
				w.put(profilerService, states)
				w.live(60 * time.Hour)

				batch := w.open(nil).(crm.Updater).UpdateTraits().Batch
				all, sizes := w.fake.Written()
				if len(all) != customers || len(w.fake.Contacts()) != customers {
					t.Fatalf("%d writes of %d contacts, want one of each of %d", len(all), len(w.fake.Contacts()), customers)
				}
				for i, size := range sizes {
					if i < len(sizes)-1 && size != batch {
						t.Errorf("batch %d of %d has %d contacts, and there were more", i, len(sizes), size)
					}
				}
				got := w.fake.Contacts()[b.id(7)]
				if h := fmt.Sprint(got["tempismo_best_hour"]); h != "8" && h != "9" && h != "10" || got["tempismo_level"] != "own" || got["tempismo_zone"] != "Europe/Rome" || got["tempismo_confidence"] == nil {
					t.Errorf("a contact is %v", got)
				}

				w.live(50 * time.Hour)
				if more := w.wrote(customers); len(more) != 0 {
					t.Errorf("%d writes although nothing has changed, such as %v", len(more), more[0])
				}

				changed := map[string][]byte{b.id(1): evening, b.id(2): evening, b.id(3): nil, b.id(4): nil}
				w.put(profilerService, changed)
				w.live(50 * time.Hour)
				want := map[string]bool{b.id(1): true, b.id(2): true, b.id(3): false, b.id(4): false}
				if w.open(nil).(crm.Updater).UpdateTraits().Creates {
					delete(want, b.id(3))
					delete(want, b.id(4))
				}
				more := w.wrote(customers)
				for _, c := range more {
					if there, ok := want[c.Customer]; !ok || there != (len(c.Properties) > 0) {
						t.Errorf("%s is written as %v", c.Customer, c.Properties)
					}
				}
				if len(more) != len(want) {
					t.Errorf("%d writes, want %d", len(more), len(want))
				}

				before := customers + len(more)
				w.store.Lose(w.run.Group(Sweep), partition)
				w.live(60 * time.Hour)
				if again := len(w.wrote(before)); again != customers-2 {
					t.Errorf("%d writes after what was written is forgotten, want one of each of %d", again, customers-2)
				}
				if calls, limited := w.fake.Calls(); limited != 0 {
					t.Errorf("%d of %d calls were beyond a limit", limited, calls)
				}
			})
		})
	}
}

// TestContactsUnderFaults: while a tenth of the calls suffers from each fault and the connector is stopped again and again, every contact ends with
// what is known of the customer, and those whom the CRM does not know are asked for once.
func TestContactsUnderFaults(t *testing.T) {
	const customers = 1500
	for _, b := range books {
		t.Run(b.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWard(t, b.fake(), b.open)
				defer w.network.close()
				r, fate := rand.New(rand.NewPCG(1, 1)), rand.New(rand.NewPCG(1, 2))
				var mu sync.Mutex
				began := time.Now()
				w.fake.Late = 20 * time.Second
				w.fake.Fault = func(*http.Request) sandbox.Fault {
					mu.Lock()
					defer mu.Unlock()
					if kind := 1 + fate.IntN(10); kind <= sandbox.Kinds && time.Since(began) < 48*time.Hour {
						return sandbox.Fault(kind)
					}
					return sandbox.None
				}
				w.fake.Unknown = func(c string) bool { return strings.HasPrefix(c, "c7") || strings.HasPrefix(c, "107") }
				states := map[string][]byte{}
				hours := []int{8, 12, 20}
				habits := [][]byte{reads(t, 8, 60).Append(nil), reads(t, 12, 60).Append(nil), reads(t, 20, 60).Append(nil)}
				for i := range customers {
					states[b.id(i)] = habits[i%len(habits)]
				}
				w.put(profilerService, states)
				for range 30 {
					w.live(time.Duration(1+r.IntN(3600)) * time.Second)
				}
				w.live(96 * time.Hour)
				contacts := w.fake.Contacts()
				creates := w.open(nil).(crm.Updater).UpdateTraits().Creates
				for i := range customers {
					c := contacts[b.id(i)]
					if !creates && w.fake.Unknown(b.id(i)) {
						if c != nil {
							t.Errorf("%s was made", b.id(i))
						}
						continue
					}
					var hour int
					if _, err := fmt.Sscan(fmt.Sprint(c["tempismo_best_hour"]), &hour); err != nil || hour > hours[i%len(hours)] || hour < hours[i%len(hours)]-3 {
						t.Fatalf("%s reads at %d and is %v: %v", b.id(i), hours[i%len(hours)], c, err)
					}
				}
				calls, limited := w.fake.Calls()
				if limited != 0 {
					t.Errorf("%d of %d calls were beyond a limit", limited, calls)
				}
				w.live(72 * time.Hour)
				if later, _ := w.fake.Calls(); later != calls {
					t.Errorf("%d calls although nothing has changed", later-calls)
				}
			})
		})
	}
}

// hubspotWard is a ward with HubSpot, which says whom it does not know.
func hubspotWard(t *testing.T) *ward { return newWard(t, books[3].fake(), books[3].open) }

// Whoever refuses is not written: not to be observed, not to be written to. Who is erased is emptied, once.
func TestWhoRefusesIsNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hubspotWard(t)
		defer w.network.close()
		habit := reads(t, 10, 60)
		states, mail := map[string][]byte{}, map[string][]byte{}
		for i := range 4 {
			states[address(i)] = habit.Append(nil)
		}
		mail[address(0)] = knows(t, customer.Attributes{Consents: customer.Consents{Mailing: &customer.Consent{At: time.Now()}}})
		mail[address(1)] = knows(t, customer.Attributes{Segment: "premium", Consents: customer.Consents{Mailing: &customer.Consent{At: time.Now(), Granted: true}}})
		w.put(profilerService, states)
		w.put(deciderService, mail)
		w.live(30 * time.Hour)
		if c := w.fake.Contacts(); len(c) != 3 || c[address(0)] != nil {
			t.Fatalf("contacts %v", c)
		}
		refused, erased := reads(t, 10, 60), reads(t, 10, 60)
		refused.Told = timing.Pixel{At: 1}
		erased.Erase(time.Now())
		w.put(profilerService, map[string][]byte{address(1): refused.Append(nil), address(2): erased.Append(nil)})
		w.live(80 * time.Hour)
		if c, more := w.fake.Contacts(), w.wrote(3); len(c) != 1 || c[address(3)] == nil || len(more) != 2 {
			t.Errorf("contacts %v after %d writes", c, len(more))
		}
		if v := w.entry(address(2)); v != nil {
			t.Errorf("of who is erased %q is kept", v)
		}
	})
}

// entry is what is remembered of a customer to have been written.
func (w *ward) entry(who string) []byte {
	w.t.Helper()
	seen, err := w.store.Read(w.t.Context(), w.run.Group(Sweep), partition, []string{who})
	if err != nil {
		w.t.Fatal(err)
	}
	return seen.Values[0]
}

// knows is the decider's state of a customer of whom this is known.
func knows(t *testing.T, a customer.Attributes) []byte {
	t.Helper()
	var s decision.State
	p := decision.Default()
	m := decision.Moment{Policy: &p, Now: time.Now()}
	if _, err := m.Know(&s, a.Append(nil)); err != nil {
		t.Fatal(err)
	}
	return s.Append(nil)
}

// Profiles that are lost or being rebuilt are nobody's, and not of people who are forgotten.
func TestARebuildEmptiesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hubspotWard(t)
		defer w.network.close()
		states := map[string][]byte{}
		for i := range 10 {
			states[address(i)] = reads(t, 10, 60).Append(nil)
		}
		w.put(profilerService, states)
		w.live(30 * time.Hour)
		w.store.Lose(w.run.Group(profilerService), partition)
		w.live(30 * time.Hour)
		w.put(profilerService, map[string][]byte{address(0): reads(t, 10, 60).Append(nil)}, func(c *stream.Commit) { c.Rebuilding = []byte("to the end") })
		w.live(30 * time.Hour)
		if more := w.wrote(10); len(more) != 0 {
			t.Fatalf("%d writes, such as %v", len(more), more[0])
		}
		w.put(profilerService, states)
		w.live(30 * time.Hour)
		if more := w.wrote(10); len(more) != 0 || len(w.fake.Contacts()) != 10 {
			t.Errorf("%d writes, %d contacts", len(more), len(w.fake.Contacts()))
		}
	})
}

// A contact that a CRM does not take stands for nobody else, and is not tried again before it changes.
func TestOneBadContactDoesNotHoldUpTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t, books[5].fake(), books[5].open) // which refuses all rows for one
		defer w.network.close()
		long := strings.Repeat("x", 300)
		states := map[string][]byte{long: reads(t, 10, 60).Append(nil), "unreadable": {99, 1}}
		for i := range 120 {
			states[address(i)] = reads(t, 10, 60).Append(nil)
		}
		w.put(profilerService, states)
		w.live(30 * time.Hour)
		if n := len(w.fake.Contacts()); n != 120 {
			t.Fatalf("%d contacts", n)
		}
		calls, _ := w.fake.Calls()
		w.live(72 * time.Hour)
		if later, _ := w.fake.Calls(); later != calls {
			t.Errorf("it was tried %d times again", later-calls)
		}
		w.put(profilerService, map[string][]byte{long: reads(t, 20, 60).Append(nil)})
		w.live(48 * time.Hour)
		if later, _ := w.fake.Calls(); later != calls+2 { // and a token
			t.Errorf("once it has changed it was tried %d times", later-calls)
		}
		if ready, components := w.health.State(); !ready {
			t.Errorf("health %v", components)
		}
	})
}

// A CRM that takes nobody's properties, because it does not have them or does not know the message, does not have everybody given up.
func TestAWrongSettingGivesNobodyUp(t *testing.T) {
	for _, status := range []int{http.StatusForbidden, http.StatusBadRequest} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := sandbox.Klaviyo("pk_test")
				w := newWard(t, fake, books[0].open)
				w.network.close()
				var mu sync.Mutex
				wrong := true
				w.network = newPipes(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					mu.Lock()
					no := wrong
					mu.Unlock()
					if no {
						rw.WriteHeader(status)
						return
					}
					fake.ServeHTTP(rw, r)
				}))
				defer w.network.close()
				states := map[string][]byte{}
				for i := range 40 {
					states[address(i)] = reads(t, 10, 60).Append(nil)
				}
				w.put(profilerService, states)
				stop := w.start()
				time.Sleep(30 * time.Hour)
				if ready, components := w.health.State(); ready || !strings.Contains(components["attributes"].Detail, fmt.Sprint(status)) {
					t.Errorf("health %v", components)
				}
				mu.Lock()
				wrong = false
				mu.Unlock()
				time.Sleep(2 * time.Hour)
				stop()
				if n := len(fake.Contacts()); n != 40 {
					t.Errorf("%d contacts once it is put right", n)
				}
				if ready, components := w.health.State(); !ready {
					t.Errorf("health %v", components)
				}
			})
		})
	}
}

// Sends go first: as long as they need every call that there is, no contact is written.
func TestSendsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hubspotWard(t)
		defer w.network.close()
		states := map[string][]byte{address(0): reads(t, 10, 60).Append(nil)}
		w.put(profilerService, states, func(c *stream.Commit) { c.Rebuilding = []byte("until sends wait") })
		stop := w.start()
		ctx, cancel := context.WithCancel(t.Context())
		var sends sync.WaitGroup
		for range 3 {
			sends.Go(func() {
				for w.target.turn(ctx, wall{}) == nil {
				}
			})
		}
		synctest.Wait()
		w.put(profilerService, states)
		time.Sleep(time.Hour)
		if n := len(w.wrote(0)); n != 0 {
			t.Errorf("%d contacts are written while sends wait", n)
		}
		cancel()
		sends.Wait()
		time.Sleep(time.Minute)
		stop()
		if n := len(w.wrote(0)); n != 1 {
			t.Errorf("%d contacts are written once there is room", n)
		}
	})
}

// Who takes over begins where the pass was, and writes nobody twice.
func TestAnHeirGoesOnWithThePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := hubspotWard(t)
		defer w.network.close()
		states := map[string][]byte{}
		habit := reads(t, 10, 60).Append(nil)
		for i := range 5000 {
			states[address(i)] = habit
		}
		w.put(profilerService, states)
		w.live(30 * time.Second)
		first := len(w.wrote(0))
		w.live(30 * time.Hour)
		if first == 0 || first == 5000 || len(w.wrote(0)) != 5000 {
			t.Errorf("%d writes before, and %d in all for 5000 contacts", first, len(w.wrote(0)))
		}
	})
}
