package timing

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// Append encodes s as encoding/json does, field by field: about one event in ten is scored, and reflection would cost more
// than the mathematics behind it. s must not hold numbers that JSON has none for.
func (s *Scored) Append(dst []byte) []byte {
	text := func(name, v string) {
		dst = append(dst, name...)
		dst = appendString(dst, v)
	}
	number := func(name string, v float64) {
		dst = append(dst, name...)
		dst = appendNumber(dst, v)
	}
	integer := func(name string, v int64) {
		dst = append(dst, name...)
		dst = strconv.AppendInt(dst, v, 10)
	}
	text(`{"event":`, s.Event)
	text(`,"kind":`, s.Kind)
	text(`,"channel":`, s.Channel)
	text(`,"local":`, s.Local)
	text(`,"zone":`, s.Zone)
	if s.Segment != "" {
		text(`,"segment":`, s.Segment)
	}
	if s.Everybody {
		dst = append(dst, `,"everybody":true`...)
	}
	if dst = append(dst, `,"tests":`...); s.Tests == nil {
		dst = append(dst, "null"...)
	} else {
		dst = append(dst, '[')
		for i := range s.Tests {
			if i > 0 {
				dst = append(dst, ',')
			}
			t := &s.Tests[i]
			text(`{"kind":`, t.Kind)
			number(`,"p":`, t.P)
			if t.PAct != 0 {
				number(`,"p_act":`, t.PAct)
			}
			number(`,"observed":`, t.Observed)
			number(`,"expected":`, t.Expected)
			if t.Days != 0 {
				integer(`,"days":`, int64(t.Days))
			}
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	number(`,"evidence":{"engaged_hours":`, s.Evidence.EngagedHours)
	integer(`,"deliveries":`, int64(s.Evidence.Deliveries))
	integer(`,"days":`, int64(s.Evidence.Days))
	integer(`,"engaged_days":`, int64(s.Evidence.EngagedDays))
	if s.Evidence.Partial {
		dst = append(dst, `,"partial":true`...)
	}
	integer(`},"score":{"now":`, int64(s.Score.Now))
	integer(`,"best":`, int64(s.Score.Best))
	dst = append(dst, `,"best_at":"`...)
	dst = s.Score.BestAt.AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, '"')
	if s.Score.Worth != 0 {
		number(`,"worth":`, s.Score.Worth)
	}
	integer(`,"confidence":`, int64(s.Score.Confidence))
	text(`,"level":`, s.Score.Level)
	dst = append(dst, '}')
	if s.ResponseSeconds != 0 {
		integer(`,"response_seconds":`, s.ResponseSeconds)
	}
	text(`,"model":`, s.Model)
	return append(dst, '}')
}

// appendString writes s as a JSON string.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			b, _ := json.Marshal(s) // a string has no error
			return append(dst, b...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// appendNumber writes v in the shortest form that reads back as v, as ECMAScript does (and encoding/json).
func appendNumber(dst []byte, v float64) []byte {
	if i := int64(v); float64(i) == v && i > -1e15 && i < 1e15 && (i != 0 || !math.Signbit(v)) {
		return strconv.AppendInt(dst, i, 10)
	}
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		b, _ := json.Marshal(v)
		return append(dst, b...)
	}
	return strconv.AppendFloat(dst, v, 'f', -1, 64)
}
