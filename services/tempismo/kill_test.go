package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/profiler"
)

// The profiler is killed while it works, KILL_RUNS times at moments that KILL_SEED draws. Whatever it had begun, the
// profiles and the deviations are in the end those of an import that nobody disturbed.
func TestKill(t *testing.T) {
	kills, seed := killPlan(t)
	built := build(t)
	broker := spawn(t, built, nil, "tempismo", "broker", "--data", t.TempDir(), "--run", killRun, "--simulated")
	env := map[string]string{}
	lines := bufio.NewScanner(broker.stdout)
	for len(env) < 2 && lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			env[name] = value
		}
	}
	if len(env) < 2 {
		t.Fatal("the broker did not tell its addresses")
	}
	killTheProfiler(t, built, env["KAFKA_BROKERS"], env["REDIS_ADDR"], kills, seed)
}

func TestRealKill(t *testing.T) {
	if os.Getenv("TEMPISMO_REAL") == "" {
		t.Skip("needs Apache Kafka and Redis: run it with scripts/kill")
	}
	kills, seed := killPlan(t)
	killTheProfiler(t, build(t), os.Getenv("KAFKA_BROKERS"), os.Getenv("REDIS_ADDR"), kills, seed)
}

const killRun = "kill"

func killPlan(t *testing.T) (kills int, seed uint64) {
	kills, _ = strconv.Atoi(os.Getenv("KILL_RUNS"))
	if kills == 0 {
		t.Skip("takes a session timeout for every kill: run it with scripts/kill")
	}
	seed, _ = strconv.ParseUint(os.Getenv("KILL_SEED"), 10, 64)
	return kills, seed
}

// build compiles the programs that run as processes of their own.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, pkg := range map[string]string{"tempismo": "tempismo", "profiler": "profiler/cmd/profiler", "detector": "detector/cmd/detector", "decider": "decider/cmd/decider"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), "github.com/tempismo/tempismo/services/"+pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	return dir
}

// process is a program that runs.
type process struct {
	*exec.Cmd
	stdout *os.File
	stderr *bytes.Buffer
	done   chan struct{}
	err    error // once done is closed
}

// spawn starts a program, with nothing of Kafka and Redis in its environment but what env says; it is killed at the
// latest when the test ends.
func spawn(t *testing.T, built string, env map[string]string, name string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(filepath.Join(built, name), args...), stderr: new(bytes.Buffer), done: make(chan struct{})}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KAFKA_") && !strings.HasPrefix(v, "REDIS_") && !strings.HasPrefix(v, "RUN_") {
			p.Env = append(p.Env, v)
		}
	}
	for k, v := range env {
		p.Env = append(p.Env, k+"="+v)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout, p.Stdout, p.Stderr = r, w, p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() { p.err = p.Wait(); close(p.done) }()
	t.Cleanup(func() { p.kill(); r.Close() })
	return p
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	p.Process.Signal(syscall.SIGKILL)
	<-p.done
}

