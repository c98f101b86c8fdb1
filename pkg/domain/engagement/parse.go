package engagement

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"time"
	"unicode/utf8"
	"unsafe"
)

// Parse reads a CloudEvent in structured JSON into e and validates it. The error is a *FieldError.
//
// The strings of e may be views into b: they live only as long as b is not changed. Whoever keeps one longer than the
// record clones it.
//
// What almost every event looks like is read by a scanner without allocation, fastest in the order in which Append writes it.
// What it does not recognise (escapes, nulls, nested unknown fields, other spellings of names) is read by encoding/json; all
// agree, see FuzzParse.
// Fields that this version does not know are ignored. An event without an actor counts as human. The framing of
// Confluent's serialisers (a zero byte and a four-byte schema id before the document) is skipped.
func (e *Event) Parse(b []byte) error {
	if len(b) > MaxEvent {
		return &FieldError{"", fmt.Sprintf("has %d bytes, more than the %d allowed", len(b), MaxEvent)}
	}
	if len(b) > 5 && b[0] == 0 {
		b = b[5:]
	}
	*e = Event{}
	if e.usual(b) {
		return e.check()
	}
	*e = Event{}
	if e.scan(b) {
		return e.check()
	}
	*e = Event{}
	if err := e.decode(b); err != nil {
		return err
	}
	return e.Validate()
}

// wire is the document as encoding/json sees it.
type wire struct {
	SpecVersion string `json:"specversion"`
	ID          string `json:"id"`
	Source      string `json:"source"`
	Type        string `json:"type"`
	Subject     string `json:"subject"`
	Time        string `json:"time"`
	Traceparent string `json:"traceparent"`
	Data        struct {
		Kind      string `json:"kind"`
		Channel   string `json:"channel"`
		Message   string `json:"message"`
		Campaign  string `json:"campaign"`
		Actor     string `json:"actor"`
		ActorRule string `json:"actor_rule"`
		Link      string `json:"link"`
		UserAgent string `json:"user_agent"`
		Provider  string `json:"provider"`
		Zone      string `json:"zone"`
	} `json:"data"`
}

// decode reads b with encoding/json.
func (e *Event) decode(b []byte) error {
	if !utf8.Valid(b) {
		return &FieldError{"", "is not valid UTF-8"}
	}
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return &FieldError{wrong.Field, "must be of another type than " + wrong.Value}
		}
		return &FieldError{"", "is not a JSON document: " + err.Error()}
	}
	switch {
	case w.SpecVersion != "1.0":
		return &FieldError{"specversion", fmt.Sprintf("must be \"1.0\", not %.32q", w.SpecVersion)}
	case w.Type != Type:
		return &FieldError{"type", fmt.Sprintf("must be %q, not %.64q", Type, w.Type)}
	}
	var ok bool
	if w.Time != "" {
		if e.Time, ok = parseTime(w.Time); !ok {
			return &FieldError{"time", fmt.Sprintf("must be an RFC 3339 time such as 2026-12-03T09:41:52.104Z, not %.64q", w.Time)}
		}
	}
	d := &w.Data
	if d.Kind != "" {
		if e.Kind, ok = ParseKind(d.Kind); !ok {
			return &FieldError{"data.kind", fmt.Sprintf("must be one of sent, delivered, open, click, reply, bounce, complaint, unsubscribe, not %.32q", d.Kind)}
		}
	}
	if d.Actor != "" {
		if e.Actor, ok = ParseActor(d.Actor); !ok {
			return &FieldError{"data.actor", fmt.Sprintf("must be one of human, probable, machine, not %.32q", d.Actor)}
		}
	}
	e.ID, e.Source, e.Subject, e.Trace = w.ID, w.Source, w.Subject, w.Traceparent
	e.Channel, e.Message, e.Campaign, e.ActorRule = d.Channel, d.Message, d.Campaign, d.ActorRule
	e.Link, e.UserAgent, e.Provider, e.Zone = d.Link, d.UserAgent, d.Provider, d.Zone
	return nil
}

// field is a member of the document that an Event keeps. The values are sparse on purpose: a switch over them compiles to
// comparisons, which the processor learns to foresee, and not to a jump table, which costs a quarter more.
type field uint32

const (
	fieldID field = 1 << iota
	fieldSource
	fieldSpecVersion
	fieldType
	fieldSubject
	fieldTime
	fieldTrace
	fieldData
	fieldKind
	fieldChannel
	fieldMessage
	fieldCampaign
	fieldActor
	fieldRule
	fieldLink
	fieldAgent
	fieldProvider
	fieldZone
	unknown field = 0
)

