package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tempismo/tempismo/pkg/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type sample struct {
	Size int `name:"size" env:"SIZE" default:"7"`
}

func (c sample) Validate() error {
	if c.Size < 0 {
		return errors.New("SIZE: give a number from 0 on")
	}
	return nil
}

// lines is a writer for several goroutines.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func noEnv(string) (string, bool) { return "", false }

func TestProcess(t *testing.T) {
	never := func(context.Context, sample, Settings) error { return errors.New("must not run") }
	for _, c := range []struct {
		name, args string
		run        func(context.Context, sample, Settings) error
		code       int
		says       string
	}{
		{"a bad configuration exits 2 and says what is wrong", "--size=-1", never, exitUsage, "SIZE: give a number from 0 on"},
		{"an unknown flag exits 2", "--sise=1", never, exitUsage, "unknown flag --sise"},
		{"several problems are listed together", "--size=-1 --trace-sample=2", never, exitUsage, "TRACE_SAMPLE: 2"},
		{"--validate starts nothing", "--validate", never, exitOK, "the configuration is valid"},
		{"--validate finds what is wrong", "--validate --size=-1", never, exitUsage, "SIZE"},
		{"--version prints it", "--version --size=-1", never, exitOK, "sample "},
		{"a service that fails exits 1 and logs why", "--admin-listen=", func(context.Context, sample, Settings) error { return errors.New("no broker") }, exitFailed, "no broker"},
		{"a service that is done exits 0", "--admin-listen=127.0.0.1:0 --size=3", func(_ context.Context, c sample, s Settings) error {
			if c.Size != 3 || s.Log == nil || s.Telemetry == nil || s.Health == nil {
				return errors.New("not what was configured")
			}
			return nil
		}, exitOK, `"service":"sample"`},
		{"an occupied admin port is an error that names the setting", "--admin-listen=256.0.0.1:1", never, exitFailed, "choose another ADMIN_LISTEN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out lines
			if code := process(t.Context(), "sample", strings.Fields(c.args), noEnv, &out, &out, c.run); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !strings.Contains(out.String(), c.says) {
				t.Errorf("it does not say %q:\n%s", c.says, &out)
			}
		})
	}
}

