package topics

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The architecture's table and the README's are what people read; the declaration is what runs. They say the same.
func TestDocumentsShowTheDeclaredTopics(t *testing.T) {
	for _, doc := range []string{"../../docs/architecture.md", "../../README.md"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range All {
			row := ""
			for line := range strings.Lines(string(text)) {
				if strings.HasPrefix(line, "| `"+topic.Name+"` |") {
					row = line
				}
			}
			if row == "" {
				t.Errorf("%s: no row for %s", doc, topic.Name)
				continue
			}
			cells := strings.Split(row, "|")
			for _, writer := range topic.Writers {
				if !strings.Contains(cells[2], writer) {
					t.Errorf("%s: %s is written by %s, the row says %s", doc, topic.Name, writer, cells[2])
				}
			}
			if got, want := strings.TrimSpace(cells[3]), strings.Join(topic.Readers, ", "); got != want {
				t.Errorf("%s: %s is read by %q, the row says %q", doc, topic.Name, want, got)
			}
			retention := fmt.Sprintf("%d days", int(topic.Retention.Hours()/24))
			if topic.Kind == Table {
				retention = "last of each key"
			}
			if len(cells) > 5 && !strings.Contains(cells[4], retention) {
				t.Errorf("%s: %s is kept %s, the row says %s", doc, topic.Name, retention, cells[4])
			}
		}
	}
}

func TestTopicNamesAreUniqueAndVersioned(t *testing.T) {
	seen := map[string]bool{}
	for _, topic := range All {
		if seen[topic.Name] || !strings.HasSuffix(topic.Name, ".v1") || (topic.Retention <= 0) != (topic.Kind == Table) {
			t.Errorf("topic %+v: a name of its own with a version, and a retention unless it is a table", topic)
		}
		seen[topic.Name] = true
	}
}
