package foreign

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/topics"
)

// maxSources bounds the consumer groups that one process joins.
const maxSources = 32

// Read reads the text of a file of sources: YAML, or JSON, which is a part of it. schemas/sources.schema.json describes it. The
// error tells everything that is wrong, each thing by the file's name, line, column and field.
func Read(file string, text []byte) ([]*Source, error) {
	var root yaml.Node
	if err := yaml.Load(text, &root); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	r := &reader{file: file}
	sources := r.sources(root.Content[0])
	return sources, errors.Join(r.problems...)
}

// reader reads the file, and keeps what is wrong with it.
type reader struct {
	file     string
	problems []error
}

func (r *reader) fault(n *yaml.Node, path, format string, args ...any) {
	if path != "" {
		path += ": "
	}
	r.problems = append(r.problems, fmt.Errorf("%s:%d:%d: %s%s", r.file, n.Line, n.Column, path, fmt.Sprintf(format, args...)))
}

// fields are the functions that read what an object may have, by name.
type fields map[string]func(n *yaml.Node, path string)

// object reads an object, and returns the names that it has.
func (r *reader) object(n *yaml.Node, path string, known fields) map[string]bool {
	has := map[string]bool{}
	r.pairs(n, path, func(name, n *yaml.Node, path string) {
		read, ok := known[name.Value]
		if !ok {
			r.fault(name, path, "there is no such field; there are %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			return
		}
		has[name.Value] = true
		read(n, path)
	})
	return has
}

// pairs calls each for every member of an object.
func (r *reader) pairs(n *yaml.Node, path string, each func(name, n *yaml.Node, path string)) {
	if n = behind(n); n.Kind != yaml.MappingNode {
		r.fault(n, path, "must be an object")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := behind(n.Content[i])
		path := strings.TrimPrefix(path+"."+name.Value, ".")
		switch {
		case name.Kind != yaml.ScalarNode || name.ShortTag() == "!!merge":
			r.fault(n.Content[i], path, "the name of a field is text; merge keys (<<) are not read")
		case seen[name.Value]:
			r.fault(name, path, "is there twice")
		default:
			seen[name.Value] = true
			each(name, behind(n.Content[i+1]), path)
		}
	}
}

// behind is what an alias stands for.
func behind(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// text reads text; empty where there is none, which is a fault.
func (r *reader) text(n *yaml.Node, path string) string {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" || n.Value == "" {
		r.fault(n, path, "must be text, and not empty")
		return ""
	}
	return n.Value
}

func (r *reader) into(v *string) func(n *yaml.Node, path string) {
	return func(n *yaml.Node, path string) { *v = r.text(n, path) }
}

// path reads a JSON Pointer.
func (r *reader) path(v *value) func(n *yaml.Node, path string) {
	return func(n *yaml.Node, path string) {
		s := r.text(n, path)
		if s != "" && s[0] != '/' {
			r.fault(n, path, "must say where the field stands in a record, as a JSON Pointer such as /customer/id")
			return
		}
		*v = r.pointer(n, path, s)
	}
}

// either reads a JSON Pointer, or what always holds.
func (r *reader) either(v *value) func(n *yaml.Node, path string) {
	return func(n *yaml.Node, path string) {
		if s := r.text(n, path); s != "" && s[0] != '/' {
			*v = value{is: s}
		} else {
			*v = r.pointer(n, path, s)
		}
	}
}

// Escapes of a JSON Pointer (RFC 6901, section 3).
var (
	badEscape = regexp.MustCompile(`~([^01]|$)`)
	unescape  = strings.NewReplacer("~1", "/", "~0", "~")
)

func (r *reader) pointer(n *yaml.Node, path, s string) value {
	if s == "" {
		return value{}
	}
	if badEscape.MatchString(s) {
		r.fault(n, path, "%q: in a JSON Pointer ~ is written ~0, and / within a name ~1", s)
		return value{}
	}
	v := value{path: s}
	for step := range strings.SplitSeq(s[1:], "/") {
		v.steps = append(v.steps, unescape.Replace(step))
	}
	return v
}

func (r *reader) sources(n *yaml.Node) (all []*Source) {
	has := r.object(n, "", fields{"sources": func(n *yaml.Node, path string) {
		if n.Kind != yaml.SequenceNode || len(n.Content) == 0 || len(n.Content) > maxSources {
			r.fault(n, path, "must be a list of 1 to %d sources", maxSources)
			return
		}
		lines := map[string]int{}
		for i, n := range n.Content {
			n, path := behind(n), fmt.Sprintf("%s[%d]", path, i)
			s := r.source(n, path)
			if line, ok := lines[s.Name]; ok && s.Name != "" {
				r.fault(n, path+".name", "%q is that of the source on line %d as well: each has its own consumer group", s.Name, line)
			}
			lines[s.Name] = n.Line
			all = append(all, s)
		}
	}})
	if !has["sources"] && len(r.problems) == 0 {
		r.fault(n, "sources", "is required")
	}
	return all
}

var (
	goodName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	goodTopic = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)
)

