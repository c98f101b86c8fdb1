package hubspot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tempismo/tempismo/services/ingest/pull/hubspot/hubspottest"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// today is a test whose clock is virtual and shows a day of this century.
func today(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)))
		f(t)
	})
}

// log is where a puller appends to, and keeps how far it has come; it outlives the puller.
type log struct {
	t        *testing.T
	ids      map[string]int
	names    map[string]string // of the account's events, here
	life     map[string]bool   // of the puller that lives
	order    []time.Time
	settled  time.Time
	again    int
	mu       sync.Mutex // of all of it, for who looks while a puller works
	told     []error
	pauses   []time.Duration
	before   func(step string) error // of what is appended or kept
	whenKept func(settled time.Time)
}

func newLog(t *testing.T) *log { return &log{t: t, ids: map[string]int{}, names: map[string]string{}} }

// puller is one that fetches from a to l.
func (l *log) puller(a *hubspottest.Account) *Puller {
	l.life = map[string]bool{}
	step := func(name string) error {
		if l.before == nil {
			return nil
		}
		return l.before(name)
	}
	return &Puller{
		Config: Config{Token: hubspottest.Token, URL: "https://api.example.com"}.WithDefaults(), Client: &http.Client{Transport: a},
		Append: func(_ context.Context, elements []webhook.Element) error {
			if err := step("append"); err != nil {
				return err
			}
			l.mu.Lock()
			for i, x := range elements {
				if x.Event == nil {
					l.t.Fatalf("%s: %v", x.Raw, x.Err)
				}
				if i > 0 && x.Event.Time.Before(elements[i-1].Event.Time) {
					l.t.Errorf("%v comes after %v", x.Event.Time, elements[i-1].Event.Time)
				}
				if l.life[x.Event.ID] {
					l.t.Errorf("%s of %v is appended twice in one life", x.Event.ID, x.Event.Time)
				}
				l.life[x.Event.ID] = true
				l.ids[x.Event.ID]++
				l.order = append(l.order, x.Event.Time)
			}
			l.mu.Unlock()
			return step("appended")
		},
		Save: func(_ context.Context, settled time.Time) error {
			if err := step("save"); err != nil {
				return err
			}
			if settled.Before(l.settled) { // the same is kept again where it is not known whether it was
				l.t.Errorf("settled goes from %v to %v", l.settled, settled)
			}
			l.mu.Lock()
			l.settled = settled
			l.mu.Unlock()
			if l.whenKept != nil {
				l.whenKept(settled)
			}
			return step("saved")
		},
		Tell: func(_ context.Context, err error, next time.Duration) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.told = append(l.told, err)
			l.pauses = append(l.pauses, next)
		},
		Again: func(_ context.Context, events int) { l.again += events },
	}
}

// run has a puller work from where the log says, for so long or until stop.
func (l *log) run(a *hubspottest.Account, d time.Duration) {
	ctx, stop := context.WithTimeout(l.t.Context(), d)
	defer stop()
	l.puller(a).Run(ctx, l.settled)
}

// idOf is the id that an event of the account has here.
func idOf(e hubspottest.Event) string {
	page, err := ReadPage([]byte(`{"hasMore":false,"events":[` + e.Told() + `]}`))
	if err != nil || page.Elements[0].Event == nil {
		panic(fmt.Sprint(err, page))
	}
	return page.Elements[0].Event.ID
}

// life makes events of so long from start on. Most appear soon, some only just before late has passed.
func life(r *rand.Rand, n int, start time.Time, long, late time.Duration) []hubspottest.Event {
	events := make([]hubspottest.Event, n)
	for i := range events {
		created := start.Add(time.Duration(r.Int64N(int64(long)))).Truncate(time.Millisecond)
		delay := time.Duration(r.Int64N(int64(2 * time.Minute)))
		if r.IntN(4) == 0 {
			delay = time.Duration(r.Int64N(int64(late)))
		}
		events[i] = hubspottest.Event{ID: fmt.Sprintf("e-%d", i), Created: created, Appears: created.Add(delay)}
	}
	return events
}

