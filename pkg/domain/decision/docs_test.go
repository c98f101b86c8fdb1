package decision

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocsNameTheStories holds docs/decisions.md and the stories together: every story stands in a table, every story that a table
// names exists, and for every rule that can forbid a send a story of its line shows that it does.
func TestDocsNameTheStories(t *testing.T) {
	text, err := os.ReadFile("../../../docs/decisions.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	stories := map[string]string{}
	for _, file := range files {
		story, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stories[strings.TrimSuffix(filepath.Base(file), ".txt")] = string(story)
	}
	quoted := regexp.MustCompile("`([a-z_]+)`")
	named := map[string]bool{}
	shown := map[string]bool{} // rules
	for line := range strings.SplitSeq(string(text), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "| ") || cells[len(cells)-1] == "stories" {
			continue
		}
		first := quoted.FindStringSubmatch(cells[0])
		for _, s := range quoted.FindAllStringSubmatch(cells[len(cells)-1], -1) {
			named[s[1]] = true
			story, ok := stories[s[1]]
			if !ok {
				t.Errorf("there is no story %s", s[1])
			}
			if first != nil && strings.Contains(story, "against it: "+first[1]+":") {
				shown[first[1]] = true
			}
		}
	}
	for s := range stories {
		if !named[s] {
			t.Errorf("no table of docs/decisions.md names the story %s", s)
		}
	}
	source, err := os.ReadFile("wire.go")
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile(`(?m)^\tRule[A-Za-z]+ += "([a-z_]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(rules) < 14 {
		t.Fatalf("only %d rules were found", len(rules))
	}
	for _, r := range rules {
		if choosing := slices.Contains([]string{RuleLead, RuleThreshold}, r[1]); !choosing && !shown[r[1]] {
			t.Errorf("no story of its line in docs/decisions.md shows that %s forbids anything", r[1])
		}
		if !strings.Contains(string(text), "\n| `"+r[1]+"` | ") {
			t.Errorf("docs/decisions.md has no line for the rule %s", r[1])
		}
	}
}