func killTheProfiler(t *testing.T, built, brokers, redisAddr string, kills int, seed uint64) {
	run := stream.Run{ID: killRun, Simulated: true}
	mapping := opens(t)

	// What nobody disturbs: everything in one process, on an embedded pair of its own.
	calm := t.TempDir()
	output(t, built, nil, append([]string{"import"}, append(mapping, "--run", killRun, "--data", calm, "--json")...)...)
	var want [2]string
	for i, what := range dumps {
		want[i] = output(t, built, nil, append([]string{"dump"}, append(what, "--run", killRun, "--data", calm)...)...)
		if len(want[i]) == 0 {
			t.Fatalf("dump %v is empty: nothing would be compared", what)
		}
	}

	// The same with the services in processes of their own, and small batches, so that there is much to interrupt.
	env := map[string]string{"KAFKA_BROKERS": brokers, "REDIS_ADDR": redisAddr, "RUN_ID": killRun, "RUN_MODE": "simulated", "MODEL": "builtin.1", "ADMIN_LISTEN": "", "BATCH_RECORDS": "4"}
	ctx := context.Background()
	config := kafka.Config{Brokers: strings.Split(brokers, ",")}
	if err := kafka.EnsureTopics(ctx, config, run, 8); err != nil {
		t.Fatal(err)
	}
	spawn(t, built, env, "detector")
	spawn(t, built, env, "decider")
	importer := spawn(t, built, map[string]string{"KAFKA_BROKERS": brokers, "REDIS_ADDR": redisAddr}, "tempismo",
		append([]string{"import"}, append(mapping, "--run", killRun, "--no-services", "--json")...)...)

	random := rand.New(rand.NewPCG(seed, 1))
	inWork := 0
	for n := range kills {
		p := spawn(t, built, env, "profiler")
		before := behind(t, ctx, config, run)
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			if now := behind(t, ctx, config, run); now < before {
				break // it works
			} else if now > before {
				before = now // the import still writes
			}
			if done(p) {
				t.Fatalf("the profiler ended by itself: %v\n%s", p.err, p.stderr)
			}
			if time.Now().After(deadline) {
				t.Fatalf("kill %d: the profiler does not get on, %d records behind\n%s", n, before, p.stderr)
			}
		}
		time.Sleep(time.Duration(random.Int64N(int64(60 * time.Millisecond))))
		p.kill()
		left := behind(t, ctx, config, run)
		t.Logf("kill %d: %d records were left", n+1, left)
		if left == 0 {
			break
		}
		inWork++
	}
	if inWork == 0 {
		t.Error("no kill came while there was work")
	}
	last := spawn(t, built, env, "profiler")
	select {
	case <-importer.done:
		if importer.err != nil {
			t.Fatalf("import: %v\n%s", importer.err, importer.stderr)
		}
	case <-last.done:
		t.Fatalf("the profiler ended by itself: %v\n%s", last.err, last.stderr)
	case <-time.After(3 * time.Minute):
		t.Fatalf("the pipeline does not drain: %d records behind", behind(t, ctx, config, run))
	}
	for i, what := range dumps {
		got := output(t, built, map[string]string{"KAFKA_BROKERS": brokers, "REDIS_ADDR": redisAddr}, append([]string{"dump"}, append(what, "--run", killRun, "--run-mode", "simulated")...)...)
		if got != want[i] {
			t.Errorf("dump %v differs from that of the undisturbed import: %s", what, firstDifference(want[i], got))
		}
	}
	t.Logf("%d kills while there was work; %d bytes of dumps are identical", inWork, len(want[0])+len(want[1]))
}

// dumps are what is compared. A repeated publication upstream shifts offsets, and with them the sequence of what follows.
var dumps = [2][]string{{"profiles"}, {"timing.deviations.v1", "--dedupe", "--without", "sequence"}}

func done(p *process) bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// behind is how many events the profiler has not acknowledged.
func behind(t *testing.T, ctx context.Context, config kafka.Config, run stream.Run) (n int64) {
	t.Helper()
	lags, err := kafka.Lag(ctx, config, run, []string{profiler.Service})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lags {
		n += l.Records
	}
	return n
}

// output runs the command to its end.
func output(t *testing.T, built string, env map[string]string, args ...string) string {
	t.Helper()
	p := exec.Command(filepath.Join(built, "tempismo"), args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KAFKA_") && !strings.HasPrefix(v, "REDIS_") && !strings.HasPrefix(v, "RUN_") {
			p.Env = append(p.Env, v)
		}
	}
	for k, v := range env {
		p.Env = append(p.Env, k+"="+v)
	}
	var stderr bytes.Buffer
	p.Stderr = &stderr
	out, err := p.Output()
	if err != nil {
		t.Fatalf("tempismo %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// opens is a file to import, with its mapping: the sample data where they are at hand, and else opens of people who have
// an hour of their own, some of whom have a day of many.
func opens(t *testing.T) []string {
	mapping := []string{"--customer", "user_id", "--time", "opened", "--kind", "open", "--zone", "Europe/Brussels"}
	if data := os.Getenv("TEMPISMO_DATA"); data != "" {
		return append([]string{filepath.Join(data, "engagement", "outspot_opens.csv")}, mapping...)
	}
	random := rand.New(rand.NewPCG(7, 7))
	var b bytes.Buffer
	b.WriteString("user_id,opened\n")
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for c := range 400 {
		hour := 6 + random.IntN(15)
		for day := range 120 {
			if random.IntN(5) < 2 {
				fmt.Fprintf(&b, "c%d,%d\n", c, start.AddDate(0, 0, day).Add(time.Duration(hour*3600+random.IntN(7200))*time.Second).Unix())
			}
		}
		if c%40 == 0 {
			for h := 8; h < 20; h++ {
				fmt.Fprintf(&b, "c%d,%d\n", c, start.AddDate(0, 0, 120).Add(time.Duration(h)*time.Hour).Unix())
			}
		}
	}
	file := filepath.Join(t.TempDir(), "opens.csv")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return append([]string{file}, mapping...)
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d of %d and %d:\n  undisturbed: %.300s\n  disturbed:   %.300s", i+1, len(w), len(g), w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}