// missing are the events of before an instant that were not appended.
func (l *log) missing(events []hubspottest.Event, before time.Time) (ids []string) {
	for _, e := range events {
		if !e.Created.Before(before) {
			continue
		}
		if l.names[e.ID] == "" {
			l.names[e.ID] = idOf(e)
		}
		if l.ids[l.names[e.ID]] == 0 {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// However late HubSpot tells of an event within PULL_LATE, it is appended, once, and no later than a minute or five after it appeared
// if it was fresh. What is kept as settled is true whenever it is kept, and no limit is broken on the way.
func TestEverythingIsFetchedOnceHoweverLateItAppears(t *testing.T) {
	today(t, func(t *testing.T) {
		const late, long = 3 * time.Hour, 10 * time.Hour
		a, l := &hubspottest.Account{}, newLog(t)
		began := time.Now()
		events := life(rand.New(rand.NewPCG(1, 2)), 3000, began.Add(-long), 2*long, late-time.Second)
		a.Happen(events...)
		l.settled = began.Add(-long - time.Minute)
		l.whenKept = func(settled time.Time) {
			if ids := l.missing(events, settled); len(ids) > 0 {
				t.Errorf("settled is %v, but %q are missing", settled, ids)
			}
			if d := time.Since(settled); d < late {
				t.Errorf("settled is only %v ago", d)
			}
		}
		l.run(a, long+late+5*time.Minute)
		if ids := l.missing(events, began.Add(2*long)); len(ids) > 0 {
			t.Errorf("%d events are missing: %q", len(ids), ids)
		}
		if len(l.ids) != len(events) {
			t.Errorf("%d events were appended, there are %d", len(l.ids), len(events))
		}
		for _, err := range l.told {
			if err != nil {
				t.Errorf("a round failed: %v", err)
			}
		}
		if l.again == 0 {
			t.Error("no event was fetched again: late ones would have been missed")
		}
	})
}

// What is new is appended within the next round, although it is settled hours later.
func TestWhatIsNewIsAppendedSoon(t *testing.T) {
	today(t, func(t *testing.T) {
		a, l := &hubspottest.Account{}, newLog(t)
		l.settled = time.Now().Add(-4 * time.Hour)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.puller(a).Run(ctx, l.settled)
		}()
		time.Sleep(time.Hour)
		for i := range 20 {
			time.Sleep(10*time.Minute + time.Duration(i)*7*time.Second)
			e := hubspottest.Event{ID: fmt.Sprint("n-", i), Created: time.Now(), Appears: time.Now().Add(20 * time.Second)}
			a.Happen(e)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if l.ids[idOf(e)] != 1 {
				t.Errorf("event %d was appended %d times within two minutes", i, l.ids[idOf(e)])
			}
		}
		stop()
		<-done
	})
}

// A puller that ends anywhere, whatever else fails, leaves nothing out; the next one begins where the last one kept that it was.
func TestACrashAnywhereLosesNothing(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			today(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 7))
				const late, long = 3 * time.Hour, 6 * time.Hour
				a, l := &hubspottest.Account{}, newLog(t)
				began := time.Now()
				events := life(r, 400, began.Add(-long), 2*long, late-time.Second)
				a.Happen(events...)
				l.settled = began.Add(-long - time.Minute)
				crash := errors.New("crash")
				for time.Since(began) < long+late {
					ctx, stop := context.WithTimeout(t.Context(), time.Duration(r.Int64N(int64(90*time.Minute))))
					left := r.IntN(200)
					l.before = func(string) error {
						switch left--; {
						case left < 0: // dead: nothing is done any more
							stop()
							return crash
						case r.IntN(20) == 0:
							return errors.New("Kafka is away")
						}
						return nil
					}
					// What Kafka has of an append that failed is not known; in one life its events are appended again.
					puller := l.puller(a)
					inner := puller.Append
					puller.Append = func(ctx context.Context, elements []webhook.Element) error {
						err := inner(ctx, elements)
						if err != nil {
							clear(l.life)
						}
						return err
					}
					for range r.IntN(6) {
						a.Fail([]hubspottest.Fault{hubspottest.Status(500, "INTERNAL_ERROR"), hubspottest.Status(429, "RATE_LIMITS"), hubspottest.Status(401, "INVALID_AUTHENTICATION"), hubspottest.Text(`{"events":[`)}[r.IntN(4)])
					}
					kept := l.settled
					puller.Run(ctx, l.settled)
					stop()
					if l.settled.Before(kept) {
						t.Errorf("settled went back from %v to %v", kept, l.settled)
					}
				}
				l.before = nil
				l.run(a, 10*time.Minute)
				if ids := l.missing(events, began.Add(2*long)); len(ids) > 0 {
					t.Errorf("%d events are missing: %q", len(ids), ids)
				}
				if len(l.ids) != len(events) {
					t.Errorf("%d events were appended, there are %d", len(l.ids), len(events))
				}
			})
		})
	}
}

