package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Sabotage takes one rule out of the programs, by another text for some of their files: the checker must notice.
type Sabotage struct {
	Name    string
	Row     string   // of the fault matrix, in which it shows
	Runs    int      // injections of a round after which it does; a store that comes back empty heals what was wrong
	changes []Change // in module pkg
}

// Change replaces a text in a file of a module.
type Change struct{ File, Old, With string }

// Sabotages are all.
var Sabotages = []Sabotage{
	{"fence", "2", 4, []Change{
		{"redis/lease.go", "if m[1] ~= ARGV[1] then return {-1} end\n", ""},
		{"redis/lease.go", "\tif v[0] != l.token {\n\t\treturn \"\", stream.ErrFenced\n\t}\n", ""},
	}},
	{"compare-and-set", "7", 3, []Change{
		{"redis/lease.go", "local at = m[2] or ''\n", "local at = ARGV[2]\n"},
		{"redis/lease.go", "\t\t\talready = true\n\t\tdefault:\n\t\t\treturn stream.ErrOffset\n", "\t\t\talready = true\n"},
	}},
	{"outbox", "1", 10, []Change{
		{"stream/worker.go", "\tif err := w.deliverAgain(m.Outbox); err != nil {\n\t\treturn err\n\t}\n", ""},
	}},
	{"position-filter", "1", 15, []Change{
		{"stream/step.go", "\tif !fresh {\n", "\tif !fresh && len(sequence) == 0 {\n"},
	}},
}

// Overlay writes what `go build -overlay` takes into dir and returns its path.
func (s *Sabotage) Overlay(dir string) (path string, err error) {
	return Overlay(dir, s.Name, "pkg", s.changes)
}

// Overlay writes changes to files of a module into dir, for a sabotage of that name, and returns the path of what
// `go build -overlay` takes. It fails where a text to be replaced is not found exactly once: the program has changed, and the
// sabotage must follow.
func Overlay(dir, name, module string, changes []Change) (path string, err error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tempismo/tempismo/"+module).Output() //nolint:noctx // it ends by itself
	if err != nil {
		return "", fmt.Errorf("find the source: %w", err)
	}
	replace := map[string]string{}
	for _, c := range changes {
		original := filepath.Join(strings.TrimSpace(string(root)), filepath.FromSlash(c.File))
		from := original
		if changed, again := replace[original]; again {
			from = changed
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(text), c.Old); n != 1 {
			return "", fmt.Errorf("sabotage %s: %s holds %q %d times, not once: the rule has moved, say where it is now", name, c.File, c.Old, n)
		}
		changed := filepath.Join(dir, name+"-"+filepath.Base(c.File))
		if err := os.WriteFile(changed, []byte(strings.Replace(string(text), c.Old, c.With, 1)), 0o644); err != nil { //nolint:gosec // source code
			return "", err
		}
		replace[original] = changed
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, name+"-overlay.json")
	return path, os.WriteFile(path, b, 0o644) //nolint:gosec // no secret
}
