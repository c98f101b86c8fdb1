package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/services/tempismo/holidays"
)

// policyCmd writes, reads and switches the rules by which is decided.
type policyCmd struct {
	List     policyList     `cmd:"" default:"withargs" help:"List the versions, the newest first."`
	Show     policyShow     `cmd:"" help:"Write a version as a policy file."`
	Check    policyCheck    `cmd:"" help:"Say what is wrong with a policy file, or what it means."`
	Apply    policyApply    `cmd:"" help:"Put a policy file into force."`
	Explain  policyExplain  `cmd:"" help:"Say what a policy means for one customer."`
	Simulate policySimulate `cmd:"" help:"Tell what a policy file would have changed."`
}

// Help is the example.
func (*policyCmd) Help() string {
	return "docs/policy.md lists every field of a policy file. To write one, begin with what show writes.\n\nExample:\n  tempismo policy show >policy.yaml\n  tempismo policy check policy.yaml\n  tempismo policy apply policy.yaml"
}

type policyList struct {
	JSON bool `help:"Write a JSON list."`
	target
}

// Help is the example.
func (*policyList) Help() string { return "Example:\n  tempismo policy --json" }

// policyLine is one version.
type policyLine struct {
	Version  string    `json:"version"`
	Applied  time.Time `json:"applied"`
	Channels []string  `json:"channels"`
	Segments int       `json:"segments"`
	Calendar string    `json:"calendar"` // as it stands in decisions
	InForce  bool      `json:"in_force"`
}

// Run lists.
func (c *policyList) Run(ctx context.Context, t terminal) error {
	return c.with(ctx, func(sys *system) error {
		s, err := readPolicies(ctx, sys.log, sys.run)
		if err != nil {
			return err
		}
		lines := s.lines()
		if c.JSON {
			return t.json(lines)
		}
		if len(lines) == 0 {
			fmt.Fprintf(t.out, "no policy was put into force yet: %s decides; `tempismo policy show` writes it as a file to begin with\n", decision.Default().Version)
			return nil
		}
		if !s.even {
			fmt.Fprintln(t.err, "some partitions are not there yet: somebody is putting a policy into force, or died doing so; apply it again")
		}
		w := tabwriter.NewWriter(t.out, 0, 0, 3, ' ', 0)
		fmt.Fprintln(w, "VERSION\tAPPLIED\tCHANNELS\tSEGMENTS\tCALENDAR\t")
		for _, l := range lines {
			state := ""
			if l.InForce {
				state = "in force"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", l.Version, l.Applied.Format("2006-01-02 15:04"), strings.Join(l.Channels, ", "), l.Segments, l.Calendar, state)
		}
		return w.Flush()
	})
}

// lines lists the versions, the newest first.
func (s *policyShelf) lines() []policyLine {
	lines := []policyLine{}
	for i, c := range slices.Backward(s.copies) {
		p := c.policy
		lines = append(lines, policyLine{p.Version, c.at, slices.Sorted(maps.Keys(p.Channels)), len(p.Segments), p.Closed.Name, i == len(s.copies)-1})
	}
	return lines
}

type policyShow struct {
	Version string `arg:"" optional:"" help:"Version; without it, the one in force."`
	JSON    bool   `help:"Write the policy as it stands on the topic, with its version and its closed days."`
	target
}

// Help is the example.
func (*policyShow) Help() string {
	return "What it writes is a policy file: change it, check it, apply it.\n\nExample:\n  tempismo policy show 3"
}

// Run shows.
func (c *policyShow) Run(ctx context.Context, t terminal) error {
	return c.with(ctx, func(sys *system) error {
		s, err := readPolicies(ctx, sys.log, sys.run)
		if err != nil {
			return err
		}
		p, err := s.find(c.Version)
		if err != nil {
			return err
		}
		if c.JSON {
			return t.json(tree(p))
		}
		text, err := policyYAML(p)
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "# Policy %s\n%s", p.Version, text)
		return nil
	})
}

type policyCheck struct {
	File string `arg:"" help:"Policy file, YAML."`
	JSON bool   `help:"Write the problems as a JSON list."`
}

