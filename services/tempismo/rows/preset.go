package rows

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// Preset says what the exports of a vendor look like. It is data: a vendor needs a table in presets.go and no code.
type Preset struct {
	Name    string
	Vendor  string // for people
	Layouts []Layout
}

// Names are columns of which the first that a row has, and that is not empty, is taken. Case, spaces and punctuation do not
// matter: "Email Address" is email_address, and sentBy.id, a member of a member, is sentby_id.
type Names []string

// Layout is one kind of file.
type Layout struct {
	What string // for people: which export it is
	Docs string // where its columns are documented

	// Inside are the arrays in a JSON document that hold the rows, from the outermost. Rows have the columns of what is around
	// them. "*" is every member that is an array: its name is the column "*". Lines that are an inner part alone are read, too.
	Inside []string

	Customer Names
	Kind     Names                      // empty: Happens has the kinds
	Kinds    map[string]engagement.Kind // by value, in lower case; others are no engagement
	Only     map[string]Condition       // of some values of Kind: what must hold beside
	Happens  []Happening
	Needs    []Names // columns beside these by which the layout is told from others
	Skip     Names   // rows for which it is true are no engagement

	ID       []Names // the vendor's id of a row, in parts; an empty part counts as well
	Message  []Names // in parts, joined by dots; without all of them there is no message
	Campaign Names
	Link     Names
	Agent    Names
	Address  Names
	Machine  Names // true: the vendor says that a machine did it

	Formats []string // of times, as package time writes them, beside those of Time
	Clock   string   // zone of times that name none; empty: whoever imports has to say
}

// Happening is an event that a row tells of, at the time in a column; a row where that is empty does not tell of it.
type Happening struct {
	At   Names
	Kind engagement.Kind // zero: Layout.Kind has it, or whoever imports has to say
	If   Condition
}

// Condition holds if one of the columns has the text in it. The zero Condition always holds.
type Condition struct {
	Columns Names
	Has     string // in upper case; empty: the column must be true
	Not     bool
}

// Find returns a preset.
func Find(name string) (Preset, bool) {
	for _, p := range Presets {
		if p.Name == name {
			return p, true
		}
	}
	return Preset{}, false
}

// first returns the value of the first of the columns that is not empty.
func (n Names) first(get row) string {
	for _, name := range n {
		if v, ok := get(squeeze(name)); ok && v != "" {
			return v
		}
	}
	return ""
}

// known reports whether one of the columns is there.
func (n Names) known(has func(string) bool) bool {
	return slices.ContainsFunc(n, func(name string) bool { return has(squeeze(name)) })
}

func (n Names) String() string { return strings.Join(n, " or ") }

// squeeze leaves what counts of a column's name.
func squeeze(name string) string {
	if name == "*" {
		return name
	}
	plain := true
	for i := 0; i < len(name); i++ {
		if c := name[i]; c >= 0x80 || (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			plain = false
			break
		}
	}
	if plain {
		return name
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" _-.:/()\t\u00a0", r) {
			return -1
		}
		return r
	}, strings.ToLower(name))
}

// isTrue reads a flag; "sì" and the like are of exports in a language of their own.
func isTrue(text string) bool {
	switch strings.ToLower(text) {
	case "true", "1", "yes", "y", "t", "sì", "si", "ja", "oui", "sí":
		return true
	}
	return false
}

func (c *Condition) holds(get row) bool {
	if len(c.Columns) == 0 {
		return true
	}
	found := slices.ContainsFunc(c.Columns, func(name string) bool {
		v, _ := get(squeeze(name))
		if c.Has == "" {
			return isTrue(v)
		}
		return strings.Contains(strings.ToUpper(v), c.Has)
	})
	return found != c.Not
}

// lacks names the columns that a file has not got.
func (l *Layout) lacks(has func(string) bool) (missing []string) {
	need := func(n Names) {
		if !n.known(has) {
			missing = append(missing, n.String())
		}
	}
	need(l.Customer)
	if len(l.Kind) > 0 {
		need(l.Kind)
	}
	need(l.Happens[0].At)
	for _, n := range l.Needs {
		need(n)
	}
	return missing
}

