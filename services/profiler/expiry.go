package profiler

import (
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
)

// shortest is the least number of days for which profiles are kept: events may come some days late, and a customer who gets a
// message a month is not gone.
const shortest = 60

// expiry forgets what was learned of customers of whom nothing was heard for so many days, by the partition's clock. What was told
// from outside stays, and so do the instants of erasures: what is erased stays erased. See docs/adr/013-profiles-expire-by-the-log.md.
func expiry(days int) *stream.Expiry[timing.Profile] {
	kept := time.Duration(days) * 24 * time.Hour
	return &stream.Expiry[timing.Profile]{
		Expired: func(p *timing.Profile, now time.Time) bool {
			last, _ := calendar.LocalHour(now.Add(-kept), time.UTC) // a profile counts in local hours: it is a matter of days
			return p.Idle(last)
		},
		Forget: (*timing.Profile).Forget,
	}
}
