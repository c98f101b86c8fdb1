package pkg_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// law is the order of the house: `a, b < c` means that c may import a and b (and what they may import). It is a
// statement of policy: do not change it to make a build pass. What no line allows is forbidden. "otel", "kong" and
// the like are third parties (a prefix of the import path); test files are free to import any third party, but keep the order inside.
const law = `
	NONE < domain/engagement;
	domain/engagement < domain/timing, domain/calendar;
	domain/calendar < domain/customer;
	domain/timing, domain/calendar < domain/deviation, domain/timing/fit;
	domain/deviation, domain/customer < domain/decision;

	NONE < topics, stream, outgoing;
	kong < config;
	stream, otel, prometheus < telemetry;
	config, telemetry < app;
	stream, topics, config, kafka-go, franz-go < kafka;
	stream, config, go-redis, miniredis < redis;
	stream < stream/streamtest;
`

// third names the third parties that the law speaks of.
var third = map[string]string{
	"kong":       "github.com/alecthomas/kong",
	"otel":       "go.opentelemetry.io/",
	"prometheus": "github.com/prometheus/",
	"kafka-go":   "github.com/segmentio/kafka-go",
	"franz-go":   "github.com/twmb/franz-go",
	"go-redis":   "github.com/redis/go-redis/",
	"miniredis":  "github.com/alicebob/miniredis/",
}

const module = "github.com/tempismo/tempismo/"

// parseLaw returns, for each package of the law, what it may import, transitively.
func parseLaw(t *testing.T) map[string][]string {
	t.Helper()
	allowed := map[string][]string{}
	for line := range strings.SplitSeq(law, ";") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		left, right, ok := strings.Cut(line, "<")
		if !ok {
			t.Fatalf("law: no < in %q", line)
		}
		for name := range strings.SplitSeq(right, ",") {
			name = strings.TrimSpace(name)
			for dep := range strings.SplitSeq(left, ",") {
				if dep = strings.TrimSpace(dep); dep != "NONE" {
					allowed[name] = append(allowed[name], dep)
					allowed[name] = append(allowed[name], allowed[dep]...) // lines stand in order
				}
			}
			if allowed[name] == nil {
				allowed[name] = []string{}
			}
		}
	}
	return allowed
}

// packages returns the import paths of each package under root by folder, tests apart.
func packages(t *testing.T, root string, each func(dir, file string, imports []string, doc string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		var imports []string
		for _, i := range f.Imports {
			imports = append(imports, strings.Trim(i.Path.Value, `"`))
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		each(filepath.ToSlash(dir), path, imports, f.Doc.Text())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func standard(path string) bool { return !strings.Contains(strings.SplitN(path, "/", 2)[0], ".") }

// impure are standard packages that a pure package has no business with.
var impure = []string{"os", "net", "net/http", "io/fs", "os/exec", "math/rand", "math/rand/v2", "crypto/rand", "database/sql", "log", "log/slog", "syscall", "testing"}

func TestLawOfDependencies(t *testing.T) {
	allowed := parseLaw(t)
	packages(t, ".", func(dir, file string, imports []string, _ string) {
		test := strings.HasSuffix(file, "_test.go")
		if dir == "." || dir == "domain" {
			return // tests of the whole: this one, and the contract test
		}
		may, ok := allowed[dir]
		if !ok {
			t.Errorf("%s: package %s is not in the law of dependencies: say where it stands", file, dir)
			return
		}
		for _, path := range imports {
			switch own := strings.TrimPrefix(path, module+"pkg/"); {
			case standard(path):
				if !test && strings.HasPrefix(dir, "domain/") && slices.Contains(impure, path) {
					t.Errorf("%s imports %s: the domain is pure", file, path)
				}
			case strings.HasPrefix(path, module+"services/"):
				t.Errorf("%s imports %s: no package of pkg imports a service", file, path)
			case own != path:
				if own != dir && !slices.Contains(may, own) && !(test && own == "stream/streamtest" && (dir == "stream" || slices.Contains(may, "stream"))) {
					t.Errorf("%s imports %s: the law allows %s only %v", file, own, dir, may)
				}
			case !test && dir != "stream/streamtest":
				if !slices.ContainsFunc(may, func(name string) bool { return third[name] != "" && strings.HasPrefix(path, third[name]) }) {
					t.Errorf("%s imports %s: the law allows %s no such third party", file, path, dir)
				}
			}
		}
	})
}

// The clock is an argument: a domain package that reads it gives another answer in a replay.
func TestDomainReadsNoClock(t *testing.T) {
	packages(t, "domain", func(_, file string, _ []string, _ string) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range []string{"time.Now(", "time.Since(", "time.Until(", "time.Sleep(", "time.After(", "go func("} {
			if strings.Contains(string(text), call) {
				t.Errorf("%s calls %s...): time is an input", file, call)
			}
		}
	})
}

func TestServicesDoNotKnowEachOther(t *testing.T) {
	packages(t, "../services", func(dir, file string, imports []string, _ string) {
		service := strings.SplitN(dir, "/", 2)[0]
		for _, path := range imports {
			other, ok := strings.CutPrefix(path, module+"services/")
			if ok && service != "tempismo" && strings.SplitN(other, "/", 2)[0] != service {
				t.Errorf("%s imports service %s: services meet on topics only", file, other)
			}
		}
	})
}

// A reader finds the room by its name, and its doc comment says what it is and what it is not.
func TestEveryPackageIntroducesItself(t *testing.T) {
	for _, root := range []string{".", "../services"} {
		docs := map[string]string{}
		packages(t, root, func(dir, file string, _ []string, doc string) {
			if !strings.HasSuffix(file, "_test.go") {
				docs[dir] += doc
			}
		})
		for dir, doc := range docs {
			if len(strings.Fields(doc)) < 8 && !strings.Contains(dir, "cmd/") {
				t.Errorf("%s/%s: no package comment that says what it is", root, dir)
			}
			name := filepath.Base(dir)
			if slices.Contains([]string{"util", "utils", "common", "helpers", "base", "misc"}, name) {
				t.Errorf("%s/%s: a room named %s holds anything: name what it holds", root, dir, name)
			}
		}
	}
}
