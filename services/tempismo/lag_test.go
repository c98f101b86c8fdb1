package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
)

// TestLagTellsOfTopicsOfOthers: what ingest reads of others is listed beside what the services read.
func TestLagTellsOfTopicsOfOthers(t *testing.T) {
	brokers, store := embedded(t)
	r := newRedoRig(t, brokers, store, "lag-of-others", true)
	if err := r.log.Create(t.Context(), "shop.orders", 2, 1, nil); err != nil {
		t.Fatal(err)
	}
	out, err := kafka.NewWriter(t.Context(), r.log, stream.Run{ID: r.run.ID}) // which writes to names as they are
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.WriteAll(t.Context(), "shop.orders", []stream.Message{{Value: []byte("{}")}, {Value: []byte("{}")}, {Value: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "sources.yaml")
	if err := os.WriteFile(file, []byte("sources:\n- {name: shop, topic: shop.orders, kind: open, customer: /c, time: {field: /t}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	told, errs, code := tempismo(t, "lag", "--kafka-brokers", brokers, "--redis-addr", store, "--run", r.run.ID, "--sources", file)
	found := false
	for line := range strings.Lines(told) {
		if f := strings.Fields(line); f[0] == "ingest-shop" {
			found = fmt.Sprint(f[1:4]) == "[shop.orders 2 3]" && strings.Contains(line, "nothing read yet")
		}
	}
	if code != 0 || !found || !strings.Contains(told, "profiler") {
		t.Errorf("exit %d: %s%s", code, told, errs)
	}
	more := "sources:\n- {name: till, topic: till.receipts, kind: open, customer: /c, time: {field: /t}}\n- {name: shop, topic: shop.orders, kind: open, customer: /c, time: {field: /t}}\n"
	if err := os.WriteFile(file, []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	if told, errs, code := tempismo(t, "lag", "--kafka-brokers", brokers, "--redis-addr", store, "--run", r.run.ID, "--sources", file); code != 1 || !strings.Contains(told, "ingest-shop") || !strings.Contains(errs, "ingest-till") {
		t.Errorf("with a topic that is not there: exit %d: %s%s", code, told, errs)
	}
	if _, errs, code := tempismo(t, "lag", "--kafka-brokers", brokers, "--run", r.run.ID, "--sources", "no-such-file"); code != 2 || !strings.Contains(errs, "SOURCES") {
		t.Errorf("without the file: exit %d: %s", code, errs)
	}
}