// usual reads b in the order in which Append writes it, which is cheaper than reading names and looking them up. False
// means that something else stands there; e is then in an undefined state.
func (e *Event) usual(b []byte) bool {
	s := scanner{b: b}
	var at, kind, actor string
	if !s.has(`{"specversion":"1.0","id":"`) || !s.into(&e.ID) ||
		!s.has(`,"source":"`) || !s.into(&e.Source) ||
		!s.has(`,"type":"`+Type+`","subject":"`) || !s.into(&e.Subject) ||
		!s.has(`,"time":"`) || !s.into(&at) {
		return false
	}
	s.has(`,"datacontenttype":"application/json"`)
	if s.has(`,"traceparent":"`) && !s.into(&e.Trace) {
		return false
	}
	if !s.has(`,"data":{"kind":"`) || !s.into(&kind) ||
		s.has(`,"channel":"`) && !s.into(&e.Channel) ||
		s.has(`,"message":"`) && !s.into(&e.Message) ||
		s.has(`,"campaign":"`) && !s.into(&e.Campaign) ||
		s.has(`,"actor":"`) && !s.into(&actor) ||
		s.has(`,"actor_rule":"`) && !s.into(&e.ActorRule) ||
		s.has(`,"link":"`) && !s.into(&e.Link) ||
		s.has(`,"user_agent":"`) && !s.into(&e.UserAgent) ||
		s.has(`,"provider":"`) && !s.into(&e.Provider) ||
		s.has(`,"zone":"`) && !s.into(&e.Zone) ||
		!s.has("}}") || s.i != len(b) {
		return false
	}
	var ok bool
	if e.Time, ok = parseTime(at); !ok {
		return false
	}
	if e.Kind, ok = ParseKind(kind); !ok {
		return false
	}
	if actor != "" {
		e.Actor, ok = ParseActor(actor)
	}
	return ok
}

// scan reads b without allocating. False means that it did not recognise the document, which may well be valid; e is
// then in an undefined state.
func (e *Event) scan(b []byte) bool {
	s := scanner{b: b}
	if !s.open('{') {
		return false
	}
	version, typed := false, false
	inData := false
	for {
		key, ok := s.name()
		if !ok {
			return false
		}
		f := attribute(key)
		if inData {
			f = dataField(key)
		}
		var value string
		switch { //nolint:staticcheck // QF1002: a tagged switch becomes a jump table, which costs this loop a quarter more
		case f == fieldData:
			if !s.open('{') {
				return false
			}
			inData = true
			if !s.close() {
				continue
			}
			f, inData = unknown, false
		case f == unknown:
			ok = s.skip(key)
		default:
			value, ok = s.value()
		}
		if !ok {
			return false
		}
		switch f { // of two members with one name the last counts, as with encoding/json
		case unknown:
		case fieldID:
			e.ID = value
		case fieldSource:
			e.Source = value
		case fieldSpecVersion:
			ok = value == "1.0"
			version = true
		case fieldType:
			ok = value == Type
			typed = true
		case fieldSubject:
			e.Subject = value
		case fieldTime:
			e.Time, ok = parseTime(value)
		case fieldTrace:
			e.Trace = value
		case fieldKind:
			e.Kind, ok = ParseKind(value)
		case fieldChannel:
			e.Channel = value
		case fieldMessage:
			e.Message = value
		case fieldCampaign:
			e.Campaign = value
		case fieldActor:
			e.Actor, ok = ParseActor(value)
		case fieldRule:
			e.ActorRule = value
		case fieldLink:
			e.Link = value
		case fieldAgent:
			e.UserAgent = value
		case fieldProvider:
			e.Provider = value
		case fieldZone:
			e.Zone = value
		}
		if !ok {
			return false
		}
		if s.comma() {
			continue
		}
		if !s.close() {
			return false
		}
		if inData {
			inData = false
			if s.comma() {
				continue
			}
			if !s.close() {
				return false
			}
		}
		return version && typed && s.end()
	}
}

func attribute(key string) field {
	switch key {
	case "id":
		return fieldID
	case "source":
		return fieldSource
	case "specversion":
		return fieldSpecVersion
	case "type":
		return fieldType
	case "subject":
		return fieldSubject
	case "time":
		return fieldTime
	case "traceparent":
		return fieldTrace
	case "data":
		return fieldData
	}
	return unknown
}

func dataField(key string) field {
	switch key {
	case "kind":
		return fieldKind
	case "channel":
		return fieldChannel
	case "message":
		return fieldMessage
	case "campaign":
		return fieldCampaign
	case "actor":
		return fieldActor
	case "actor_rule":
		return fieldRule
	case "link":
		return fieldLink
	case "user_agent":
		return fieldAgent
	case "provider":
		return fieldProvider
	case "zone":
		return fieldZone
	}
	return unknown
}

// scanner walks over a JSON document. Its methods return false where the document is not what they look for.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\n' || s.b[s.i] == '\t' || s.b[s.i] == '\r') {
		s.i++
	}
}

func (s *scanner) open(c byte) bool {
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *scanner) comma() bool { return s.open(',') }
func (s *scanner) close() bool { return s.open('}') }
func (s *scanner) end() bool   { s.space(); return s.i == len(s.b) }

// name reads a member's name and the colon behind it.
func (s *scanner) name() (string, bool) {
	key, ok := s.value()
	return key, ok && s.open(':')
}

// has takes exactly text, if that comes next.
func (s *scanner) has(text string) bool {
	if rest := s.b[s.i:]; len(rest) < len(text) || string(rest[:len(text)]) != text {
		return false
	}
	s.i += len(text)
	return true
}

