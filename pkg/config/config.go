// Package config fills a service's Config struct from flags and environment, both declared by the struct's kong tags, and
// reports everything that is wrong with it at once.
//
// A flag goes before its environment variable, which goes before the default. A Secret is also read from the file that
// the variable with _FILE appended names, as Docker and Kubernetes mount secrets. It is not a configuration file format,
// and it watches nothing: a process reads its configuration once.
package config

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
)

// ErrHelp says that the user asked for help, which has been printed.
var ErrHelp = errors.New("help was asked for")

// ErrUsage is wrapped by every error about what the operator wrote: flags, environment or a Validate.
var ErrUsage = errors.New("configuration is not usable")

// Lookup finds an environment variable, as os.LookupEnv does.
type Lookup func(name string) (value string, ok bool)

// Parse fills cfg, a pointer to a struct with kong tags, from args and the environment that env shows (nil: the
// process's), then calls Validate on it or, where it has none, on each struct in it. The error joins all problems and
// wraps ErrUsage; after --help it is ErrHelp.
func Parse(cfg any, name string, args []string, env Lookup) error {
	return parse(cfg, name, args, env, os.Stdout)
}

func parse(cfg any, name string, args []string, env Lookup, stdout io.Writer) error {
	if env == nil {
		env = os.LookupEnv
	}
	helped := false
	k, envs, err := build(cfg, name, kong.Writers(stdout, stdout), kong.Exit(func(int) { helped = true }))
	if err != nil {
		return err
	}
	r := &resolver{env: env, envs: envs}
	if err := kong.Resolvers(r).Apply(k); err != nil {
		return err
	}
	_, err = k.Parse(args)
	if helped {
		return ErrHelp
	}
	problems := append(r.problems, err)
	if err == nil {
		problems = append(problems, validate(reflect.ValueOf(cfg)))
	}
	if err := errors.Join(problems...); err != nil {
		return usageError{err}
	}
	return nil
}

// usageError marks an error as ErrUsage without adding a word to it: what the operator reads is the list of problems.
type usageError struct{ error }

func (e usageError) Unwrap() []error { return []error{ErrUsage, e.error} }

// build makes the parser of cfg. Kong would read the process's environment by itself and stop at the first bad value;
// instead the names are taken off the tags and handed to the resolver. cfg is embedded into an empty application so
// that Kong calls no Validate: it would stop at the first there, too.
func build(cfg any, name string, more ...kong.Option) (*kong.Kong, map[*kong.Value][]string, error) {
	envs := map[*kong.Value][]string{}
	describe := func(v *kong.Value) string {
		if len(envs[v]) == 0 {
			return v.Help
		}
		shown := "$" + strings.Join(envs[v], ", $")
		if v.Flag != nil && v.Flag.PlaceHolder != "" && v.Default != "" {
			shown += ", default " + v.Default // Kong shows the placeholder in its stead
		}
		return strings.TrimSuffix(v.Help, ".") + " (" + shown + ")."
	}
	options := append([]kong.Option{kong.Name(name), kong.Embed(cfg), kong.ValueFormatter(describe)}, more...)
	k, err := kong.New(&struct{}{}, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("read the configuration of %s from its struct tags: %w", name, err)
	}
	for _, f := range k.Model.Flags {
		if len(f.Tag.Envs) > 0 {
			envs[f.Value] = f.Tag.Envs
			f.Tag.Envs, f.Envs = nil, nil
		}
	}
	return k, envs, nil
}

// resolver gives Kong the values of environment variables, and keeps those that do not parse as problems.
type resolver struct {
	env      Lookup
	envs     map[*kong.Value][]string
	problems []error
}

func (r *resolver) Validate(*kong.Application) error { return nil }

func (r *resolver) Resolve(_ *kong.Context, _ *kong.Path, f *kong.Flag) (any, error) {
	for _, name := range r.envs[f.Value] {
		value, ok := r.env(name)
		if !ok && f.Target.Type() == reflect.TypeFor[Secret]() {
			var err error
			if value, ok, err = secretFile(name, r.env); err != nil {
				r.problems = append(r.problems, err)
				return nil, nil
			}
		}
		if !ok {
			continue
		}
		if err := check(f, value); err != nil {
			r.problems = append(r.problems, fmt.Errorf("%s: %w", name, err))
			return nil, nil
		}
		return value, nil
	}
	return nil, nil
}

// secretFile reads the secret in the file that the variable name_FILE names; false where there is no such variable.
func secretFile(name string, env Lookup) (string, bool, error) {
	file, ok := env(name + "_FILE")
	if !ok {
		return "", false, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", false, fmt.Errorf("%s_FILE: read the secret: %w", name, err)
	}
	// Editors and echo end a file with a newline that is not part of the secret.
	return strings.TrimRight(string(b), "\r\n"), true, nil
}

