package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Health is what a service knows about its readiness: one state for each component that has to work, e.g. kafka, store,
// assignment. The zero value is "starting": not ready until a component is set, and as long as one of them is not ok. A
// nil *Health swallows everything.
type Health struct {
	mu         sync.Mutex
	components map[string]func() Component
}

// Component is the state of one part of a service.
type Component struct {
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // for people; never personal data
}

// Set notes the state of a component.
func (h *Health) Set(component string, ok bool, detail string) {
	h.Func(component, func() Component { return Component{ok, detail} })
}

// Func lets state answer for a component whenever somebody asks. It must answer at once.
func (h *Health) Func(component string, state func() Component) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.components == nil {
		h.components = map[string]func() Component{}
	}
	h.components[component] = state
}

// State returns whether every component is ok, and each of them.
func (h *Health) State() (ready bool, components map[string]Component) {
	components = map[string]Component{}
	if h == nil {
		return false, components
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	ready = len(h.components) > 0
	for name, state := range h.components {
		c := state()
		components[name] = c
		ready = ready && c.OK
	}
	return ready, components
}

// Handler serves /livez (200 as long as the process serves at all) and /readyz (200 or 503, with the components).
func (h *Health) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ready, components := h.State()
		w.Header().Set("Content-Type", "application/json")
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"ready": ready, "components": components}) // the caller is gone
	})
	return mux
}

// ready asks the instance at admin, a listen address, whether it is ready: the health check of an image without a shell.
func ready(ctx context.Context, admin string, stderr io.Writer) int {
	host, port, err := net.SplitHostPort(admin)
	if err != nil {
		fmt.Fprintf(stderr, "ADMIN_LISTEN: %v\n", err)
		return exitUsage
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost" // a listener on every address is asked on the nearest
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	// The instance is asked itself, and no proxy of the environment.
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		fmt.Fprintf(stderr, "not ready: %v\n", err)
		return exitFailed
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // whatever arrived is better than nothing
		fmt.Fprintf(stderr, "not ready: %s\n", body)
		return exitFailed
	}
	return exitOK
}
