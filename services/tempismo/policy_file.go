package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/services/tempismo/holidays"
)

// fault is one thing that is wrong with a policy file, at the place where it stands.
type fault struct {
	File   string `json:"file"`
	Line   int    `json:"line"` // from 1, like Column
	Column int    `json:"column"`
	Path   string `json:"path,omitempty"` // of the field, e.g. channels.email.windows[0]
	What   string `json:"what"`
}

func (f *fault) String() string {
	s := fmt.Sprintf("%s:%d:%d: ", f.File, f.Line, f.Column)
	if f.Path != "" {
		s += f.Path + ": "
	}
	return s + f.What
}

// faults is everything that is wrong with a policy file, from its beginning to its end.
type faults []fault

func (fs faults) Error() string {
	lines := make([]string, len(fs))
	for i := range fs {
		lines[i] = fs[i].String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes faults an error about what the operator wrote.
func (faults) Unwrap() error { return config.ErrUsage }

// Bounds of a policy file.
const (
	maxPolicyFile  = 1 << 20 // bytes
	maxPolicyNodes = 100_000 // values, those behind aliases counted each time
	maxPolicyDepth = 20      // values within values; an alias that holds itself has no end
)

// openPolicy reads a policy file whose calendars are to hold around a year. The error is faults wherever the file could be
// read at all.
func openPolicy(name string, year int) (*decision.Policy, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if info.Size() > maxPolicyFile {
		return nil, fmt.Errorf("policy: %s has %d bytes, at most %d are read: is it the right file?", name, info.Size(), maxPolicyFile)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return readPolicy(name, text, year)
}

// thisYear is the year around which the calendars of a policy are to hold that is put into force now.
func thisYear() int { return time.Now().UTC().Year() }

// readPolicy reads the text of a policy file: YAML, or JSON, which is a part of it.
func readPolicy(name string, text []byte, year int) (*decision.Policy, error) {
	r := policyReader{file: name, marks: map[string]mark{"": {1, 1}}}
	p := r.read(text)
	if !r.in("calendars") && !r.in("") {
		var err error
		if p.Closed, err = holidays.Resolve(p.Calendars, year); err != nil {
			r.take(err)
		}
	}
	if len(r.faults) == 0 {
		return p, nil
	}
	slices.SortStableFunc(r.faults, func(a, b fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return nil, r.faults
}

// mark is a place in a file.
type mark struct{ line, column int }

// policyReader turns the text into a draft, and remembers where its fields stand.
type policyReader struct {
	file   string
	marks  map[string]mark // of every field and item, by path
	faults faults
	nodes  int // so far
	depth  int // of where tree is
}

// in reports whether something is wrong with a field of the first level; "" is the whole.
func (r *policyReader) in(field string) bool {
	return slices.ContainsFunc(r.faults, func(f fault) bool {
		return f.Path == field || field != "" && (strings.HasPrefix(f.Path, field+".") || strings.HasPrefix(f.Path, field+"["))
	})
}

func (r *policyReader) fault(at mark, path, format string, args ...any) {
	r.faults = append(r.faults, fault{r.file, at.line, at.column, path, fmt.Sprintf(format, args...)})
}

func (r *policyReader) read(text []byte) *decision.Policy {
	var root yaml.Node
	if err := yaml.Load(text, &root); err != nil {
		r.syntax(err)
		return nil
	}
	tree := r.tree("", &root)
	if r.in("") {
		return nil
	}
	file, err := json.Marshal(tree)
	if err != nil {
		r.fault(mark{1, 1}, "", "%v", err)
		return nil
	}
	p, err := decision.Draft(file)
	r.take(err)
	return p
}

// syntax takes what the YAML parser says.
func (r *policyReader) syntax(err error) {
	at, what := mark{1, 1}, err.Error()
	var one *yaml.LoadError
	if errors.As(err, &one) {
		what = one.Message
		if one.ContextMsg != "" {
			what = one.ContextMsg + ": " + what
		}
		if one.Mark.Line > 0 {
			at = mark{one.Mark.Line, one.Mark.Column}
		}
	}
	switch {
	case strings.Contains(what, "no documents"):
		what = "the file is empty; {} is the default policy"
	case strings.Contains(what, "found multiple"):
		what = "there is more than one document: each policy has a file of its own"
	}
	r.fault(at, "", "%s", what)
}

// take takes what the domain says, and finds where it stands: what is missing is missing in what is around it.
func (r *policyReader) take(err error) {
	if err == nil {
		return
	}
	var ps decision.Problems
	if !errors.As(err, &ps) {
		r.fault(mark{1, 1}, "", "%v", err)
		return
	}
	for _, p := range ps {
		path := p.Path
		at, ok := r.marks[path]
		for !ok {
			path = path[:max(strings.LastIndexAny(path, ".["), 0)]
			at, ok = r.marks[path]
		}
		r.faults = append(r.faults, fault{r.file, at.line, at.column, p.Path, p.What})
	}
}

// tree turns a node of YAML into what encoding/json would have read.
func (r *policyReader) tree(path string, n *yaml.Node) any {
	r.depth++
	defer func() { r.depth-- }()
	if r.nodes++; r.nodes > maxPolicyNodes || r.depth > maxPolicyDepth {
		if !r.in("") { // once is enough
			r.fault(mark{n.Line, n.Column}, "", "there are more than %d values, or more than %d within each other: does an alias hold itself?", maxPolicyNodes, maxPolicyDepth)
		}
		return nil
	}
	switch n.Kind {
	case yaml.DocumentNode:
		r.marks[path] = mark{n.Content[0].Line, n.Content[0].Column}
		return r.tree(path, n.Content[0])
	case yaml.AliasNode:
		return r.tree(path, n.Alias)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			p := fmt.Sprintf("%s[%d]", path, i)
			r.marks[p] = mark{item.Line, item.Column}
			list[i] = r.tree(p, item)
		}
		return list
	case yaml.MappingNode:
		return r.fields(path, n)
	}
	return scalar(n)
}

func (r *policyReader) fields(path string, n *yaml.Node) any {
	fields := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at, p := mark{name.Line, name.Column}, name.Value
		if path != "" {
			p = path + "." + p
		}
		_, twice := fields[name.Value]
		switch {
		case name.Kind != yaml.ScalarNode:
			r.fault(at, path, "the name of a field is text")
			continue
		case name.ShortTag() == "!!merge":
			r.fault(at, path, "merge keys (<<) are not read: write the fields out, or use an alias for a whole value")
			continue
		case twice:
			r.fault(at, p, "is there twice, first on line %d", r.marks[p].line)
			continue
		}
		if value.Kind == yaml.ScalarNode && value.Value != "" {
			at = mark{value.Line, value.Column}
		}
		r.marks[p] = at
		fields[name.Value] = r.tree(p, value)
	}
	return fields
}

// scalar is text wherever it is neither a number nor a truth value: so days stay as they were written.
func scalar(n *yaml.Node) any {
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		var b bool
		if n.Decode(&b) == nil {
			return b
		}
	case "!!int":
		var i int64
		if n.Decode(&i) == nil {
			return json.Number(strconv.FormatInt(i, 10))
		}
	case "!!float":
		var f float64
		if n.Decode(&f) == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return json.Number(strconv.FormatFloat(f, 'g', -1, 64))
		}
	}
	return n.Value
}

// policyYAML writes a policy as a file that readPolicy reads.
func policyYAML(p *decision.Policy) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Load(p.Append(nil), &root); err != nil {
		return nil, fmt.Errorf("write policy: %w", err)
	}
	fields := root.Content[0]
	for i := len(fields.Content) - 2; i >= 0; i -= 2 {
		if name := fields.Content[i].Value; name == "version" || name == "closed" {
			fields.Content = slices.Delete(fields.Content, i, i+2)
		}
	}
	unfold(fields)
	return yaml.Dump(fields, yaml.WithV4Defaults())
}

// unfold gives a node that was read from JSON the looks of YAML: objects over several lines, lists of words on one.
func unfold(n *yaml.Node) {
	n.Style = 0
	words := n.Kind == yaml.SequenceNode
	for _, c := range n.Content {
		unfold(c)
		words = words && c.Kind == yaml.ScalarNode && !strings.Contains(c.Value, ":") // which would need quotes there
	}
	if words {
		n.Style = yaml.FlowStyle
	}
}