// SecretFiles is a resolver for a command line that Kong parses by itself: it adds the files of secrets to the variables
// that Kong reads.
type SecretFiles struct{}

// Validate accepts every application.
func (SecretFiles) Validate(*kong.Application) error { return nil }

// Resolve returns the secret of a flag of type Secret whose variable is not set and whose file is named.
func (SecretFiles) Resolve(_ *kong.Context, _ *kong.Path, f *kong.Flag) (any, error) {
	if f.Target.Type() != reflect.TypeFor[Secret]() {
		return nil, nil
	}
	for _, name := range f.Envs {
		if _, set := os.LookupEnv(name); set {
			continue
		}
		if value, ok, err := secretFile(name, os.LookupEnv); ok || err != nil {
			return value, err
		}
	}
	return nil, nil
}

// check parses value into a scratch variable of the flag's type.
func check(f *kong.Flag, value string) error {
	scratch := reflect.New(f.Target.Type()).Elem()
	scan := kong.Scan().PushTyped(value, kong.FlagValueToken)
	if err := f.Mapper.Decode(&kong.DecodeContext{Value: f.Value, Scan: scan}, scratch); err != nil {
		return err
	}
	if f.Enum != "" && scratch.Kind() != reflect.Slice && !f.EnumMap()[fmt.Sprint(scratch.Interface())] {
		return fmt.Errorf("must be one of %s but is %q", f.Enum, value)
	}
	return nil
}

// validate calls Validate of the value or, where it has none, of each struct in it.
func validate(v reflect.Value) error {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		if c, ok := v.Interface().(interface{ Validate() error }); ok {
			return c.Validate()
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	var problems []error
	for i := range v.NumField() {
		if f := v.Field(i); v.Type().Field(i).IsExported() && f.Kind() == reflect.Struct && f.CanAddr() {
			problems = append(problems, validate(f.Addr()))
		}
	}
	return errors.Join(problems...)
}

// Variable is one setting of a Config, for documentation and for tests of deployment files.
type Variable struct {
	Flag    string // without the dashes
	Env     string // empty: flag only
	Help    string
	Default string
	Secret  bool // may also come as Env_FILE
}

// Variables lists the settings of cfg, a pointer to a struct with kong tags, in the order of declaration.
func Variables(cfg any) ([]Variable, error) {
	k, envs, err := build(cfg, "variables", kong.NoDefaultHelp())
	if err != nil {
		return nil, err
	}
	var vs []Variable
	for _, f := range k.Model.Flags {
		v := Variable{Flag: f.Name, Help: f.Help, Default: f.Default, Secret: f.Target.Type() == reflect.TypeFor[Secret]()}
		if names := envs[f.Value]; len(names) > 0 {
			v.Env = names[0]
		}
		vs = append(vs, v)
	}
	return vs, nil
}

// Secret is a string that is never printed: not by fmt, not by encoding/json, not by slog. string(s) gives the value.
type Secret string

var (
	_ fmt.Stringer           = Secret("")
	_ encoding.TextMarshaler = Secret("")
)

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString is what %#v prints.
func (s Secret) GoString() string { return s.String() }

// MarshalText is what encoding/json and slog's handlers print.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Run names the run that a process works for, and its mode (see stream.Run).
type Run struct {
	ID   string `name:"id" env:"ID" default:"r1" help:"Run: one lineage of state. A replay to be seen anew is a new run."`
	Mode string `name:"mode" env:"MODE" enum:"live,simulated" default:"live" help:"live, or simulated: time is event time, topics and state have a prefix of their own, no CRM is called."`
}

// Simulated reports whether the mode is simulated.
func (r Run) Simulated() bool { return r.Mode == "simulated" }

// Validate reports an id that cannot be part of a topic's name.
func (r Run) Validate() error {
	if r.ID == "" || strings.Trim(r.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("RUN_ID: %q: use lower-case letters, digits and hyphens", r.ID)
	}
	return nil
}

// Pixels is what counts of customers who have not said whether tracking pixels may observe them. Ingest, profiler and trainer of a
// run must agree on it.
type Pixels struct {
	Consent string `name:"pixel-consent" env:"PIXEL_CONSENT" enum:",required,assumed" default:"" help:"Opens of customers who have not said whether tracking pixels may observe them: required, they are not taken; assumed, they are, until somebody refuses. Empty: required in a live run, assumed in a simulated one. The same for ingest, profiler and trainer."`
}

// Assumed reports whether they may be observed, in a live run or in a simulated one.
func (p Pixels) Assumed(simulated bool) bool {
	return p.Consent == "assumed" || p.Consent == "" && simulated
}
