package decision

import (
	"fmt"
	"time"
)

// Duration is a time.Duration whose text is "24h" or "1h30m".
type Duration time.Duration

// MarshalText writes d as time.Duration.String does, without zero units at the end.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q: want a duration such as 24h or 1h30m", b)
	}
	*d = Duration(v)
	return nil
}

func (d Duration) String() string { return time.Duration(d).String() }
