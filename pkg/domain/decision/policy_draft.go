package decision

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Draft reads a policy as operators write it, in JSON: like the data of send.policies.v1, but without version and closed,
// which come when it is put into force, and with whatever is left out taken from Default. Of channels, those count that the
// file names; a channel takes what it leaves out from the default channel of its name, an override in a segment from the
// policy's channel. Prime and fall_back belong to windows: where windows are given, the others are not filled in.
//
// A field that is not known, a wrong type and whatever Validate finds are answered as Problems, all at once. What comes back
// with them is as far as it could be read.
func Draft(file []byte) (*Policy, error) {
	p := Default()
	p.Version, p.Closed = "", nil
	node, err := decodeJSON(file)
	if err != nil {
		return &p, err
	}
	d := draft{policy: &p}
	d.read("", node, reflect.ValueOf(&p).Elem())
	found := len(d.problems)
	for _, q := range p.problems() {
		unread := func(r Problem) bool { return within(q.Path, r.Path) || within(r.Path, q.Path) }
		if !slices.ContainsFunc(d.problems[:found], unread) {
			d.problems = append(d.problems, q)
		}
	}
	return &p, d.problems.orNil()
}

func decodeJSON(data []byte) (node any, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&node); err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read policy: something follows the object")
	}
	return node, nil
}

// within reports whether path is outer or a part of it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || outer == "" || rest[0] == '.' || rest[0] == '[')
}

// draft reads a tree of JSON into Go values that hold what stands where the tree is silent.
type draft struct {
	policy   *Policy
	problems Problems
}

func (d *draft) read(path string, node any, v reflect.Value) {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.readText(path, node, u)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.readStruct(path, node, v)
	case reflect.Map:
		d.readMap(path, node, v)
	case reflect.Slice:
		d.readList(path, node, v)
	case reflect.Pointer:
		to := reflect.New(v.Type().Elem())
		d.read(path, node, to.Elem())
		v.Set(to)
	default:
		d.readScalar(path, node, v)
	}
}

func (d *draft) readText(path string, node any, u encoding.TextUnmarshaler) {
	text, ok := node.(string)
	if !ok {
		d.wrong(path, node, "text")
		return
	}
	if err := u.UnmarshalText([]byte(text)); err != nil {
		d.problems.add(path, "%v", err)
	}
}

func (d *draft) readScalar(path string, node any, v reflect.Value) {
	switch n := node.(type) {
	case string:
		if v.Kind() == reflect.String {
			v.SetString(n)
			return
		}
	case bool:
		if v.Kind() == reflect.Bool {
			v.SetBool(n)
			return
		}
	case json.Number:
		if f, err := n.Float64(); err == nil && v.Kind() == reflect.Float64 {
			v.SetFloat(f)
			return
		}
		if i, err := strconv.ParseInt(n.String(), 10, 32); err == nil && v.Kind() == reflect.Int {
			v.SetInt(i)
			return
		}
	}
	d.wrong(path, node, map[reflect.Kind]string{reflect.String: "text", reflect.Bool: "true or false", reflect.Float64: "a number", reflect.Int: "a whole number"}[v.Kind()])
}

func (d *draft) readList(path string, node any, v reflect.Value) {
	items, ok := node.([]any)
	if !ok {
		d.wrong(path, node, "a list")
		return
	}
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		d.read(fmt.Sprintf("%s[%d]", path, i), item, list.Index(i))
	}
	v.Set(list)
}

func (d *draft) readMap(path string, node any, v reflect.Value) {
	fields, ok := node.(map[string]any)
	if !ok {
		d.wrong(path, node, "fields with names")
		return
	}
	m := reflect.MakeMap(v.Type())
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := reflect.New(v.Type().Elem()).Elem()
		if begun := v.MapIndex(reflect.ValueOf(name)); begun.IsValid() {
			value.Set(begun)
		}
		d.read(join(path, name), fields[name], value)
		m.SetMapIndex(reflect.ValueOf(name), value)
	}
	v.Set(m)
}

func (d *draft) readStruct(path string, node any, v reflect.Value) {
	fields, ok := node.(map[string]any)
	if !ok {
		d.wrong(path, node, "fields with names")
		return
	}
	d.begin(fields, v)
	known := map[string]bool{}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if path == "" && (name == "version" || name == "closed") {
			continue
		}
		known[name] = true
		if value, given := fields[name]; given {
			d.read(join(path, name), value, v.Field(i))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		switch {
		case known[name]:
		case path == "" && (name == "version" || name == "closed"):
			d.problems.add(name, "comes when the policy is put into force: leave it out")
		default:
			d.problems.add(join(path, name), "%s", unknown(name, known))
		}
	}
}

// begin puts into a value what stands where its fields are silent, as far as that depends on other fields.
func (d *draft) begin(fields map[string]any, v reflect.Value) {
	switch v := v.Addr().Interface().(type) {
	case *Policy:
		if named, ok := fields["channels"]; ok {
			v.Channels = begun(named, v.Channels)
		}
	case *Segment:
		if named, ok := fields["channels"]; ok {
			v.Channels = begun(named, d.policy.Channels) // which stand before segments in a Policy, and so are read already
		}
	case *Condition:
		if is, ok := fields["is"]; ok {
			fields["is"] = spelled(is)
		}
	}
}

// begun returns what the channels that a file names begin with.
func begun(named any, channels map[string]Channel) map[string]Channel {
	m := map[string]Channel{}
	nodes, _ := named.(map[string]any)
	for name, node := range nodes {
		c, ok := channels[name]
		if !ok {
			c = defaultEmail()
			c.Windows, c.Prime, c.Triggers = nil, nil, []string{}
		}
		if own, ok := node.(map[string]any); ok && own["windows"] != nil {
			c.Prime, c.FallBack = nil, nil
		}
		m[name] = c
	}
	return m
}

// spelled writes the numbers and truth values of a list out, because conditions compare them in their JSON form.
func spelled(node any) any {
	items, ok := node.([]any)
	if !ok {
		return node
	}
	list := make([]any, len(items))
	for i, item := range items {
		list[i] = item
		switch item := item.(type) {
		case json.Number:
			list[i] = item.String()
		case bool:
			list[i] = strconv.FormatBool(item)
		}
	}
	return list
}

// wrong says that a value is of another type than the one that is wanted.
func (d *draft) wrong(path string, node any, want string) {
	switch n := node.(type) {
	case nil:
		d.problems.add(path, "is empty: give %s, or leave the field out", want)
	case string:
		d.problems.add(path, "%q is not %s", n, want)
	case bool, json.Number:
		if want == "text" {
			want += ": put it in quotes"
		}
		d.problems.add(path, "%v is not %s", n, want)
	case []any:
		d.problems.add(path, "is a list, not %s", want)
	default:
		d.problems.add(path, "has fields, and is to be %s", want)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// unknown is what is said of a field that nothing reads: the most similar one that something does, or all of them.
func unknown(name string, known map[string]bool) string {
	best, least := "", math.MaxInt
	names := slices.Sorted(maps.Keys(known))
	for _, k := range names {
		if n := distance(name, k); n < least {
			best, least = k, n
		}
	}
	if least <= max(2, len(best)/3) {
		return fmt.Sprintf("there is no such field: did you mean %s?", best)
	}
	return "there is no such field; there are " + strings.Join(names, ", ")
}

// distance is the number of bytes to change, put in or take out between two words (Levenshtein, Soviet Physics Doklady 10,
// 1966, p. 707).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
