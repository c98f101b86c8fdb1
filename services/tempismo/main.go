// Command tempismo is the operator's command: it runs everything in one process, brings data in and out, and shows what
// the services know.
//
// It holds no logic of the services: what is decided is decided in pkg/domain, and what flows flows through the services
// that also run alone. Each subcommand is one file.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/tempismo/tempismo/pkg/config"
)

// commands is the command line.
type commands struct {
	Up          upCmd           `cmd:"" help:"Run all services in this process."`
	Import      importCmd       `cmd:"" help:"Bring a CSV or NDJSON file of engagement events through the services."`
	Watch       watchCmd        `cmd:"" help:"Follow deviations or decisions, one sentence each."`
	Profile     profileCmd      `cmd:"" help:"Show when one customer pays attention."`
	Calendar    calendarCmd     `cmd:"" help:"Show on which days of a year nothing is sent."`
	Policy      policyCmd       `cmd:"" help:"Check, apply, list and explain the rules by which is decided."`
	Models      modelsCmd       `cmd:"" help:"List, draw, train and pin models of when customers pay attention."`
	Explain     explainCmd      `cmd:"" help:"Say why something was decided, and decide it again."`
	Erase       eraseCmd        `cmd:"" help:"Have a customer forgotten, for ever."`
	Pseudonym   pseudonymCmd    `cmd:"" help:"Say under which ids the topics may know a customer."`
	Export      exportCmd       `cmd:"" help:"Write everything that is held of one customer into a JSON file."`
	Topics      topicsCmd       `cmd:"" help:"List or create topics."`
	Lag         lagCmd          `cmd:"" help:"Show how far behind each service is."`
	Dump        dumpCmd         `cmd:"" help:"Write a topic, or all profiles, as text that can be compared."`
	Simulate    simulateCmd     `cmd:"" help:"Write the events of simulated customers into a file, and the truth about them beside."`
	Evaluate    evaluateCmd     `cmd:"" help:"Judge predictions and tests of the unusual, on a simulated town or on a file of events."`
	Replay      replayCmd       `cmd:"" help:"Copy a range of a topic into a file or a new run, or a file into a topic."`
	Redo        redoCmd         `cmd:"" help:"Try dead letters again."`
	Repartition repartitionCmd  `cmd:"" help:"Move a live run to another number of partitions."`
	Doctor      doctorCmd       `cmd:"" help:"Check what Tempismo depends on, and say what to do."`
	CRMSandbox  crmSandboxCmd   `cmd:"" name:"crm-sandbox" help:"Imitate CRMs, and show what they would have sent."`
	Bench       benchCmd        `cmd:"" hidden:"" help:"Measure what things cost; scripts/bench runs it."`
	Job         benchServiceCmd `cmd:"" name:"bench-service" hidden:"" help:"Run a job that the bench compares with."`
	Broker      brokerCmd       `cmd:"" hidden:"" help:"Run the embedded broker and store alone, for services in other processes."`

	Version kong.VersionFlag `help:"Print the version."`
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main without the process: 0 is success, 1 a failure, 2 a command line that cannot be used.
func run(args []string, stdout, stderr io.Writer) int {
	code := -1
	k, err := parser(new(commands), stdout, stderr, func(c int) { code = c; panic(exited{}) })
	if err != nil {
		fmt.Fprintln(stderr, "tempismo:", err)
		return 2
	}
	// `tempismo dump ... | head` closes our output early. Dying of that would skip the clean end of an embedded pair, and
	// with it the snapshot of the store; as an error of a write it is like any other.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() { <-ctx.Done(); stop() }() // the second Ctrl-C is not caught, and so ends the process at once
	var chosen *kong.Context
	func() {
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(exited); !ok {
					panic(r)
				}
			}
		}()
		chosen, err = k.Parse(args)
	}()
	if code >= 0 { // help or version was asked for
		return code
	}
	if err != nil {
		fmt.Fprintf(stderr, "tempismo: %v\n", err)
		var usage *kong.ParseError
		if errors.As(err, &usage) && usage.Context != nil && usage.Context.Selected() != nil {
			fmt.Fprintf(stderr, "See: tempismo %s --help\n", usage.Context.Selected().Path())
		} else {
			fmt.Fprintln(stderr, "See: tempismo --help")
		}
		return 2
	}
	chosen.BindTo(ctx, (*context.Context)(nil))
	if err := chosen.Run(terminal{out: stdout, err: stderr}); err != nil {
		fmt.Fprintf(stderr, "tempismo: %v\n", err)
		if end := (*ending)(nil); errors.As(err, &end) {
			return end.code
		}
		if errors.Is(err, config.ErrUsage) {
			return 2
		}
		return 1
	}
	return 0
}

// exited unwinds Kong, which expects that its exit function does not return.
type exited struct{}

// terminal is where a command writes: what was asked for to out, everything else to err.
type terminal struct{ out, err io.Writer }

// json writes v as one indented object, or a list of them.
func (t terminal) json(v any) error {
	e := json.NewEncoder(t.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// parser builds the command line's parser.
func parser(c *commands, stdout, stderr io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("tempismo"),
		kong.Description("Decides when to write to each customer.\n\nTry: tempismo up --demo"),
		kong.Writers(stdout, stderr), kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Vars{"version": version()},
		kong.Resolvers(config.SecretFiles{}),
		kong.PostBuild(unset),
	)
}

// unset takes the defaults off the addresses: a command has to know whether one was given, since otherwise it works on a
// data folder of its own.
func unset(k *kong.Kong) error {
	return kong.Visit(k.Model, func(n kong.Visitable, next kong.Next) error {
		if f, ok := n.(*kong.Flag); ok && (f.Name == "kafka-brokers" || f.Name == "redis-addr") {
			f.Default, f.HasDefault = "", false
		}
		return next(nil)
	})
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v += " " + s.Value
		}
	}
	return v + " " + info.GoVersion
}
