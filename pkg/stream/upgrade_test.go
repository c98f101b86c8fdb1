package stream

import (
	"fmt"
	"strings"
	"testing"
)

// What the runtime stores says of which version it is, and a program that does not know it says so, and what to do.
func TestWhatIsStoredInAnUnknownVersionIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		newest byte
		read   func([]byte) error
	}{
		"partition": {partitionVersion, func(b []byte) error { _, err := readPartition(b); return err }},
		"outbox":    {outboxVersion, func(b []byte) error { _, err := parcels(b); return err }},
	} {
		for _, version := range []byte{0, c.newest + 1, 255} {
			err := c.read([]byte{version, 0, 0, 0, 0, 0})
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("version %d is unknown", version)) || !strings.Contains(err.Error(), "docs/operations.md") {
				t.Errorf("%s of version %d: %v", name, version, err)
			}
		}
	}
}
