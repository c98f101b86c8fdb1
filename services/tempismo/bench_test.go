package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tempismo/tempismo/services/tempismo/bench"
)

// program builds a command into a new folder.
func program(t *testing.T, name, pkg string) (dir string) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds a program")
	}
	dir = t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func TestBenchMeasuresTheDecider(t *testing.T) {
	alone(t)
	programs := program(t, "decider", "github.com/tempismo/tempismo/services/decider/cmd/decider")
	var f bench.RequestFigures
	if err := json.Unmarshal([]byte(must(t, "bench", "--programs", programs, "--requests", "300", "--due", "0", "--partitions", "2", "--json")), &f); err != nil {
		t.Fatal(err)
	}
	if f.Requests != 300 || f.PerSecond <= 0 || f.State < 20 || f.Restart <= 0 || f.Due != 0 {
		t.Errorf("measured %+v", f)
	}
}

// TestBenchMeasuresIngest: every provider's requests are verified and taken, and have their figures beside those of the bare endpoint.
func TestBenchMeasuresIngest(t *testing.T) {
	alone(t)
	var f bench.IngestFigures
	out := must(t, "bench", "--programs", program(t, "tempismo", "."), "--ingest", "--customers", "50", "--partitions", "2", "--connections", "2", "--rounds", "2", "--slice", "50ms", "--settle", "0", "--json")
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Bare) != 2 || len(f.Providers) != 10 || f.Rounds != 2 {
		t.Fatalf("measured %s", out)
	}
	for _, r := range append(f.Bare, f.Providers...) {
		if r.PerSecond <= 0 || r.Bytes < 200 || (r.Speed == nil) != (r.Sender == bench.Bare) {
			t.Errorf("measured %+v", r)
		}
	}
}

// TestBenchMeasuresEveryPart holds the keys of the JSON object, which others read.
func TestBenchMeasuresEveryPart(t *testing.T) {
	alone(t)
	programs, profiles := program(t, "tempismo", "."), t.TempDir()
	out := must(t, "bench", "--programs", programs, "--profiles", profiles, "--events", "20000", "--customers", "500", "--partitions", "2", "--rate", "1000", "--settle", "1", "--seconds", "2", "--json")
	var f struct {
		Profile struct {
			Events int64   `json:"events"`
			Rate   float64 `json:"events_per_s"`
			CPU    struct {
				Service float64 `json:"service"`
			} `json:"cpu_s_per_million"`
			Outputs int64 `json:"outputs"`
		} `json:"profile"`
		Limit struct {
			Rate float64 `json:"events_per_s"`
		} `json:"limit"`
		Light struct {
			Rate    float64 `json:"events_per_s"`
			Outputs int64   `json:"outputs"`
		} `json:"light"`
		State   float64 `json:"state_bytes_per_customer"`
		Rebuild float64 `json:"rebuild_s"`
		Latency struct {
			Scored struct {
				P50  float64 `json:"p50"`
				P99  float64 `json:"p99"`
				P999 float64 `json:"p99_9"`
			} `json:"scored"`
			Deviation struct {
				Count int `json:"count"`
			} `json:"deviation"`
			Decision struct {
				Count int `json:"count"`
			} `json:"decision"`
		} `json:"latency_ms"`
	}
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		t.Fatal(err)
	}
	if f.Profile.Events != 20_002 || f.Profile.Rate <= 0 || f.Limit.Rate <= 0 || f.Light.Rate <= 0 || f.Light.Outputs <= 2 || f.Profile.Outputs <= 2 ||
		f.State < 30 || f.Rebuild <= 0 || f.Latency.Scored.P50 <= 0 || f.Latency.Scored.P999 < f.Latency.Scored.P99 || f.Latency.Deviation.Count == 0 || f.Latency.Decision.Count == 0 {
		t.Errorf("measured %s", out)
	}
	if files, _ := filepath.Glob(filepath.Join(profiles, "*.pprof")); len(files) < 4 {
		t.Errorf("profiles: %v", files)
	}
}
