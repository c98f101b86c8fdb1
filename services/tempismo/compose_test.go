package main

import (
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/connector"
	"github.com/tempismo/tempismo/services/console"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/ingest"
	"github.com/tempismo/tempismo/services/profiler"
	"github.com/tempismo/tempismo/services/trainer"
)

// root is the top of the repository.
const root = "../.."

// binary is what one of our images understands.
type binary struct {
	variables func(t *testing.T) []config.Variable
	parse     func(t *testing.T, args []string, env types.MappingWithEquals) error
	listens   func(env types.MappingWithEquals) string // where it serves; empty: nowhere but its admin listener
}

// ofService is the binary that app.Main makes of a service with Config C.
func ofService[C any](name string, listens func(C) string) binary {
	type whole struct {
		App     app.Config `embed:""`
		Service C          `embed:""`
	}
	return binary{
		variables: func(t *testing.T) []config.Variable {
			vs, err := config.Variables(&whole{})
			if err != nil {
				t.Fatal(err)
			}
			return vs
		},
		parse: func(_ *testing.T, args []string, env types.MappingWithEquals) error {
			return config.Parse(&whole{}, name, args, lookup(env))
		},
		listens: func(env types.MappingWithEquals) string {
			var c whole
			if config.Parse(&c, name, nil, lookup(env)) != nil || listens == nil {
				return ""
			}
			return listens(c.Service)
		},
	}
}

var services = map[string]binary{
	"ingest":    ofService("ingest", func(c ingest.Config) string { return c.Listen }),
	"profiler":  ofService[profiler.Config]("profiler", nil),
	"detector":  ofService[detector.Config]("detector", nil),
	"decider":   ofService[decider.Config]("decider", nil),
	"trainer":   ofService[trainer.Config]("trainer", nil),
	"connector": ofService[connector.Config]("connector", nil),
	"console":   ofService("console", func(c console.Config) string { return c.Listen }),
}

// ofCommand is this package's own binary, which reads the process's environment.
func ofCommand() binary {
	build := func(t *testing.T) *kong.Kong {
		k, err := parser(new(commands), io.Discard, io.Discard, func(code int) { t.Errorf("exits with %d", code) })
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	return binary{
		variables: func(t *testing.T) (vs []config.Variable) {
			err := kong.Visit(build(t).Model, func(n kong.Visitable, next kong.Next) error {
				if f, ok := n.(*kong.Flag); ok {
					for _, env := range f.Envs {
						vs = append(vs, config.Variable{Flag: f.Name, Env: env, Secret: f.Target.Type() == reflect.TypeFor[config.Secret]()})
					}
				}
				return next(nil)
			})
			if err != nil {
				t.Fatal(err)
			}
			// `up` hands the environment on to the services that it runs.
			for _, b := range services {
				vs = append(vs, b.variables(t)...)
			}
			return vs
		},
		parse: func(t *testing.T, args []string, env types.MappingWithEquals) error {
			for name, v := range env {
				if v != nil {
					t.Setenv(name, *v)
				}
			}
			_, err := build(t).Parse(args)
			return err
		},
		listens: func(env types.MappingWithEquals) string {
			listen, _ := lookup(env)("CONSOLE_LISTEN")
			return listen
		},
	}
}

// strangers are the images that are not ours, and the ports that they listen on.
var strangers = map[string][]string{"kafka": {"9092", "19092"}, "redis": {"6379"}, "collector": {"4318"}}

// compose reads docker-compose.yml as the docker compose command would, in an environment with nothing set.
func compose(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithProfiles([]string{"*"}), cli.WithoutEnvironmentResolution)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// lookup is how a container finds what it is given.
func lookup(env types.MappingWithEquals) config.Lookup {
	return func(name string) (string, bool) {
		if v := env[name]; v != nil {
			return *v, true
		}
		return "", false
	}
}

// ours is the binary in the image of s.
func ours(t *testing.T, s types.ServiceConfig) (binary, bool) {
	t.Helper()
	if s.Build == nil {
		return binary{}, false
	}
	name := s.Build.Args["SERVICE"]
	if name == nil {
		t.Fatalf("%s is built without SERVICE", s.Name)
	}
	if *name == "tempismo" {
		return ofCommand(), true
	}
	b, ok := services[*name]
	if !ok {
		t.Fatalf("%s is built from the service %q, which does not exist", s.Name, *name)
	}
	return b, true
}

func TestComposeRunsEveryService(t *testing.T) {
	project := compose(t)
	have := slices.Sorted(maps.Keys(project.Services))
	for name := range services {
		if !slices.Contains(have, name) {
			t.Errorf("%s is missing", name)
		}
	}
	for _, s := range project.Services {
		if _, ok := ours(t, s); !ok && strangers[s.Name] == nil {
			t.Errorf("%s is neither built from here nor known to this test", s.Name)
		}
		if _, tag, ok := strings.Cut(s.Image, ":"); s.Build == nil && (!ok || tag == "latest") {
			t.Errorf("%s: the image %s is not pinned", s.Name, s.Image)
		}
	}
}

func TestComposeGivesEveryServiceWhatItUnderstands(t *testing.T) {
	for name, s := range compose(t).Services {
		b, ok := ours(t, s)
		if !ok {
			continue
		}
		known := map[string]bool{}
		for _, v := range b.variables(t) {
			known[v.Env] = true
			known[v.Env+"_FILE"] = v.Secret
		}
		for env := range s.Environment {
			if !known[env] {
				t.Errorf("%s is given %s, which it does not know", name, env)
			}
		}
		t.Run(name, func(t *testing.T) {
			line := s.Command
			if len(s.Entrypoint) > 0 {
				if s.Entrypoint[0] != "/service" {
					t.Errorf("the image holds nothing but /service, not %s", s.Entrypoint[0])
				}
				line = slices.Concat(s.Entrypoint[1:], s.Command)
			}
			if err := b.parse(t, line, s.Environment); err != nil {
				t.Errorf("it does not start: %v", err)
			}
		})
	}
}

func TestComposeHealthchecksAreAnswered(t *testing.T) {
	for name, s := range compose(t).Services {
		b, ok := ours(t, s)
		switch {
		case s.HealthCheck == nil:
			if ok && s.Restart != "" {
				t.Errorf("%s is restarted, but nobody looks after its health", name)
			}
		case len(s.HealthCheck.Test) < 2 || s.HealthCheck.Test[0] != "CMD":
			t.Errorf("%s: %v needs a shell", name, s.HealthCheck.Test)
		case ok && s.HealthCheck.Test[1] != "/service":
			t.Errorf("%s: the image holds nothing but /service, not %s", name, s.HealthCheck.Test[1])
		case ok:
			if err := b.parse(t, s.HealthCheck.Test[2:], s.Environment); err != nil {
				t.Errorf("%s does not understand its healthcheck: %v", name, err)
			}
		}
	}
}

func TestComposePortsAreServed(t *testing.T) {
	project := compose(t)
	taken := map[string]string{}
	for name, s := range project.Services {
		b, ok := ours(t, s)
		serves := strangers[name]
		if ok && b.listens(s.Environment) != "" {
			host, port, err := net.SplitHostPort(b.listens(s.Environment))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
				t.Errorf("%s listens on %s: nobody outside of its container reaches it", name, host)
			}
			serves = []string{port}
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s beyond this machine", name, p.Published)
			}
			if !slices.Contains(serves, strconv.FormatUint(uint64(p.Target), 10)) {
				t.Errorf("%s publishes %d, and serves %v", name, p.Target, serves)
			}
			if other := taken[p.Published]; other != "" {
				t.Errorf("%s and %s both publish %s", name, other, p.Published)
			}
			taken[p.Published] = name
		}
	}

	// Addresses in the environment point at a container that serves there.
	for name, s := range project.Services {
		if s.Build == nil {
			continue
		}
		for _, variable := range []string{"KAFKA_BROKERS", "REDIS_ADDR", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
			value, ok := lookup(s.Environment)(variable)
			if !ok {
				continue
			}
			host, port, err := net.SplitHostPort(strings.TrimPrefix(value, "http://"))
			if err != nil || !slices.Contains(strangers[host], port) {
				t.Errorf("%s: %s=%s: nobody serves there", name, variable, value)
			}
		}
	}
}

