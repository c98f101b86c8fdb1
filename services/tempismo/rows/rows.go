// Package rows turns the lines of an export, CSV or NDJSON, into engagement events by a mapping of columns.
//
// It reads one line after the other and keeps none. It does not sort, does not write to a topic, and corrects nothing: a
// line that it cannot read is an error that names the line, and the next line is read as if it had not been there.
package rows

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// Source is the CloudEvents source of imported events.
const Source = "/tempismo/import"

// defaultChannel is a channel even where there is a column of that name: it holds addresses.
const defaultChannel = "email"

// Mapping names, for each field of an event, the column (or the member of a JSON object) that holds it. Kind, Zone and
// Channel may be values instead of columns, for exports that hold one kind of event only; Message and Campaign may be
// empty.
type Mapping struct {
	Customer, Time, Kind, Zone, Channel, Message, Campaign string

	Clock  string // zone of times that name none; empty: UTC, or what the preset says
	Format string // of times, as package time writes it; empty: those of Time, or what the preset says
	Preset string // the export of a vendor, of which the fields above that are not empty are exceptions
}

// LineError is a line that is no event.
type LineError struct {
	Line int64 // counted from 1, the header included
	Err  error
}

// Error names the line.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns what is wrong with the line.
func (e *LineError) Unwrap() error { return e.Err }

// Reader reads events.
type Reader struct {
	next   func() (row, error)
	fields Mapping
	fixed  struct{ kind, zone, channel bool }
	kind   engagement.Kind
	line   int64
	event  engagement.Event
	events bool           // lines are whole events already
	clock  *time.Location // of times that name none; nil: the preset does not know it

	// Of a preset.
	Ignored  int64 // rows that are no engagement
	preset   Preset
	layout   *Layout
	current  row
	place    string // of the row in its document
	happened int    // how many of the layout's happenings were looked at in the row
	told     bool   // one of them has come of it
}

// row is one line: a value by column, and whether the line has the column.
type row func(column string) (string, bool)

// Open reads from r. name decides the format: .csv, or .ndjson, .jsonl, .json; then .gz if it is compressed. Of any other
// name the first byte decides. Without a mapping of the customer, lines must be engagement events as they stand on the
// topic.
func Open(r io.Reader, name string, m Mapping) (*Reader, error) {
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		r, name = z, strings.TrimSuffix(name, ".gz")
	}
	b := bufio.NewReaderSize(r, 1<<20)
	if mark, _ := b.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) { // spreadsheets write it before UTF-8
		_, _ = b.Discard(3)
	}
	switch mark, _ := b.Peek(2); string(mark) {
	case "\xff\xfe", "\xfe\xff":
		return nil, fmt.Errorf("%s is UTF-16: convert it to UTF-8, as in iconv -f UTF-16 -t UTF-8", name)
	case "PK":
		return nil, fmt.Errorf("%s is a zip: unpack it, and import the files in it together", name)
	}
	isJSON := false
	switch {
	case strings.HasSuffix(name, ".ndjson"), strings.HasSuffix(name, ".jsonl"), strings.HasSuffix(name, ".json"):
		isJSON = true
	case !strings.HasSuffix(name, ".csv"):
		first, _ := b.Peek(1)
		isJSON = string(first) == "{" || string(first) == "[" && m.Preset != ""
	}
	x := &Reader{fields: m, clock: time.UTC}
	if m.Preset != "" {
		preset, ok := Find(m.Preset)
		if !ok {
			return nil, fmt.Errorf("--preset=%s: there is none of that name; there are %s", m.Preset, strings.Join(PresetNames(), ", "))
		}
		x.preset = preset
	} else if m.Clock != "" {
		loc, err := clock(m.Clock)
		if err != nil {
			return nil, err
		}
		x.clock = loc
	}
	if isJSON {
		return x.json(b)
	}
	return x.csv(b)
}