// More events than may be held are fetched in shorter stretches, and come in order all the same.
func TestManyEventsOfAnHour(t *testing.T) {
	today(t, func(t *testing.T) {
		a, l := &hubspottest.Account{}, newLog(t)
		now := time.Now()
		var events []hubspottest.Event
		for i := range most + most/2 {
			at := now.Add(-5*time.Hour + time.Duration(i)*20*time.Millisecond)
			events = append(events, hubspottest.Event{ID: fmt.Sprint("e-", i), Created: at})
		}
		a.Happen(events...)
		l.settled = now.Add(-6 * time.Hour)
		l.run(a, 10*time.Minute)
		if len(l.order) != len(events) || !slices.IsSortedFunc(l.order, time.Time.Compare) {
			t.Errorf("%d of %d events, in order: %v", len(l.order), len(events), slices.IsSortedFunc(l.order, time.Time.Compare))
		}

		// Of one instant there is no shorter stretch: rather than leave something out it says so, again and again.
		events = nil
		for i := range most + 1 {
			events = append(events, hubspottest.Event{ID: fmt.Sprint("i-", i), Created: now.Add(-time.Hour)})
		}
		a.Happen(events...)
		p := l.puller(a)
		p.span = longest
		at := now.Add(-time.Hour).UnixMilli()
		if err := p.sweep(t.Context(), at, at, func(int64) error { t.Error("it goes on"); return nil }); !errors.Is(err, errMany) {
			t.Errorf("got %v", err)
		}
	})
}