// email is the channel of sources that name none.
const email = "email"

// source reads one source.
func (r *reader) source(n *yaml.Node, path string) *Source {
	s := &Source{channel: value{is: email}}
	format, mapping := "json", fields{
		"customer": r.path(&s.customer), "address": r.path(&s.address), "message": r.path(&s.message), "link": r.path(&s.link), "user_agent": r.path(&s.agent),
		"ip": r.path(&s.ip), "id": r.path(&s.id), "machine": r.path(&s.machine),
		"channel": r.either(&s.channel), "campaign": r.either(&s.campaign), "zone": r.either(&s.zone),
		"kind": func(n *yaml.Node, path string) { r.kind(s, n, path) },
		"time": func(n *yaml.Node, path string) { r.time(&s.at, n, path) },
	}
	known := maps.Clone(mapping)
	known["name"], known["topic"], known["format"] = r.into(&s.Name), r.into(&s.Topic), r.into(&format)
	before := len(r.problems)
	has := r.object(n, path, known)
	if n.Kind != yaml.MappingNode {
		return s
	}
	if s.cloudEvents = format == "cloudevents"; !s.cloudEvents && format != "json" {
		r.fault(n, path+".format", "%q: is json or cloudevents", format)
	}
	need := func(name, what string) {
		if !has[name] {
			r.fault(n, path+"."+name, "is required: %s", what)
		}
	}
	need("name", "lower-case letters, digits and hyphens")
	need("topic", "the topic's name")
	for name := range has {
		_, maps := mapping[name]
		s.mapped = s.mapped || maps
	}
	if s.mapped = s.mapped || !s.cloudEvents; s.mapped {
		need("kind", "what a record tells of")
		if !has["customer"] && !has["address"] {
			r.fault(n, path+".customer", "is required, or address: whose event it is")
		}
		if !has["time"] && !s.cloudEvents {
			r.fault(n, path+".time", "is required: when it happened")
		}
	}
	if len(r.problems) > before {
		return s
	}
	if !goodName.MatchString(s.Name) {
		r.fault(n, path+".name", "%q: must be 1 to 32 of a-z, 0-9 and hyphens, with a letter or a digit at both ends", s.Name)
	}
	switch {
	case !goodTopic.MatchString(s.Topic) || s.Topic == "." || s.Topic == "..":
		r.fault(n, path+".topic", "%q: Kafka knows no topic of such a name", s.Topic)
	case ours(s.Topic):
		r.fault(n, path+".topic", "%q is one of Tempismo's own: whoever writes there needs no source", s.Topic)
	}
	if z := s.zone.is; z != "" {
		if _, err := calendar.Zone(z); err != nil {
			r.fault(n, path+".zone", "%q is neither a JSON Pointer nor a time zone such as Europe/Rome", z)
		}
	}
	probe := engagement.Event{ID: "x", Source: "x", Subject: "x", Time: someday, Kind: engagement.Open, Channel: cmp.Or(s.channel.is, email), Campaign: s.campaign.is}
	if err := probe.Validate(); err != nil { // what is the same in all records, and would spoil each
		r.fault(n, path, "%v", err)
	}
	s.complete()
	return s
}

// complete fills in what a CloudEvent has in its envelope, and the names of fields for errors.
func (s *Source) complete() {
	if s.cloudEvents {
		if s.at.path == "" {
			s.at = moment{value: value{path: "/time", steps: []string{"time"}}, format: RFC3339}
		}
		if s.id.path == "" {
			s.id = value{path: "/id", steps: []string{"id"}}
		}
	}
	customer := s.customer.path
	if s.address.path != "" {
		customer = strings.TrimPrefix(customer+" or "+s.address.path, " or ")
	}
	s.names = map[string]string{
		"id": s.id.path, "subject": customer, "time": s.at.path, "data.message": s.message.path, "data.campaign": s.campaign.path,
		"data.link": s.link.path, "data.user_agent": s.agent.path, "data.zone": s.zone.path, "data.channel": s.channel.path,
	}
}

