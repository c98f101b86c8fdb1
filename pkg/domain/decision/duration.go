package decision

import (
	"fmt"
	"strings"
	"time"
)

// Duration is a time.Duration whose text is "24h" or "1h30m".
type Duration time.Duration

// MarshalText writes the text of String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is no duration such as 24h or 1h30m", b)
	}
	*d = Duration(v)
	return nil
}

// String writes d as time.Duration.String does, without zero units at the end.
func (d Duration) String() string {
	s := time.Duration(d).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = strings.TrimSuffix(s, zero[1:])
		}
	}
	return s
}
