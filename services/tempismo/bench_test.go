package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tempismo/tempismo/services/tempismo/bench"
)

func TestBenchMeasuresTheDecider(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the decider")
	}
	alone(t)
	programs := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(programs, "decider"), "github.com/tempismo/tempismo/services/decider/cmd/decider").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var f bench.RequestFigures
	if err := json.Unmarshal([]byte(must(t, "bench", "--programs", programs, "--requests", "300", "--due", "0", "--partitions", "2", "--json")), &f); err != nil {
		t.Fatal(err)
	}
	if f.Requests != 300 || f.PerSecond <= 0 || f.State < 20 || f.Restart <= 0 || f.Due != 0 {
		t.Errorf("measured %+v", f)
	}
}