// ours reports whether a topic is one that Tempismo declares, of whatever run: what is read there would be written there again.
func ours(topic string) bool {
	return slices.ContainsFunc(topics.All, func(t topics.Topic) bool {
		return slices.ContainsFunc([]string{t.Name, topics.DeadLetter(t.Name)}, func(own string) bool {
			return topic == own || strings.HasPrefix(topic, "sim.") && strings.HasSuffix(topic, "."+own)
		})
	})
}

// ignore is what a kind of the source is that is no engagement.
const ignore = "ignore"

// kindNames are what a kind of the source may be.
const kindNames = "sent, delivered, open, click, reply, bounce, complaint, unsubscribe"

// kind reads where the kind stands and what its words mean; or the kind of all records.
func (r *reader) kind(s *Source, n *yaml.Node, path string) {
	if n.Kind == yaml.ScalarNode {
		k, ok := engagement.ParseKind(n.Value)
		if !ok {
			r.fault(n, path, "%q: must be an object with a field, or the one kind that all records are of: %s", n.Value, kindNames)
		}
		s.kind, s.kinds = value{is: n.Value}, map[string]engagement.Kind{n.Value: k}
		return
	}
	s.kinds = map[string]engagement.Kind{}
	has := r.object(n, path, fields{"field": r.path(&s.kind), "values": func(n *yaml.Node, path string) {
		r.pairs(n, path, func(name, n *yaml.Node, path string) {
			k, ok := engagement.ParseKind(n.Value)
			if n.Kind != yaml.ScalarNode || !ok && n.Value != ignore {
				r.fault(n, path, "%q: must be one of %s or, for what is no engagement, %s", n.Value, kindNames, ignore)
			}
			s.kinds[name.Value] = k
		})
		if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
			r.fault(n, path, "is empty: say what the words of the field mean")
		}
	}})
	if n.Kind == yaml.MappingNode && !has["field"] {
		r.fault(n, path+".field", "is required: where the kind stands in a record")
	}
	if !has["values"] { // the words are ours
		for name := range strings.SplitSeq(kindNames, ", ") {
			s.kinds[name], _ = engagement.ParseKind(name)
		}
	}
}

// someday is a time whose parts differ, to try formats with.
var someday = time.Date(2026, 11, 29, 13, 4, 5, 0, time.UTC)

// time reads where the time stands, and how it is written.
func (r *reader) time(m *moment, n *yaml.Node, path string) {
	zone := ""
	m.format = RFC3339
	has := r.object(n, path, fields{"field": r.path(&m.value), "format": r.into(&m.format), "zone": r.into(&zone)})
	if n.Kind != yaml.MappingNode || has["format"] && m.format == "" {
		return
	}
	if !has["field"] {
		r.fault(n, path+".field", "is required: where the time stands in a record")
	}
	named := m.format == RFC3339 || m.format == Unix || m.format == UnixMillis
	if !named {
		back, err := time.Parse(m.format, someday.Format(m.format))
		switch {
		case strings.Contains(m.format, "MST"):
			r.fault(n, path+".format", "%q: abbreviations of zones have several meanings, and are not read", m.format)
			return
		case err != nil || !back.Truncate(time.Minute).Equal(someday.Truncate(time.Minute)):
			r.fault(n, path+".format", "%q: is %s, %s, %s, or a layout of Go with a day and a time of day, such as 2006-01-02 15:04:05", m.format, RFC3339, Unix, UnixMillis)
			return
		}
		named = strings.Contains(m.format, "-07") || strings.Contains(m.format, "Z07")
	}
	switch {
	case named && has["zone"]:
		r.fault(n, path+".zone", "has no meaning: times written as %s say themselves when they are", m.format)
	case !named && !has["zone"]:
		r.fault(n, path+".zone", "is required: times written as %s name none; such as Europe/Rome, or UTC", m.format)
	case zone != "":
		var err error
		if m.zone, err = calendar.Zone(zone); err != nil {
			r.fault(n, path+".zone", "%q: must be an IANA time zone such as Europe/Rome, or UTC", zone)
		}
	}
}