func TestTheAdminListenerTellsHealthAndMetrics(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()

	ctx, stop := context.WithCancel(t.Context())
	set := make(chan Settings)
	code := make(chan int)
	var out lines
	go func() {
		code <- process(ctx, "sample", []string{"--admin-listen=" + addr}, noEnv, &out, &out, func(ctx context.Context, _ sample, s Settings) error {
			o, err := s.Observer("sample")
			if err != nil {
				return err
			}
			o.Batch(&stream.Report{Records: 12, Start: time.Now(), Inputs: []stream.InputReport{{Topic: "engagement.events.v1", Records: 12}}})
			set <- s
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	s := <-set
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	check := func(want int) {
		t.Helper()
		if got := process(ctx, "sample", []string{"--admin-listen=" + addr, "--health", "--size=-1"}, noEnv, io.Discard, io.Discard,
			func(context.Context, sample, Settings) error { return nil }); got != want {
			t.Errorf("--health exits %d, want %d", got, want)
		}
	}

	if got, _ := get("/livez"); got != http.StatusOK {
		t.Errorf("/livez answers %d", got)
	}
	s.Health.Set("kafka", true, "")
	s.Health.Func("stream", func() Component { return Component{OK: true} })
	if got, body := get("/readyz"); got != http.StatusOK {
		t.Errorf("/readyz answers %d: %s", got, body)
	}
	check(exitOK)
	s.Health.Set("kafka", false, "no broker answers")
	if got, body := get("/readyz"); got != http.StatusServiceUnavailable || !strings.Contains(body, "no broker answers") {
		t.Errorf("/readyz of a service without its broker answers %d: %s", got, body)
	}
	check(exitFailed)
	if _, body := get("/metrics"); !strings.Contains(body, `messaging_client_consumed_messages_total{messaging_destination_name="engagement.events.v1",tempismo_service="sample"} 12`) {
		t.Errorf("/metrics does not show the batch:\n%s", body)
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if got := <-code; got != exitOK {
		t.Errorf("stopped by a signal it exits %d: %s", got, &out)
	}
	check(exitFailed)
	for line := range strings.Lines(out.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("logged something that is not JSON: %s", line)
		}
	}
}

func TestHealthIsNotReadyBeforeItsFirstComponent(t *testing.T) {
	rec := httptest.NewRecorder()
	(&Health{}).Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if rec.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d, want 503", rec.Code)
	}
	(*Health)(nil).Set("anything", true, "") // a service without health must not care
}

func TestStreamHealth(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, c := range []struct {
		name   string
		events func(stream.Observer)
		ready  bool
	}{
		{"without a partition it is not ready", func(stream.Observer) {}, false},
		{"with one it is", func(o stream.Observer) { o.Owned(3, true) }, true},
		{"having lost it it is not", func(o stream.Observer) { o.Owned(3, true); o.Owned(3, false) }, false},
		{"far behind it is not", func(o stream.Observer) { o.Owned(3, true); o.Batch(&stream.Report{Partition: 3, Lag: 2 * time.Minute}) }, false},
		{"having caught up it is", func(o stream.Observer) {
			o.Owned(3, true)
			o.Batch(&stream.Report{Partition: 3, Lag: 2 * time.Minute})
			o.Batch(&stream.Report{Partition: 3})
		}, true},
		{"retrying it is not", func(o stream.Observer) { o.Owned(3, true); o.Retry(3, "commit", errors.New("timeout")) }, false},
		{"half a minute after the last retry it is", func(o stream.Observer) {
			o.Owned(3, true)
			o.Retry(3, "commit", errors.New("timeout"))
			now = now.Add(retrying)
		}, true},
		{"with an alarm it is not", func(o stream.Observer) { o.Owned(3, true); o.Alarm(3, stream.AlarmRange, true) }, false},
		{"until every partition has ended it", func(o stream.Observer) {
			o.Owned(3, true)
			o.Alarm(3, stream.AlarmLost, true)
			o.Alarm(4, stream.AlarmLost, true)
			o.Alarm(3, stream.AlarmLost, false)
		}, false},
		{"then it is again", func(o stream.Observer) {
			o.Owned(3, true)
			o.Alarm(3, stream.AlarmLost, true)
			o.Alarm(3, stream.AlarmLost, false)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Settings{}.WithDefaults()
			o, err := s.Observer("sample")
			if err != nil {
				t.Fatal(err)
			}
			o.(*streamHealth).now = func() time.Time { return now }
			c.events(o)
			if ready, components := s.Health.State(); ready != c.ready {
				t.Errorf("ready is %t: %+v", ready, components)
			}
		})
	}
}

func TestGroup(t *testing.T) {
	wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

	t.Run("a failure stops the others, the last first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var order []string
			noting := func(name string) func(context.Context) error {
				return func(ctx context.Context) error {
					<-ctx.Done()
					time.Sleep(time.Second)
					order = append(order, name)
					return nil
				}
			}
			boom := errors.New("boom")
			err := Group(t.Context(), noting("first"), noting("second"), func(context.Context) error { return boom })
			if !errors.Is(err, boom) || strings.Join(order, " ") != "second first" {
				t.Errorf("got %v after stopping %v", err, order)
			}
		})
	})
	t.Run("one that is done lets the others work, and all done is done", func(t *testing.T) {
		release := make(chan struct{})
		err := Group(t.Context(), func(context.Context) error { close(release); return nil }, func(context.Context) error { <-release; return nil })
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("the end of the context is no error", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Group(ctx, wait, wait); err != nil {
			t.Error(err)
		}
	})
	t.Run("what does not stop is left behind after the deadline and named", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			hang := make(chan struct{})
			start := time.Now()
			err := Group(ctx, wait, func(context.Context) error { <-hang; return nil })
			if err == nil || !strings.Contains(err.Error(), "function 1 of the group") || time.Since(start) != StopTimeout {
				t.Errorf("got %v after %s", err, time.Since(start))
			}
			close(hang)
		})
	})
}

func TestServeLetsRequestsFinish(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- Serve(ctx, ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			stop() // the order to stop comes while a request is being answered
			io.WriteString(w, "answered")
		}))
	}()
	resp, err := http.Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "answered" {
		t.Errorf("got %q", b)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