func TestComposeDependenciesResolve(t *testing.T) {
	project := compose(t)
	for name, s := range project.Services {
		for on, d := range s.DependsOn {
			other, ok := project.Services[on]
			switch {
			case !ok:
				t.Errorf("%s depends on %s, which does not exist", name, on)
			case d.Condition == types.ServiceConditionHealthy && other.HealthCheck == nil:
				t.Errorf("%s waits until %s is healthy, but it has no healthcheck", name, on)
			case d.Condition == types.ServiceConditionCompletedSuccessfully && other.Restart != "":
				t.Errorf("%s waits until %s is done, but it is always restarted", name, on)
			}
		}
		for _, v := range s.Volumes {
			switch v.Type {
			case types.VolumeTypeBind:
				if _, err := os.Stat(v.Source); err != nil {
					t.Errorf("%s mounts %s: %v", name, v.Source, err)
				}
			case types.VolumeTypeVolume:
				if _, ok := project.Volumes[v.Source]; !ok {
					t.Errorf("%s mounts the volume %s, which is not declared", name, v.Source)
				}
			}
		}
		if s.Build != nil {
			if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !s.ReadOnly {
				t.Errorf("%s can write to its root file system", name)
			}
		}
	}
}

// TestTheImageOfEveryServiceHasAMainPackage holds the Dockerfile's two places of main packages.
func TestTheImageOfEveryServiceHasAMainPackage(t *testing.T) {
	for name, s := range compose(t).Services {
		if s.Build == nil {
			continue
		}
		service := *s.Build.Args["SERVICE"]
		below, err1 := filepath.Glob(filepath.Join(root, "services", service, "cmd", service, "*.go"))
		at, err2 := filepath.Glob(filepath.Join(root, "services", service, "*.go"))
		if err1 != nil || err2 != nil || len(below) == 0 && len(at) == 0 {
			t.Errorf("%s: no main package of %s: %v %v", name, service, err1, err2)
		}
	}
}

// TestTheCollectorsPipelinesAreMadeOfWhatIsConfigured reads deployments/otel/collector.yaml.
func TestTheCollectorsPipelinesAreMadeOfWhatIsConfigured(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "deployments/otel/collector.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Receivers  map[string]any `yaml:"receivers"`
		Processors map[string]any `yaml:"processors"`
		Exporters  map[string]any `yaml:"exporters"`
		Service    struct {
			Pipelines map[string]struct{ Receivers, Processors, Exporters []string } `yaml:"pipelines"`
		} `yaml:"service"`
	}
	if err := yaml.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	for _, signal := range []string{"traces", "metrics"} {
		p, ok := c.Service.Pipelines[signal]
		if !ok {
			t.Errorf("the services push %s, and no pipeline takes them", signal)
		}
		for _, part := range []struct {
			uses []string
			of   map[string]any
		}{{p.Receivers, c.Receivers}, {p.Processors, c.Processors}, {p.Exporters, c.Exporters}} {
			for _, name := range part.uses {
				if _, ok := part.of[name]; !ok {
					t.Errorf("the pipeline of %s uses %s, which is not configured", signal, name)
				}
			}
		}
	}
}
