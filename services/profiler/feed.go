package profiler

import "github.com/tempismo/tempismo/pkg/domain/timing"

// feed watches the engagements of a partition as a whole: a local day on which far fewer come than mail and profiles explain,
// from anybody, is one on which the feed was down, and says nothing about any customer.
//
// A day is judged a day after its end on the partition's clock, when what comes late has come and before the profiles take it
// in (timing.Lateness). It is held against the ordinary days before it, not against the model alone: where a source tells of
// one open in ten, that is ordinary there.
type feed struct {
	judged          int64 // first local day (Hour/24) that was not judged yet; meaningless before the first event
	days            [feedDays]tide
	usual           tide  // of the ordinary days, older ones less
	ordinary, outed uint8 // ordinary days in usual, at most ordinaryDays; days in a row that were called down
}

// tide is what was expected and what came, in millionths of engaged hours.
type tide struct{ expected, engaged uint64 }

const (
	feedDays     = 8               // from the first one that is not judged to the last one that mail of now may be answered on
	ordinaryDays = 14              // remembered, about
	ordinaryMin  = 7               // before which nothing is called unusual
	feedMin      = 60 * millionths // known from a sample: see expectations
	feedShare    = 5               // of what is expected a fifth must come
	outageDays   = 14              // after so many in a row it is how things are
)

// expect adds what is expected on a local day.
func (f *feed) expect(day int64, own uint64) {
	if day >= f.judged && day < f.judged+feedDays {
		f.days[day%feedDays].expected += own
	}
}

// engaged notes an engaged hour of a local day.
func (f *feed) engaged(day int64) {
	if day >= f.judged && day < f.judged+feedDays {
		f.days[day%feedDays].engaged += millionths
	}
}

// judge judges the days that ended a day before hour, the clock in the default zone, and calls down with those on which the
// feed was.
func (f *feed) judge(hour timing.Hour, down func(day int64)) {
	today := hour / timing.Day
	if f.judged == 0 {
		f.judged = today - 1
	}
	end := today - 1
	for n := 0; f.judged < end && n < feedDays; n++ { // of later days nothing was noted
		t := &f.days[f.judged%feedDays]
		if f.out(*t) {
			down(f.judged)
		}
		*t = tide{}
		f.judged++
	}
	f.judged = max(f.judged, end)
}

// out judges a day.
func (f *feed) out(t tide) bool {
	expected := 0.
	if f.ordinary >= ordinaryMin && f.usual.expected > 0 {
		expected = float64(t.expected) * float64(f.usual.engaged) / float64(f.usual.expected)
	}
	if expected >= feedMin && feedShare*float64(t.engaged) < expected {
		if f.outed < outageDays {
			f.outed++
			return true
		}
	} else if t.expected > 0 {
		f.outed = 0
	}
	if t.expected > 0 {
		f.usual.expected += t.expected - f.usual.expected/ordinaryDays
		f.usual.engaged += t.engaged - f.usual.engaged/ordinaryDays
		f.ordinary = min(f.ordinary+1, ordinaryDays)
	}
	return false
}

// crowd watches how many customers burst at the same time: when far more do than usual, the reason is not with them, and what
// is said of one of them would be said of all.
type crowd struct {
	hour  timing.Hour // of the clock in the default zone, that is being counted
	now   [2]surge    // this hour and the one before
	usual surge       // of the hours before, in 1/crowdUnit; older ones less
}

// surge counts engaged hours, and those of them that were bursts.
type surge struct{ engaged, bursts uint64 }

const (
	crowdUnit  = 1024
	crowdHours = 512 // remembered, about: three weeks
	crowdShare = 3   // times the usual share of bursts are far more
	// crowdMin is how many bursts there must be: that 20 come by chance where a third of that is usual is met once in 40,000
	// hours (Poisson).
	crowdMin = 20
)

// start assumes that as many burst as two sigma allow, firmly enough that the first hours do not decide what is usual.
func (c *crowd) start(hour timing.Hour) {
	*c = crowd{hour: hour, usual: surge{engaged: 1000 * crowdUnit, bursts: 23 * crowdUnit}}
}

// tick moves to the hour of the clock.
func (c *crowd) tick(hour timing.Hour) {
	if c.usual.engaged == 0 {
		c.start(hour)
	}
	if hour <= c.hour {
		return
	}
	if last := c.now[0]; last.engaged > 0 {
		// No hour may move the usual by more than what is far: else one sale would make the next one ordinary.
		bursts := min(last.bursts*crowdUnit, crowdShare*c.usual.bursts*crowdUnit/c.usual.engaged*last.engaged)
		c.usual.engaged += last.engaged*crowdUnit - c.usual.engaged/crowdHours
		c.usual.bursts += bursts - c.usual.bursts/crowdHours
	}
	c.now[1] = surge{}
	if hour == c.hour+1 {
		c.now[1] = c.now[0]
	}
	c.now[0], c.hour = surge{}, hour
}

// add notes an engaged hour.
func (c *crowd) add(burst bool) {
	c.now[0].engaged++
	if burst {
		c.now[0].bursts++
	}
}

// everybody reports whether far more customers than usual burst now.
func (c *crowd) everybody() bool {
	bursts, engaged := c.now[0].bursts+c.now[1].bursts, c.now[0].engaged+c.now[1].engaged
	return bursts >= crowdMin && bursts*c.usual.engaged > crowdShare*engaged*c.usual.bursts
}
