package engagement

import (
	"time"
	"unicode/utf8"
)

// Append writes the event as a CloudEvent in structured JSON, in the canonical order of its schema's example. traceparent
// and zone are left out where empty. Bytes that are not UTF-8 become U+FFFD.
func (e *Event) Append(dst []byte) []byte {
	dst = append(dst, `{"specversion":"1.0","id":`...)
	dst = quote(dst, e.ID)
	dst = append(dst, `,"source":`...)
	dst = quote(dst, e.Source)
	dst = append(dst, `,"type":"`+Type+`","subject":`...)
	dst = quote(dst, e.Subject)
	dst = append(dst, `,"time":"`...)
	dst = e.Time.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","datacontenttype":"application/json"`...)
	if e.Trace != "" {
		dst = append(dst, `,"traceparent":`...)
		dst = quote(dst, e.Trace)
	}
	dst = append(dst, `,"data":{"kind":"`...)
	dst = append(dst, e.Kind.String()...)
	dst = append(dst, `","channel":`...)
	dst = quote(dst, e.Channel)
	dst = append(dst, `,"message":`...)
	dst = quote(dst, e.Message)
	dst = append(dst, `,"campaign":`...)
	dst = quote(dst, e.Campaign)
	dst = append(dst, `,"actor":"`...)
	dst = append(dst, e.Actor.String()...)
	dst = append(dst, `","actor_rule":`...)
	dst = quote(dst, e.ActorRule)
	dst = append(dst, `,"link":`...)
	dst = quote(dst, e.Link)
	dst = append(dst, `,"user_agent":`...)
	dst = quote(dst, e.UserAgent)
	dst = append(dst, `,"provider":`...)
	dst = quote(dst, e.Provider)
	if e.Zone != "" {
		dst = append(dst, `,"zone":`...)
		dst = quote(dst, e.Zone)
	}
	return append(dst, "}}"...)
}

// quote appends s as a JSON string (RFC 8259, section 7), escaping only what must be escaped.
func quote(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n != 1 {
				i += n
				continue
			}
		}
		dst = append(dst, s[from:i]...)
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, "\uFFFD"...)
		}
		i++
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}