// csv prepares for comma-separated values by RFC 4180 with a header. Where there is no comma in that, semicolons or tabs separate.
func (x *Reader) csv(b *bufio.Reader) (*Reader, error) {
	c := csv.NewReader(b)
	c.ReuseRecord = true
	start, _ := b.Peek(4096)
	start, _, _ = bytes.Cut(start, []byte("\n"))
	if !bytes.ContainsRune(start, ',') {
		if i := bytes.IndexAny(start, ";\t"); i >= 0 {
			c.Comma = rune(start[i])
		}
	}
	header, err := c.Read()
	if err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	if x.preset.Name != "" {
		return x, x.presetCSV(c, header)
	}
	columns := make(map[string]int, len(header))
	var names []string
	for i, h := range header {
		h = strings.TrimSpace(h)
		columns[h] = i
		names = append(names, h)
	}
	if err := x.resolve(func(c string) bool { _, ok := columns[c]; return ok }, "columns are "+strings.Join(names, ", ")); err != nil {
		return nil, err
	}
	x.next = func() (row, error) {
		record, err := c.Read()
		if err != nil {
			return nil, x.csvError(err)
		}
		line, _ := c.FieldPos(0)
		x.line = int64(line)
		return func(column string) (string, bool) {
			i, ok := columns[column]
			if !ok {
				return "", false
			}
			return strings.TrimSpace(record[i]), true
		}, nil
	}
	return x, nil
}

// csvError is a *LineError where reading can go on.
func (x *Reader) csvError(err error) error {
	if bad := new(csv.ParseError); errors.As(err, &bad) {
		x.line = int64(bad.Line)
		return &LineError{x.line, bad.Err}
	}
	return err
}

// json prepares for one JSON object a line. Whether a field is a column or a value is decided by the first object.
func (x *Reader) json(b *bufio.Reader) (*Reader, error) {
	if x.fields.Customer == "" && x.preset.Name == "" {
		x.events = true
	}
	var line, whole []byte // without and with the space around it
	read := func() error {
		for {
			line = line[:0]
			for {
				part, err := b.ReadSlice('\n')
				line = append(line, part...)
				if errors.Is(err, bufio.ErrBufferFull) && len(line) < 16<<20 {
					continue
				}
				if err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				if len(line) == 0 && err != nil {
					return io.EOF
				}
				break
			}
			x.line++
			whole = line
			if line = bytes.TrimSpace(line); len(line) > 0 {
				return nil
			}
		}
	}
	decode := func() (map[string]any, error) {
		object := map[string]any{}
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&object); err != nil {
			return nil, &LineError{x.line, fmt.Errorf("no JSON object: %w", err)}
		}
		return object, nil
	}
	if x.preset.Name != "" {
		return x, x.presetLines(b, read, decode, &line, &whole)
	}
	pending := false
	if err := read(); err == nil {
		pending = true
		if !x.events {
			first, err := decode()
			if err != nil {
				return nil, fmt.Errorf("the first line decides what is a member and what a value: %w", err)
			}
			if err := x.resolve(func(c string) bool { _, ok := first[c]; return ok }, "the first object has no such member"); err != nil {
				return nil, err
			}
		}
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	x.next = func() (row, error) {
		if !pending {
			if err := read(); err != nil {
				return nil, err
			}
		}
		pending = false
		if x.events {
			return nil, nil
		}
		object, err := decode()
		if err != nil {
			return nil, err
		}
		return func(column string) (string, bool) {
			switch v := object[column].(type) {
			case string:
				return strings.TrimSpace(v), true
			case json.Number:
				return v.String(), true
			case bool:
				return strconv.FormatBool(v), true
			}
			return "", false
		}, nil
	}
	if x.events {
		inner := x.next
		x.next = func() (row, error) {
			if _, err := inner(); err != nil {
				return nil, err
			}
			x.event = engagement.Event{}
			// The event's strings are views into what Parse reads; callers keep the event until the next line only.
			if err := x.event.Parse(line); err != nil {
				return nil, &LineError{x.line, err}
			}
			return nil, x.event.Validate()
		}
	}
	return x, nil
}

// resolve decides which fields are columns and which are values.
func (x *Reader) resolve(has func(string) bool, known string) error {
	var errs []error
	need := func(flag, column string) {
		switch {
		case column == "":
			errs = append(errs, fmt.Errorf("%s: name the column that holds it; %s", flag, known))
		case !has(column):
			errs = append(errs, fmt.Errorf("%s: no column %q; %s", flag, column, known))
		}
	}
	need("--customer", x.fields.Customer)
	need("--time", x.fields.Time)
	if !has(x.fields.Kind) {
		var ok bool
		if x.kind, ok = kind(x.fields.Kind); !ok {
			errs = append(errs, fmt.Errorf("--kind: %q is neither a column nor a kind of event (sent, delivered, open, click, reply, bounce, complaint, unsubscribe); %s", x.fields.Kind, known))
		}
		x.fixed.kind = true
	}
	if z := x.fields.Zone; z != "" && !has(z) {
		if _, err := calendar.Zone(z); err != nil {
			errs = append(errs, fmt.Errorf("--zone: %q is neither a column nor a time zone such as Europe/Rome; %s", z, known))
		}
		x.fixed.zone = true
	}
	x.fixed.channel = x.fields.Channel == defaultChannel || !has(x.fields.Channel)
	for flag, c := range map[string]string{"--message": x.fields.Message, "--campaign": x.fields.Campaign} {
		if c != "" && !has(c) {
			errs = append(errs, fmt.Errorf("%s: no column %q; %s", flag, c, known))
		}
	}
	return errors.Join(errs...)
}

