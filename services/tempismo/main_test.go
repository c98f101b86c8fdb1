package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// tempismo runs a command as a user would.
func tempismo(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(args, &out, &err)
	return out.String(), err.String(), code
}

// must runs a command that has to succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, code := tempismo(t, args...)
	if code != 0 {
		t.Fatalf("tempismo %s: exit code %d: %s", strings.Join(args, " "), code, errs)
	}
	return out
}

// alone takes everything out of the environment that would lead a test to somebody else's system.
func alone(t *testing.T) {
	t.Helper()
	for _, name := range []string{"KAFKA_BROKERS", "REDIS_ADDR", "RUN_ID", "RUN_MODE", "WEBHOOK_URL"} {
		if v, ok := os.LookupEnv(name); ok {
			os.Unsetenv(name)
			t.Cleanup(func() { os.Setenv(name, v) })
		}
	}
	t.Setenv("XDG_STATE_HOME", t.TempDir())
}

// TestExamples holds every command to its --help: there is an example, and its command line is accepted.
func TestExamples(t *testing.T) {
	alone(t)
	k, err := parser(new(commands), io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		for _, child := range n.Children {
			visit(child)
		}
		if n.Type != kong.CommandNode {
			return
		}
		t.Run(strings.ReplaceAll(n.FullPath(), " ", "_"), func(t *testing.T) {
			help, _, code := tempismo(t, append(strings.Fields(n.FullPath())[1:], "--help")...)
			if code != 0 {
				t.Fatalf("--help ends with %d", code)
			}
			lines := regexp.MustCompile(`(?m)^\s+tempismo (.+)$`).FindAllStringSubmatch(n.Detail, -1)
			if len(lines) == 0 || !strings.Contains(help, "Example") {
				t.Fatalf("no example in the help:\n%s", help)
			}
			for _, l := range lines {
				for _, command := range strings.Split(l[1], ";") {
					command = strings.TrimPrefix(strings.TrimSpace(command), "tempismo ")
					if strings.HasPrefix(command, "cmp ") {
						continue
					}
					args := regexp.MustCompile(`>\S+`).ReplaceAllString(command, "")
					if _, err := k.Parse(strings.Fields(args)); err != nil {
						t.Errorf("tempismo %s: %v", command, err)
					}
				}
			}
		})
	}
	visit(k.Model.Node)
}

func TestCommandLinesThatCannotBeUsed(t *testing.T) {
	alone(t)
	for _, c := range []struct{ sentence, args, want string }{
		{"one address is not enough to run the services", "up --kafka-brokers localhost:9092", "give both addresses"},
		{"a data folder is for embedded systems", "lag --kafka-brokers localhost:9092 --data x", "leave it out"},
		{"an import lies in the past", "import x.csv --run-mode live", "simulated run"},
		{"services elsewhere need an elsewhere", "import x.csv --no-services", "needs a running system"},
		{"a replay goes to one place", "replay", "either --out FILE or --into RUN"},
		{"a replay's range is a position", "replay --out x --from yesterday", `"yesterday" is neither start, end, an offset nor a time`},
		{"a topic is one that is declared", "replay nothing.v1 --out x", `there is no topic "nothing.v1"`},
		{"an erasure is of the past", "erase anna --before 2999-01-01T00:00:00Z", "has not come yet"},
		{"an erasure is of a time", "erase anna --before yesterday", "is no time such as"},
		{"a run's id is checked", "replay --into Bad_ID", "Bad_ID"},
		{"a model needs customers", "models train --sample-customers 3", "SAMPLE_CUSTOMERS"},
		{"a demo has people", "up --demo --customers 0", "--customers"},
		{"only two topics are told in words", "watch digests", "must be one of"},
		{"a simulation tests after it was quiet", "simulate --out x --weeks 8 --quiet-weeks 8", "--quiet-weeks"},
		{"a story is one that is told", "simulate --out x --story nobody", "nobody is called \"nobody\""},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			if _, errs, code := tempismo(t, strings.Fields(c.args)...); code != 2 || !strings.Contains(errs, c.want) {
				t.Errorf("exit code %d, want 2; %q, want something with %q", code, errs, c.want)
			}
		})
	}
}

func TestWithoutASystemCommandsSayHowToGetOne(t *testing.T) {
	alone(t)
	_, errs, code := tempismo(t, "lag")
	if code != 1 || !strings.Contains(errs, "tempismo up --demo") {
		t.Errorf("exit code %d, %q", code, errs)
	}
	_, errs, code = tempismo(t, "dump", "profiles", "--data", t.TempDir())
	if code != 1 || !strings.Contains(errs, "is no data folder") {
		t.Errorf("exit code %d, %q", code, errs)
	}
}