// override puts what was named by hand in place of what the preset says.
func (l Layout) override(m *Mapping) (Layout, error) {
	if m.Customer != "" {
		l.Customer = Names{m.Customer}
	}
	if m.Message != "" {
		l.Message = []Names{{m.Message}}
	}
	if m.Campaign != "" {
		l.Campaign = Names{m.Campaign}
	}
	if m.Clock != "" {
		l.Clock = m.Clock
	}
	if m.Format != "" {
		l.Formats = []string{m.Format}
	}
	l.Happens = slices.Clone(l.Happens)
	if m.Time != "" {
		l.Happens = []Happening{{At: Names{m.Time}, Kind: l.Happens[0].Kind}}
	}
	switch k, ok := kind(m.Kind); {
	case m.Kind == "":
	case len(l.Happens) > 1:
		return l, fmt.Errorf("--kind: in a file of %s, a row tells of several kinds; name the column of one with --time as well", l.What)
	case ok:
		l.Kind, l.Happens[0].Kind = nil, k
	default:
		l.Kind, l.Happens[0].Kind = Names{m.Kind}, 0
		if l.Kinds == nil {
			l.Kinds = kindNames
		}
	}
	return l, nil
}

// choose returns the first layout that a file fits, or an error that says what the nearest lacks.
func (x *Reader) choose(has func(string) bool, found []string) (*Layout, error) {
	var errs []error
	best := 1 << 10
	var nearest string
	for _, l := range x.preset.Layouts {
		l, err := l.override(&x.fields)
		missing := l.lacks(has)
		if n := len(missing); n > 0 {
			if n < best {
				best, nearest = n, fmt.Sprintf("a file of %s has %s as well", l.What, strings.Join(missing, "; "))
			}
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if len(l.Kind) == 0 && l.Happens[0].Kind == 0 {
			return nil, fmt.Errorf("--kind: a file of %s does not say what happened: give the kind of all of its rows (sent, open, unsubscribe ...)", l.What)
		}
		return &l, x.settle(&l)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return nil, fmt.Errorf("--preset=%s: these are not the columns of an export of %s: %s; found are %s. Columns that are called otherwise, in another language for example, can be named one by one: --customer, --time, --kind and the like",
		x.preset.Name, x.preset.Vendor, nearest, strings.Join(found, ", "))
}

// settle resolves what does not differ from row to row.
func (x *Reader) settle(l *Layout) (err error) {
	if x.clock, err = clock(l.Clock); err != nil {
		return err
	}
	x.fixed.channel = x.fields.Channel == defaultChannel
	if x.fields.Zone != "" {
		if _, err := calendar.Zone(x.fields.Zone); err == nil {
			x.fixed.zone = true
		}
	}
	return nil
}

// clock is the zone of that name; nil for none.
func clock(name string) (*time.Location, error) {
	if name == "" {
		return nil, nil
	}
	loc, err := calendar.Zone(name)
	if err != nil {
		return nil, fmt.Errorf("--times-in: %w", err)
	}
	return loc, nil
}

// errNoClock stops an import: each line would have the same error, and to guess would be to move all events by hours.
var errNoClock = errors.New("the times name no zone, and the export does not say which it is: give --times-in, as in --times-in=Europe/Rome")

// presetCSV prepares for a CSV of a preset.
func (x *Reader) presetCSV(c *csv.Reader, header []string) error {
	index := make(map[string]int, len(header))
	for i, h := range header {
		if name := squeeze(strings.TrimSpace(h)); name != "" {
			if _, twice := index[name]; !twice {
				index[name] = i
			}
		}
	}
	layout, err := x.choose(func(name string) bool { _, ok := index[name]; return ok }, slices.Clone(header))
	if err != nil {
		return err
	}
	x.layout = layout
	var record []string
	get := func(column string) (string, bool) {
		i, ok := index[column]
		if !ok || i >= len(record) {
			return "", false
		}
		return strings.TrimSpace(record[i]), true
	}
	x.next = func() (row, error) {
		if record, err = c.Read(); err != nil {
			return nil, x.csvError(err)
		}
		line, _ := c.FieldPos(0)
		x.line = int64(line)
		return get, nil
	}
	return nil
}

// happenings returns the next event of a file of a preset. One row may tell of several.
func (x *Reader) happenings() (*engagement.Event, int64, error) {
	for {
		for x.happened < len(x.layoutHappens()) {
			h := &x.layout.Happens[x.happened]
			x.happened++
			ok, err := x.happening(h)
			if err != nil {
				if errors.Is(err, errNoClock) {
					return nil, x.line, err
				}
				x.told = true
				return nil, x.line, &LineError{x.line, x.within(err)}
			}
			if ok {
				x.told = true
				return &x.event, x.line, nil
			}
		}
		if x.current != nil && !x.told {
			x.Ignored++
		}
		x.current = nil
		get, err := x.next()
		if err != nil {
			return nil, x.line, err
		}
		x.current, x.happened, x.told = get, 0, false
	}
}

func (x *Reader) layoutHappens() []Happening {
	if x.current == nil {
		return nil
	}
	return x.layout.Happens
}

// within says where in a document, or in a line that has several, an error is.
func (x *Reader) within(err error) error {
	if x.place == "" {
		return err
	}
	return fmt.Errorf("%s: %w", x.place, err)
}

// happening fills in the event, if the row tells of h.
func (x *Reader) happening(h *Happening) (bool, error) {
	l, get := x.layout, x.current
	if len(l.Skip) > 0 && isTrue(l.Skip.first(get)) || !h.If.holds(get) {
		return false, nil
	}
	e := engagement.Event{Source: Source, Kind: h.Kind, Channel: x.fields.Channel, Provider: x.preset.Name}
	if e.Kind == 0 {
		name := strings.ToLower(l.Kind.first(get))
		if name == "" {
			return false, fmt.Errorf("%s: is empty", l.Kind)
		}
		k, ok := l.Kinds[name]
		if only, has := l.Only[name]; !ok || has && !only.holds(get) {
			return false, nil
		}
		e.Kind = k
	}
	text := h.At.first(get)
	if text == "" && len(l.Happens) > 1 {
		return false, nil
	}
	at, err := timeIn(text, l.Formats, x.clock)
	if err != nil {
		if errors.Is(err, errNoClock) {
			return false, err
		}
		return false, fmt.Errorf("%s: %w", h.At, err)
	}
	e.Time = at
	if e.Subject, err = customer(l.Customer, get); err != nil {
		return false, err
	}
	e.Message, e.Campaign, e.Link, e.UserAgent = joined(l.Message, get), l.Campaign.first(get), l.Link.first(get), l.Agent.first(get)
	if e.Kind != engagement.Click {
		e.Link = ""
	}
	if e.Zone, err = x.zone(get, e.Time, text); err != nil {
		return false, err
	}
	if !x.fixed.channel {
		if v, ok := get(squeeze(x.fields.Channel)); ok {
			e.Channel = strings.ToLower(v)
		}
	}
	e.ID = x.rowID(&e)
	addr, _ := netip.ParseAddr(l.Address.first(get)) // what is no address proves nothing
	// As ingest does, by the lists of this version. The address goes no further.
	engagement.DefaultLists().Judge(&e, isTrue(l.Machine.first(get)), addr)
	x.event = e
	return true, x.event.Validate()
}

// customer is the customer of a row. Addresses are compared in lower case, as ingest does.
func customer(columns Names, get row) (string, error) {
	id := columns.first(get)
	switch {
	case id == "":
		return "", fmt.Errorf("%s: is empty", columns)
	case !strings.Contains(id, "@"):
		return id, nil
	case strings.Count(id, "@") > 1 || strings.ContainsAny(id, ";, "):
		return "", fmt.Errorf("%s: %q is not one address: whose event it is cannot be told", columns, id)
	}
	return strings.ToLower(id), nil
}

// zone is the customer's, if somebody has named a column or a zone for it.
func (x *Reader) zone(get row, at time.Time, text string) (string, error) {
	if x.fields.Zone == "" || x.fixed.zone {
		return x.fields.Zone, nil
	}
	v, ok := get(squeeze(x.fields.Zone))
	if !ok || v == "" {
		return "", nil
	}
	name, err := zoneAt(v, at)
	if err != nil {
		return "", fmt.Errorf("%s: %w", x.fields.Zone, err)
	}
	return name, nil
}

// joined puts parts together; without all of them it is empty, because half an id would join what does not belong together.
func joined(parts []Names, get row) string {
	var b []byte
	for i, p := range parts {
		v := p.first(get)
		if v == "" {
			return ""
		}
		if i > 0 {
			b = append(b, '.')
		}
		b = append(b, v...)
	}
	return string(b)
}

// rowID names an event by what the vendor calls the row, or else by the message, and by the recipient, the kind, the time and
// the link: the same row has it in every export, on whichever line, and whatever else the export has in it.
func (x *Reader) rowID(e *engagement.Event) string {
	parts := []string{x.preset.Name}
	if joined(x.layout.ID, x.current) != "" {
		for _, p := range x.layout.ID {
			parts = append(parts, p.first(x.current))
		}
	} else {
		parts = append(parts, e.Message, e.Campaign)
	}
	return hashed(append(parts, e.Subject, e.Kind.String(), strconv.FormatInt(e.Time.UnixMilli(), 10), e.Link)...)
}

// item is a row of a JSON document.
type item struct {
	columns map[string]string // by squeezed name
	place   string            // in the document, where it has several
	line    int64
}

// undecidedMost is how many documents are looked at until it is clear which export a file is.
const undecidedMost = 100

// presetJSON prepares for JSON of a preset: one document, or several one after the other, or one a line.
func (x *Reader) presetJSON(next func() (any, error)) error {
	type held struct {
		document any
		line     int64
	}
	var waiting []item
	inside := 0 // how much of Layout.Inside the documents lack
	unwrap := func(h held) error {
		items, ok := rowsIn(h.document, x.layout.Inside[inside:])
		if !ok {
			x.place, x.line = "", h.line
			return &LineError{h.line, fmt.Errorf("no JSON of %s", x.layout.What)}
		}
		for _, one := range items {
			one.line = h.line
			waiting = append(waiting, one)
		}
		return nil
	}
	var undecided []held
	// decide looks for the layout that all undecided documents together have the columns of: not every row has every column.
	decide := func() error {
		var failed error
		fitted := false
		for i := range x.preset.Layouts {
			for k := 0; k <= len(x.preset.Layouts[i].Inside); k++ {
				found, fits := map[string]bool{}, false
				for _, h := range undecided {
					items, ok := rowsIn(h.document, x.preset.Layouts[i].Inside[k:])
					fits = fits || ok
					for _, one := range items {
						for name := range one.columns {
							found[name] = true
						}
					}
				}
				if !fits {
					continue
				}
				fitted = true
				if len(found) == 0 {
					break // a page of nothing
				}
				one := *x
				one.preset.Layouts = x.preset.Layouts[i : i+1]
				layout, err := one.choose(func(c string) bool { return found[c] }, slices.Sorted(maps.Keys(found)))
				if err == nil {
					x.layout, x.clock, x.fixed, inside = layout, one.clock, one.fixed, k
					return nil
				}
				if failed == nil {
					failed = err
				}
				break
			}
		}
		if !fitted && len(undecided) > 0 {
			failed = fmt.Errorf("--preset=%s: this is no JSON of %s", x.preset.Name, x.preset.Vendor)
		}
		return failed
	}
	read := func() (row, error) {
		for len(waiting) == 0 {
			document, err := next()
			if x.layout != nil {
				if err == nil {
					err = unwrap(held{document, x.line})
				}
				if err != nil {
					return nil, err
				}
				continue
			}
			if line := new(LineError); errors.As(err, &line) {
				return nil, err
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
			if err == nil {
				undecided = append(undecided, held{document, x.line})
			}
			if failed := decide(); failed != nil && (err != nil || len(undecided) == undecidedMost) {
				return nil, failed
			}
			if x.layout == nil {
				if err != nil {
					return nil, err
				}
				if len(undecided) == undecidedMost { // without a row in any of them
					undecided = undecided[:0]
				}
				continue
			}
			for _, h := range undecided {
				if err := unwrap(h); err != nil {
					waiting = append(waiting, item{line: h.line})
				}
			}
			undecided = nil
		}
		one := waiting[0]
		waiting = waiting[1:]
		x.place, x.line = one.place, one.line
		return func(column string) (string, bool) { v, ok := one.columns[column]; return v, ok }, nil
	}
	// The first row is looked at now, so that a file of something else is refused before anything is started.
	first, err := read()
	if line := new(LineError); err != nil && !errors.Is(err, io.EOF) && !errors.As(err, &line) {
		return err
	}
	line, place := x.line, x.place
	pending := true
	x.next = func() (row, error) {
		if pending {
			pending = false
			x.line, x.place = line, place
			return first, err
		}
		return read()
	}
	return nil
}

// rowsIn takes a document apart. ok is false if it does not have these arrays; a null is an empty one.
func rowsIn(document any, inside []string) (items []item, ok bool) {
	object, isObject := document.(map[string]any)
	if !isObject {
		return nil, false
	}
	columns := map[string]string{}
	flatten(columns, "", object, 0)
	if len(inside) == 0 {
		return []item{{columns: columns}}, true
	}
	delete(columns, squeeze(inside[0]))
	add := func(name string, list any) {
		elements, isList := list.([]any)
		if !isList && list != nil {
			return
		}
		ok = true
		for i, element := range elements {
			place := name + "[" + strconv.Itoa(i) + "]"
			deeper, fits := rowsIn(element, inside[1:])
			if !fits {
				// It is kept, so that it is refused by itself; it has no columns.
				deeper = []item{{columns: map[string]string{}}}
			}
			for _, d := range deeper {
				for k, v := range columns {
					if _, own := d.columns[k]; !own {
						d.columns[k] = v
					}
				}
				if inside[0] == "*" {
					d.columns["*"] = name
				}
				if d.place != "" {
					d.place = place + "." + d.place
				} else {
					d.place = place
				}
				items = append(items, d)
			}
		}
	}
	if inside[0] == "*" {
		names := make([]string, 0, len(object))
		for name := range object {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			if _, isList := object[name].([]any); isList {
				add(name, object[name])
			}
		}
		return items, ok
	}
	if list, has := object[inside[0]]; has {
		add(inside[0], list)
	}
	return items, ok
}

// flatten makes columns of the members of an object, and of those of the objects in it. A list is its JSON, so that it can be
// looked into for a word.
func flatten(columns map[string]string, prefix string, object map[string]any, depth int) {
	for name, value := range object {
		name = squeeze(prefix + name)
		switch v := value.(type) {
		case string:
			columns[name] = strings.TrimSpace(v)
		case json.Number:
			columns[name] = v.String()
		case bool:
			columns[name] = strconv.FormatBool(v)
		case nil:
			columns[name] = ""
		case map[string]any:
			if depth < 2 {
				flatten(columns, name+".", v, depth+1)
			}
		case []any:
			if b, err := json.Marshal(v); err == nil && depth == 0 && len(b) < 4096 {
				columns[name] = string(b)
			}
		}
	}
}

// documents reads JSON that is not one document a line: indented, or one array of everything. Elements of an array come one
// by one.
func (x *Reader) documents(r io.Reader) func() (any, error) {
	lines := &lineCounter{r: r}
	d := json.NewDecoder(lines)
	d.UseNumber()
	array, ended := false, false
	var fail error
	return func() (any, error) {
		for fail == nil {
			if ended {
				return nil, io.EOF
			}
			if array && !d.More() {
				array = false
				if _, err := d.Token(); err != nil {
					fail = x.broken(lines.at(d.InputOffset()), err)
					break
				}
			}
			var document any
			var raw json.RawMessage
			if !array {
				// A document that is an array is entered.
				b, err := lines.peek(d)
				if err != nil {
					if ended = errors.Is(err, io.EOF); !ended {
						fail = x.broken(lines.at(d.InputOffset()), err)
					}
					continue
				}
				if b == '[' {
					if _, err := d.Token(); err != nil {
						fail = x.broken(lines.at(d.InputOffset()), err)
						break
					}
					array = true
					continue
				}
			}
			if err := d.Decode(&raw); err != nil {
				fail = x.broken(lines.at(d.InputOffset()), err)
				break
			}
			x.line = lines.at(d.InputOffset() - int64(len(raw)) + 1)
			inner := json.NewDecoder(bytes.NewReader(raw))
			inner.UseNumber()
			if err := inner.Decode(&document); err != nil {
				return nil, &LineError{x.line, err}
			}
			return document, nil
		}
		return nil, fail
	}
}

// broken is an error after which nothing can be read any more.
func (x *Reader) broken(line int64, err error) error {
	x.line = line
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("the JSON ends in the middle, after line %d: fetch the file again", line)
	}
	return fmt.Errorf("line %d: no JSON: %w", line, err)
}

// lineCounter remembers where lines end in what was read ahead.
type lineCounter struct {
	r     io.Reader
	n     int64
	ends  []int64
	lines int64
}

func (c *lineCounter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	for i, x := range b[:n] {
		if x == '\n' {
			c.ends = append(c.ends, c.n+int64(i))
		}
	}
	c.n += int64(n)
	return n, err
}

// at is the line of an offset, from 1. Offsets must not decrease.
func (c *lineCounter) at(offset int64) int64 {
	k := 0
	for k < len(c.ends) && c.ends[k] < offset {
		k++
	}
	c.lines += int64(k)
	c.ends = c.ends[k:]
	return c.lines + 1
}

// peek returns the first byte of the next document.
func (c *lineCounter) peek(d *json.Decoder) (byte, error) {
	if !d.More() { // it reads ahead
		if _, err := d.Token(); err != nil { // io.EOF, or a bracket that closes nothing
			return 0, err
		}
		return 0, errors.New("a bracket closes nothing")
	}
	rest := d.Buffered()
	one := make([]byte, 1)
	for {
		if _, err := rest.Read(one); err != nil {
			return 0, err
		}
		if !bytes.ContainsAny(one, " \t\r\n,") {
			return one[0], nil
		}
	}
}

// presetLines finds out whether JSON is one object a line, of which a bad one costs no other, or documents of many lines.
func (x *Reader) presetLines(b io.Reader, read func() error, decode func() (map[string]any, error), line, whole *[]byte) error {
	err := read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			x.next = func() (row, error) { return nil, io.EOF }
			return nil
		}
		return err
	}
	if (*line)[0] != '{' || !json.Valid(*line) {
		skipped := strings.Repeat("\n", int(x.line-1))
		return x.presetJSON(x.documents(io.MultiReader(strings.NewReader(skipped), bytes.NewReader(bytes.Clone(*whole)), b)))
	}
	pending := true
	return x.presetJSON(func() (any, error) {
		if !pending {
			if err := read(); err != nil {
				return nil, err
			}
		}
		pending = false
		object, err := decode()
		if err != nil {
			x.place = ""
			return nil, err
		}
		return object, nil
	})
}

