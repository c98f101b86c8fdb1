package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestBenchMeasuresTheDecider(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the decider")
	}
	alone(t)
	program := filepath.Join(t.TempDir(), "decider")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/tempismo/tempismo/services/decider/cmd/decider").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var f figures
	if err := json.Unmarshal([]byte(must(t, "bench", "--decider", program, "--requests", "300", "--due", "0", "--partitions", "2", "--json")), &f); err != nil {
		t.Fatal(err)
	}
	if f.Requests != 300 || f.PerSecond <= 0 || f.State < 20 || f.Restart <= 0 || f.Due != 0 {
		t.Errorf("measured %+v", f)
	}
}
