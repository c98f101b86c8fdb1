package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type broker struct {
	Addrs    []string `name:"addrs" env:"ADDRS" default:"localhost:9092"`
	Password Secret   `name:"password" env:"PASSWORD"`
}

func (b broker) Validate() error {
	if len(b.Addrs) == 0 {
		return errors.New("BROKER_ADDRS: give at least one")
	}
	return nil
}

type sample struct {
	Broker broker        `embed:"" prefix:"broker-" envprefix:"BROKER_"`
	Run    Run           `embed:"" prefix:"run-" envprefix:"RUN_"`
	Every  time.Duration `name:"every" env:"EVERY" default:"3s" help:"How often."`
	Size   int           `name:"size" env:"SIZE" default:"7" placeholder:"COUNT" help:"How much."`
	Hidden string        `name:"plain"`
}

func env(pairs ...string) Lookup {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func TestParse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	usual := sample{Broker: broker{Addrs: []string{"localhost:9092"}}, Run: Run{ID: "r1", Mode: "live"}, Every: 3 * time.Second, Size: 7}
	with := func(f func(*sample)) sample {
		c := usual
		f(&c)
		return c
	}
	for _, c := range []struct {
		name string
		args []string
		env  Lookup
		want sample
	}{
		{"nothing given leaves the defaults", nil, env(), usual},
		{"the environment goes before the default", nil, env("SIZE", "8", "EVERY", "1m", "RUN_MODE", "simulated"), with(func(c *sample) { c.Size, c.Every, c.Run.Mode = 8, time.Minute, "simulated" })},
		{"a flag goes before the environment", []string{"--size=9"}, env("SIZE", "8"), with(func(c *sample) { c.Size = 9 })},
		{"a flag hides a bad value in the environment", []string{"--size=9"}, env("SIZE", "many"), with(func(c *sample) { c.Size = 9 })},
		{"lists are separated by commas", nil, env("BROKER_ADDRS", "a:1,b:2"), with(func(c *sample) { c.Broker.Addrs = []string{"a:1", "b:2"} })},
		{"a secret comes from the file that _FILE names, without its last newline", nil, env("BROKER_PASSWORD_FILE", file), with(func(c *sample) { c.Broker.Password = "from file" })},
		{"the variable itself goes before its _FILE", nil, env("BROKER_PASSWORD", "direct", "BROKER_PASSWORD_FILE", file), with(func(c *sample) { c.Broker.Password = "direct" })},
		{"what is no secret has no _FILE", nil, env("SIZE_FILE", file), usual},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got sample
			if err := Parse(&got, "sample", c.args, c.env); err != nil {
				t.Fatal(err)
			}
			if g, w := fmt.Sprintf("%+v %q", got, string(got.Broker.Password)), fmt.Sprintf("%+v %q", c.want, string(c.want.Broker.Password)); g != w {
				t.Errorf("got %s, want %s", g, w)
			}
		})
	}
}

func TestParseJoinsEveryProblem(t *testing.T) {
	var c sample
	err := Parse(&c, "sample", nil, env("SIZE", "many", "EVERY", "soon", "RUN_MODE", "dreamt", "RUN_ID", "R 1", "BROKER_ADDRS", "", "BROKER_PASSWORD_FILE", "/nowhere/secret"))
	if !errors.Is(err, ErrUsage) {
		t.Fatalf("got %v, want ErrUsage", err)
	}
	for _, want := range []string{"SIZE: ", "EVERY: ", "RUN_MODE: must be one of live,simulated", "RUN_ID: ", "BROKER_ADDRS: ", "BROKER_PASSWORD_FILE: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not speak of %q:\n%v", want, err)
		}
	}
}

func TestParseRefusesAnUnknownFlag(t *testing.T) {
	var c sample
	if err := Parse(&c, "sample", []string{"--sise=1"}, env()); !errors.Is(err, ErrUsage) {
		t.Errorf("got %v, want ErrUsage", err)
	}
}

func TestHelpNamesFlagsAndVariables(t *testing.T) {
	var c sample
	var out bytes.Buffer
	if err := parse(&c, "sample", []string{"--help"}, env(), &out); !errors.Is(err, ErrHelp) {
		t.Fatalf("got %v, want ErrHelp", err)
	}
	for _, want := range []string{"--broker-addrs", "$BROKER_ADDRS", "--every=3s", "How often ($EVERY).", "How much ($SIZE, default 7)."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help does not show %q:\n%s", want, &out)
		}
	}
}

func TestVariables(t *testing.T) {
	vs, err := Variables(&sample{})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, v := range vs {
		lines = append(lines, fmt.Sprint(v.Flag, " ", v.Env, " ", v.Default, " ", v.Secret))
	}
	want := "broker-addrs BROKER_ADDRS localhost:9092 false\nbroker-password BROKER_PASSWORD  true\nrun-id RUN_ID r1 false\n" +
		"run-mode RUN_MODE live false\nevery EVERY 3s false\nsize SIZE 7 false\nplain   false"
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestASecretIsNeverPrinted(t *testing.T) {
	const value = "hunter2"
	secret := Secret(value)
	s := struct {
		Password Secret
		Pointer  *Secret
		Many     []Secret
		Keyed    map[string]Secret
		Any      any
	}{secret, &secret, []Secret{secret}, map[string]Secret{"key": secret}, secret}
	var printed []string
	for _, verb := range strings.Fields("%v %+v %#v %s %q %x %X %d %t %c %U %e %b %o %10.3s %-9v") {
		for _, arg := range []any{s, &s, secret, s.Many, s.Keyed, s.Any} {
			printed = append(printed, verb+": "+fmt.Sprintf(verb, arg))
		}
	}
	j, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	printed = append(printed, string(j), fmt.Sprint(s), fmt.Errorf("secret %s: %w", secret, errors.New(fmt.Sprint(secret))).Error())
	for _, handler := range []func(io.Writer) slog.Handler{
		func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
		func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
	} {
		var b strings.Builder
		slog.New(handler(&b)).Info("started", "secret", secret, "config", s, slog.Group("g", "secret", secret))
		printed = append(printed, b.String())
	}
	func() {
		defer func() { printed = append(printed, fmt.Sprintf("panic: %v", recover())) }()
		panic(secret)
	}()
	hex := fmt.Sprintf("%x", value)
	for _, p := range printed {
		if strings.Contains(p, value) || strings.Contains(strings.ToLower(p), hex) {
			t.Errorf("printed %s", p)
		}
	}
}

// What is wrong with a secret is said without it.
func TestAProblemDoesNotTellTheSecret(t *testing.T) {
	var c struct {
		Password Secret `name:"password" env:"PASSWORD"`
		Number   int    `name:"number" env:"NUMBER"`
	}
	env := map[string]string{"PASSWORD": "hunter2", "NUMBER": "many"}
	err := Parse(&c, "test", []string{"--password=hunter3", "--none"}, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err == nil || strings.Contains(err.Error(), "hunter") {
		t.Errorf("got %v", err)
	}
}