// Read returns the next event and its line. The event lives until the next call. A *LineError says that a line is none,
// and reading can go on; io.EOF is the end.
func (x *Reader) Read() (*engagement.Event, int64, error) {
	if x.preset.Name != "" {
		return x.happenings()
	}
	get, err := x.next()
	if err != nil {
		var field *engagement.FieldError
		if errors.As(err, &field) && !errors.As(err, new(*LineError)) {
			err = &LineError{x.line, err}
		}
		return nil, x.line, err
	}
	if x.events {
		return &x.event, x.line, nil
	}
	if err := x.fill(get); err != nil {
		return nil, x.line, &LineError{x.line, err}
	}
	return &x.event, x.line, nil
}

func (x *Reader) fill(get row) error {
	m := &x.fields
	e := engagement.Event{Source: Source, Kind: x.kind, Zone: m.Zone, Channel: m.Channel}
	e.Subject, _ = get(m.Customer)
	if e.Subject == "" {
		return fmt.Errorf("%s: is empty", m.Customer)
	}
	text, _ := get(m.Time)
	t, err := timeIn(text, x.formats(), x.clock)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Time, err)
	}
	e.Time = t
	if !x.fixed.kind {
		name, _ := get(m.Kind)
		k, ok := kind(name)
		if !ok {
			return fmt.Errorf("%s: %q is no kind of event", m.Kind, name)
		}
		e.Kind = k
	}
	if m.Zone != "" && !x.fixed.zone {
		e.Zone, _ = get(m.Zone)
		if e.Zone != "" {
			name, err := zoneAt(e.Zone, e.Time)
			if err != nil {
				return fmt.Errorf("%s: %w", m.Zone, err)
			}
			e.Zone = name
		}
	}
	if !x.fixed.channel {
		e.Channel, _ = get(m.Channel)
		e.Channel = strings.ToLower(e.Channel)
	}
	if m.Message != "" {
		e.Message, _ = get(m.Message)
	}
	if m.Campaign != "" {
		e.Campaign, _ = get(m.Campaign)
	}
	e.ID = contentID(&e)
	x.event = e
	return x.event.Validate()
}

// contentID is the same for the same facts, whichever file, line or import they come from.
func contentID(e *engagement.Event) string {
	return hashed(e.Subject, e.Time.UTC().Format(time.RFC3339Nano), e.Kind.String(), e.Zone, e.Channel, e.Message, e.Campaign)
}

func hashed(parts ...string) string {
	h := sha256.New()
	for _, s := range parts {
		io.WriteString(h, s) //nolint:errcheck // a hash never fails
		h.Write([]byte{0})
	}
	return "im-" + hex.EncodeToString(h.Sum(nil)[:12])
}

// kindNames are the kinds by their own names and by those that exports like to use.
var kindNames = map[string]engagement.Kind{
	"sent": engagement.Sent, "send": engagement.Sent,
	"delivered": engagement.Delivered, "delivery": engagement.Delivered,
	"open": engagement.Open, "opened": engagement.Open,
	"click": engagement.Click, "clicked": engagement.Click,
	"reply": engagement.Reply, "replied": engagement.Reply,
	"bounce": engagement.Bounce, "bounced": engagement.Bounce,
	"complaint": engagement.Complaint, "complained": engagement.Complaint, "spam": engagement.Complaint, "spamreport": engagement.Complaint,
	"unsubscribe": engagement.Unsubscribe, "unsubscribed": engagement.Unsubscribe,
}

// kind reads a kind.
func kind(name string) (engagement.Kind, bool) {
	k, ok := kindNames[strings.ToLower(strings.TrimSpace(name))]
	return k, ok
}

// halves are zones for the offsets that are no whole hours, which Etc/GMT has no names for.
var halves = [...]string{
	"Asia/Kolkata", "Asia/Kathmandu", "Asia/Kabul", "Asia/Tehran", "Asia/Yangon", "Australia/Darwin", "Australia/Adelaide", "Australia/Eucla",
	"Australia/Lord_Howe", "America/St_Johns", "America/Caracas", "Pacific/Marquesas", "Pacific/Chatham", "Pacific/Apia",
}

