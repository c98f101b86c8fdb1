package evaluation

import (
	"slices"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

func TestADayWithoutAFeedIsFound(t *testing.T) {
	b := NewBuilder(time.UTC)
	put := func(day int, customer int, kind engagement.Kind) {
		e := at(day*24*60, kind, "")
		e.Subject = string(rune('a'+customer%26)) + string(rune('a'+customer/26))
		b.Add(&e)
	}
	for day := range 40 {
		for c := range 300 {
			if day%7 < 5 { // no mail at weekends, so little to read on Sundays
				put(day, c, engagement.Delivered)
			}
			if reads := (day+c)%3 == 0; reads && day%7 < 5 && day != 23 || day == 23 && c < 10 {
				put(day, c, engagement.Open)
			}
		}
	}
	monday := floorDiv(noon.Unix()-4*86400, 86400)
	if got, want := b.Log().gaps(), []int64{monday + 23}; !slices.Equal(got, want) {
		t.Errorf("the feed was down on %v, want %v", got, want)
	}
}