// value reads a string that needs no unescaping, as a view.
func (s *scanner) value() (string, bool) {
	if !s.open('"') {
		return "", false
	}
	return s.text()
}

// into reads on behind a string's opening quote, into v.
func (s *scanner) into(v *string) (ok bool) {
	*v, ok = s.text()
	return ok
}

// text reads on behind a string's opening quote.
func (s *scanner) text() (string, bool) {
	from, ascii := s.i, true
	for i := s.i; ; {
		if i+8 <= len(s.b) {
			// Eight bytes at a time: the top bit of each byte of special is set where that byte is a quote, a
			// backslash, a control character or not ASCII. Bits above the first set one may be wrong (borrows), so
			// only the first counts.
			const ones, tops = 0x0101010101010101, 0x8080808080808080
			w := binary.LittleEndian.Uint64(s.b[i:])
			quotes, slashes := w^(ones*'"'), w^(ones*'\\')
			special := ((w - ones*0x20) | (quotes - ones) | (slashes - ones) | w) & tops
			if special == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(special) >> 3
		} else if i >= len(s.b) {
			return "", false
		}
		switch c := s.b[i]; {
		case c == '"':
			v := s.b[from:i]
			s.i = i + 1
			if !ascii && !utf8.Valid(v) {
				return "", false
			}
			return unsafe.String(unsafe.SliceData(v), len(v)), true
		case c == '\\' || c < 0x20:
			return "", false
		case c >= utf8.RuneSelf:
			ascii = false
		}
		i++
	}
}

// skip passes over the value of an unknown name. encoding/json matches names without regard to case, so a name that
// might be another spelling of a known one is left to it, and so is everything nested.
func (s *scanner) skip(key string) bool {
	for i := 0; i < len(key); i++ {
		if c := key[i]; c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf {
			return false
		}
	}
	s.space()
	rest := s.b[s.i:]
	if len(rest) == 0 {
		return false
	}
	switch c := rest[0]; {
	case c == '"':
		_, ok := s.value()
		return ok
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	case c >= '1' && c <= '9':
		// Plain integers only; the byte behind one is checked by whoever reads on.
		n := 1
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		s.i += n
		return true
	}
	return false
}

func (s *scanner) literal(word string) bool {
	if !bytes.HasPrefix(s.b[s.i:], []byte(word)) {
		return false
	}
	s.i += len(word)
	return true
}

// parseTime reads an RFC 3339 date-time and returns it in UTC. A leap second (section 5.7) counts as the second that
// follows it, as in POSIX. Digits beyond nanoseconds are cut off.
func parseTime(s string) (time.Time, bool) {
	if len(s) < len("2006-01-02T15:04:05Z") || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return time.Time{}, false
	}
	century, ok0 := two(s, 0)
	year, ok1 := two(s, 2)
	month, ok2 := two(s, 5)
	day, ok3 := two(s, 8)
	hour, ok4 := two(s, 11)
	minute, ok5 := two(s, 14)
	second, ok6 := two(s, 17)
	if !(ok0 && ok1 && ok2 && ok3 && ok4 && ok5 && ok6) {
		return time.Time{}, false
	}
	year += 100 * century
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 60 {
		return time.Time{}, false
	}
	i, nanos := 19, int64(0)
	if s[i] == '.' {
		i++
		from := i
		for scale := int64(100_000_000); i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
			nanos += int64(s[i]-'0') * scale
			scale /= 10
		}
		if i == from {
			return time.Time{}, false
		}
	}
	offset := 0
	switch {
	case i == len(s)-1 && s[i] == 'Z':
	case i == len(s)-6 && (s[i] == '+' || s[i] == '-') && s[i+3] == ':':
		h, ok0 := two(s, i+1)
		m, ok1 := two(s, i+4)
		if !ok0 || !ok1 || h > 23 || m > 59 {
			return time.Time{}, false
		}
		offset = h*3600 + m*60
		if s[i] == '-' {
			offset = -offset
		}
	default:
		return time.Time{}, false
	}
	unix := days(year, month, day)*86400 + int64(hour*3600+minute*60+second-offset)
	if second == 60 && unix%86400 != 0 {
		return time.Time{}, false // a leap second stands at the end of a day of UTC and nowhere else
	}
	return time.Unix(unix, nanos).UTC(), true
}

func two(s string, i int) (int, bool) {
	a, b := s[i]-'0', s[i+1]-'0'
	return int(a)*10 + int(b), a <= 9 && b <= 9
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// days counts the days from 1970-01-01 to a civil date of the proleptic Gregorian calendar (Howard Hinnant, "chrono-
// Compatible Low-Level Date Algorithms", days_from_civil): the year is made to begin in March, so that the leap day is its last.
func days(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	y := int64(year)
	return 365*y + floorDiv(y, 4) - floorDiv(y, 100) + floorDiv(y, 400) + int64((153*(month-3)+2)/5+day-1) - 719468
}

// floorDiv divides rounding down; year 0000 becomes -1 above.
func floorDiv(a, b int64) int64 {
	if a < 0 {
		return (a - b + 1) / b
	}
	return a / b
}