// Help is the example.
func (*policyCheck) Help() string {
	return "Every problem has a line of its own, FILE:LINE:COLUMN: FIELD: what is wrong and what to write instead. The exit code is 2 where there is one.\n\nExample:\n  tempismo policy check policy.yaml"
}

// Run checks.
func (c *policyCheck) Run(t terminal) error {
	p, err := openPolicy(c.File, thisYear())
	var fs faults
	if c.JSON && (err == nil || errors.As(err, &fs)) {
		if err := t.json(append(faults{}, fs...)); err != nil {
			return err
		}
		return fs.count(c.File)
	}
	if err != nil {
		return t.refuse(c.File, err)
	}
	for _, doubt := range holidays.Doubts(p.Calendars) {
		fmt.Fprintf(t.err, "%s: %v\n", c.File, doubt)
	}
	fmt.Fprintf(t.out, "%s is a policy\n", c.File)
	return sideBySide(t.out, policyWords(p, thisYear()))
}

// refuse writes what is wrong with a policy file, a line each, as compilers do.
func (t terminal) refuse(file string, err error) error {
	var fs faults
	if !errors.As(err, &fs) {
		return err
	}
	fmt.Fprintln(t.err, fs.Error())
	return fs.count(file)
}

// count is the error that is left when the faults themselves are written.
func (fs faults) count(file string) error {
	if len(fs) == 0 {
		return nil
	}
	return unusable(fmt.Sprintf("%s has %s", file, counted(len(fs), "problem")))
}

// unusable is an error about what the operator wrote.
type unusable string

func (u unusable) Error() string { return string(u) }

// Unwrap makes it one.
func (unusable) Unwrap() error { return config.ErrUsage }

// sideBySide writes lines with their names beside them.
func sideBySide(out io.Writer, lines []said) error {
	s := styleFor(out)
	width := 0
	for _, l := range lines {
		width = max(width, len([]rune(l.Name)))
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(out, "%s  %s\n", s.strong.Render(fmt.Sprintf("%-*s", width, l.Name)), l.Text); err != nil {
			return err
		}
	}
	return nil
}

type policyApply struct {
	File   string `arg:"" help:"Policy file, YAML."`
	DryRun bool   `name:"dry-run" help:"Say what would change, and change nothing."`
	target
}

// Help is the example.
func (*policyApply) Help() string {
	return "The policy is written into every partition, so the switch stands between two records, and in every replay. It is numbered: decisions\nsay by which policy they were made. A file that says what is in force already changes nothing.\n\nExample:\n  tempismo policy apply policy.yaml --dry-run"
}

// Run applies.
func (c *policyApply) Run(ctx context.Context, t terminal) error {
	p, err := openPolicy(c.File, thisYear())
	if err != nil {
		return t.refuse(c.File, err)
	}
	return c.with(ctx, func(sys *system) error {
		s, err := readPolicies(ctx, sys.log, sys.run)
		if err != nil {
			return err
		}
		before, err := s.find("")
		if err != nil {
			return err
		}
		if !c.DryRun {
			applied, err := applyPolicy(ctx, sys.log, sys.run, p)
			if err != nil {
				return err
			}
			if !applied {
				fmt.Fprintf(t.out, "policy %s is in force already\n", p.Version)
				return nil
			}
			fmt.Fprintf(t.out, "policy %s is in force\n", p.Version)
		}
		writeChanges(t.out, before, p)
		return nil
	})
}

// writeChanges writes what a policy says differently from the one before.
func writeChanges(w io.Writer, before, after *decision.Policy) {
	changes := policyChanges(before, after)
	if len(changes) == 0 {
		fmt.Fprintf(w, "it says the same as %s\n", before.Version)
		return
	}
	fmt.Fprintf(w, "what is different from %s:\n", before.Version)
	for i := range changes {
		fmt.Fprintln(w, " ", &changes[i])
	}
}

// isFile reports whether a policy is named by its file, rather than by its version.
func isFile(name string) bool {
	_, err := os.Stat(name)
	return err == nil || strings.ContainsAny(name, "/\\") || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")
}