// zoneAt reads a zone: an IANA name or, as version control writes it, the offset from UTC that was in force at an instant,
// alone or at the end of a time. An offset becomes the name of a zone that has it then, which is all that can be known.
func zoneAt(text string, at time.Time) (string, error) {
	seconds, ok := offset(text) // first: names that do not exist are looked for on disk, each time
	if !ok {
		_, err := calendar.Zone(text)
		return text, err
	}
	if seconds == 0 {
		return "UTC", nil
	}
	if name := fmt.Sprintf("Etc/GMT%+d", -seconds/3600); seconds%3600 == 0 { // the sign is POSIX's: west is positive
		if _, err := calendar.Zone(name); err == nil {
			return name, nil
		}
	}
	for _, name := range halves {
		if zone, err := calendar.Zone(name); err == nil {
			if _, o := at.In(zone).Zone(); o == seconds {
				return name, nil
			}
		}
	}
	return "", fmt.Errorf("no zone is known that is %s from UTC on %s", text, at.Format("2006-01-02"))
}

// offset reads the offset from UTC at the end of a text: +02:00, +0200, UTC+2 or -7, in seconds.
func offset(text string) (seconds int, ok bool) {
	if time, ok := strings.CutSuffix(text, "Z"); ok && (time == "" || strings.Contains(time, ":")) {
		return 0, true
	}
	i := strings.LastIndexAny(text, "+-")
	if i < 0 {
		return 0, false
	}
	if before := text[:i]; before != "" && before != "UTC" && before != "GMT" && !strings.Contains(before, ":") && !strings.HasSuffix(before, " ") {
		return 0, false
	}
	digits := strings.Replace(text[i+1:], ":", "", 1)
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0, false
	}
	switch len(digits) {
	case 1, 2:
		seconds = n * 3600
	case 4:
		seconds = n/100*3600 + n%100*60
	default:
		return 0, false
	}
	if text[i] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

// Time reads RFC 3339, "2006-01-02 15:04:05" with or without a fraction and with "UTC", an offset or nothing (which is
// UTC) after it, and unix seconds or milliseconds.
func Time(s string) (time.Time, error) { return timeIn(s, nil, time.UTC) }

// timeIn is Time with formats of an export before the others, and with the zone of times that name none. That an hour is
// skipped or lived through twice is settled as package calendar does: the next valid minute, the first of the two.
func timeIn(s string, formats []string, zone *time.Location) (time.Time, error) {
	if s == "" {
		return time.Time{}, errors.New("is empty")
	}
	for _, format := range formats {
		if t, err := time.Parse(format, s); err == nil {
			if named(format) {
				return t.UTC(), nil
			}
			return local(t, zone)
		}
	}
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		switch {
		case n >= 1e8 && n < 1e11: // seconds from 1973 to 5138
			whole, err := strconv.ParseInt(s, 10, 64)
			if err == nil {
				return time.Unix(whole, 0).UTC(), nil
			}
			return time.UnixMicro(int64(n * 1e6)).UTC(), nil
		case n >= 1e11 && n < 1e14:
			return time.UnixMilli(int64(n)).UTC(), nil
		}
		return time.Time{}, fmt.Errorf("%q is a number, but neither unix seconds nor milliseconds", s)
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.UTC(), nil
	}
	for _, layout := range [...]string{"2006-01-02 15:04:05 UTC", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 -0700", "2006-01-02T15:04:05Z0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	for _, layout := range [...]string{"2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return local(t, zone)
		}
	}
	if len(formats) > 0 {
		return time.Time{}, fmt.Errorf("%q is no time: want it as in %s, or RFC 3339, 2006-01-02 15:04:05, or unix seconds or milliseconds", s, strings.Join(formats, ", "))
	}
	return time.Time{}, fmt.Errorf("%q is no time: want RFC 3339, 2006-01-02 15:04:05 UTC, or unix seconds or milliseconds", s)
}

// named reports whether times of a format say their zone by an offset. Abbreviations such as CST do not: there are several.
func named(format string) bool {
	return strings.Contains(format, "-07") || strings.Contains(format, "Z07")
}

// local is when the wall clock of a zone shows what t shows.
func local(t time.Time, zone *time.Location) (time.Time, error) {
	if zone == nil {
		return time.Time{}, errNoClock
	}
	return calendar.Shown(t, zone), nil
}

func (x *Reader) formats() []string {
	if x.fields.Format == "" {
		return nil
	}
	return []string{x.fields.Format}
}