// Whatever HubSpot answers, it is asked again, after a pause that grows to five minutes, or as long as it wishes; and it is never
// taken for an empty list.
func TestWhatHubSpotRefuses(t *testing.T) {
	secs := func(all ...int) (pauses []time.Duration) {
		for _, s := range all {
			pauses = append(pauses, time.Duration(s)*time.Second)
		}
		return pauses
	}
	growing := secs(1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300)
	for _, tt := range []struct {
		name   string
		fault  hubspottest.Fault
		pauses []time.Duration // after each answer
		says   string
	}{
		{"the token is wrong", hubspottest.Status(401, "INVALID_AUTHENTICATION"), secs(300, 300), "HubSpot answers 401 INVALID_AUTHENTICATION: look at HUBSPOT_PULL_TOKEN"},
		{"the scope is missing", hubspottest.Status(403, "MISSING_SCOPES"), secs(300, 300), "whether its app has the scope content"},
		{"HubSpot has ended it", hubspottest.Status(404, "OBJECT_NOT_FOUND"), secs(300, 300), "no longer, at HUBSPOT_PULL_URL"},
		{"gone", hubspottest.Status(410, ""), secs(300, 300), "HubSpot answers 410: "},
		{"too many calls", hubspottest.Status(429, "RATE_LIMITS"), growing, "HubSpot answers 429 RATE_LIMITS: the account has made as many calls"},
		{"too many calls, and for how long", hubspottest.Status(429, "RATE_LIMITS", "Retry-After: 40"), secs(40, 40, 40, 40, 40, 40, 64), "429"},
		{"too many calls, for a day", hubspottest.Status(429, "RATE_LIMITS", "Retry-After: 86400"), secs(3600, 3600), "429"},
		{"an error of HubSpot's", hubspottest.Status(500, "INTERNAL_ERROR"), growing, "HubSpot answers 500 INTERNAL_ERROR"},
		{"a gateway's", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) }, growing, "HubSpot answers 502"},
		{"away for long", hubspottest.Status(503, "", "Retry-After: 600"), secs(600, 600), "503"},
		{"a redirection", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example.com/", http.StatusFound)
		}, growing, "HubSpot answers 302"},
		{"a category that is none", hubspottest.Status(400, "of anna@example.com"), growing, "HubSpot answers 400"},
		{"nothing", hubspottest.Text(""), growing, "no page of events"},
		{"half a page", hubspottest.Text(`{"hasMore":false,"events":[{"id":`), growing, "no page of events"},
		{"another object", hubspottest.Text(`{"hasMore":false}`), growing, "events is missing"},
		{"no word of more", hubspottest.Text(`{"events":[]}`), growing, "hasMore is missing"},
		{"more, nobody knows where", hubspottest.Text(`{"events":[],"hasMore":true}`), growing, "offset is missing"},
		{"pages that do not go on", hubspottest.Text(`{"events":[],"hasMore":true,"offset":"a"}`), nil, "the offset is that of the page before"},
		{"a page without an end", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"hasMore":false,"events":["`+strings.Repeat("x", maxPage)+`"]}`)
		}, secs(1, 2), "more than 33554432 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			today(t, func(t *testing.T) {
				a, l := &hubspottest.Account{}, newLog(t)
				e := hubspottest.Event{ID: "e-1", Created: time.Now().Add(-2 * time.Hour)}
				a.Happen(e)
				l.settled = time.Now().Add(-170 * time.Minute)
				a.Fails(tt.fault)
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan struct{})
				p := l.puller(a)
				p.Client.CheckRedirect = p.Config.Client().CheckRedirect
				go func() {
					defer close(done)
					p.Run(ctx, l.settled)
				}()
				for i := range max(len(tt.pauses), 2) {
					if tt.pauses == nil { // it takes a second call
						time.Sleep(pace)
					}
					synctest.Wait()
					l.mu.Lock()
					told, pause := slices.Clone(l.told), l.pauses[len(l.pauses)-1]
					l.mu.Unlock()
					if len(told) != i+1 || told[i] == nil || !strings.Contains(told[i].Error(), tt.says) {
						t.Fatalf("round %d: got %v, want %q", i, told, tt.says)
					}
					if strings.Contains(told[i].Error(), "anna@") || strings.Contains(told[i].Error(), hubspottest.Token) {
						t.Errorf("it tells too much: %v", told[i])
					}
					if tt.pauses != nil && pause != tt.pauses[i] {
						t.Fatalf("pause %d is %v, want %v", i, pause, tt.pauses[i])
					}
					time.Sleep(pause - time.Millisecond)
					synctest.Wait()
					l.mu.Lock()
					again := len(l.told) != i+1
					l.mu.Unlock()
					if again {
						t.Fatalf("it was tried again within the pause %d", i)
					}
					time.Sleep(time.Millisecond)
				}
				l.mu.Lock()
				if len(l.ids) != 0 || !l.settled.Before(e.Created) {
					t.Errorf("something was appended, or is settled: %v, %v", l.ids, l.settled)
				}
				l.mu.Unlock()
				a.Fails(nil)
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				l.mu.Lock()
				if l.ids[idOf(e)] != 1 || l.told[len(l.told)-1] != nil {
					t.Errorf("HubSpot is back: appended %d times, %v", l.ids[idOf(e)], l.told[len(l.told)-1])
				}
				l.mu.Unlock()
				stop()
				<-done
			})
		})
	}
}

// A retry of what was not acknowledged has the same pauses, and HubSpot is not asked more often than its limits allow.
func TestNothingIsSettledBeforeItIsAcknowledged(t *testing.T) {
	today(t, func(t *testing.T) {
		a, l := &hubspottest.Account{}, newLog(t)
		e := hubspottest.Event{ID: "e-1", Created: time.Now().Add(-5 * time.Hour)}
		a.Happen(e)
		first := time.Now().Add(-6 * time.Hour)
		l.settled = first
		l.before = func(step string) error {
			if step == "append" {
				return errors.New("Kafka is away")
			}
			return nil
		}
		l.run(a, 2*time.Hour)
		if len(l.ids) != 0 || l.settled.Add(-time.Hour).After(e.Created) || len(a.Called()) > 100 {
			t.Errorf("%d events, settled %v, %d calls", len(l.ids), l.settled, len(a.Called()))
		}
		if l.settled.After(e.Created) {
			t.Errorf("settled is %v before the event of %v was acknowledged", l.settled, e.Created)
		}
		l.before = nil
		l.run(a, time.Minute)
		if l.ids[idOf(e)] != 1 || !l.settled.After(e.Created) {
			t.Errorf("appended %d times, settled %v", l.ids[idOf(e)], l.settled)
		}
	})
}