// Expectation is a field and the columns of which it is taken, for people.
type Expectation struct{ Field, Columns string }

// Expects says which columns a layout is read by. Those of the customer, the kind, the first time and of nothing else must be
// there, and what is told to be needed.
func (l *Layout) Expects() (all []Expectation) {
	add := func(field, columns string) {
		if columns != "" {
			all = append(all, Expectation{field, columns})
		}
	}
	parts := func(names []Names) string {
		var s []string
		for _, n := range names {
			s = append(s, n.String())
		}
		return strings.Join(s, " with ")
	}
	add("within", strings.Join(l.Inside, ", "))
	add("customer", l.Customer.String())
	add("kind", l.Kind.String())
	for _, h := range l.Happens {
		text := h.At.String()
		switch {
		case h.Kind != 0 && len(h.If.Columns) > 0 && h.If.Not:
			text += " of " + h.Kind.String() + ", unless " + h.If.Columns.String()
		case h.Kind != 0 && len(h.If.Columns) > 0:
			text += " of " + h.Kind.String() + ", if " + h.If.Columns.String()
		case h.Kind != 0:
			text += " of " + h.Kind.String()
		case len(l.Kind) == 0:
			text += "; give --kind"
		}
		add("time", text)
	}
	switch l.Clock {
	case "":
		add("times in", "their zone is not known: give --times-in")
	default:
		add("times in", l.Clock+", if they name no zone")
	}
	add("needs", parts(l.Needs))
	add("ignored", l.Skip.String())
	add("id", parts(l.ID))
	add("message", parts(l.Message))
	add("campaign", l.Campaign.String())
	add("link", l.Link.String())
	add("agent", l.Agent.String())
	add("address", l.Address.String())
	add("machine", l.Machine.String())
	return all
}
