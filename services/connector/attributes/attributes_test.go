package attributes

import (
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/connector/crm"
)

var at = time.Date(2026, 12, 3, 9, 41, 52, 0, time.UTC)

// reads is the profile of a customer who has read at an hour of the day on so many days until now.
func reads(hour, days int) *timing.Profile {
	p := &timing.Profile{Zone: "Europe/Rome"}
	also(p, at, hour, days)
	return p
}

// also lets the customer read on so many days until a time.
func also(p *timing.Profile, until time.Time, hour, days int) {
	w := timing.World{Model: timing.Builtin()}
	rome, err := calendar.Zone(p.Zone)
	if err != nil {
		panic(err)
	}
	now, _ := calendar.LocalHour(until, rome)
	for day := now/timing.Day - int64(days); day < now/timing.Day; day++ {
		c := p.Channel("email")
		c.Delivered(&w, day*timing.Day+int64(hour)-1)
		c.Engaged(&w, day*timing.Day+int64(hour), 20)
	}
}

func TestOf(t *testing.T) {
	m := timing.Builtin()
	known := Of(reads(10, 60), m, "email", at, Values{})
	if known.Best%timing.Day < 8 || known.Best%timing.Day > 10 || known.Level != timing.LevelOwn || known.Zone != "Europe/Rome" || known.Confidence%Step != 0 || known.Confidence < 50 {
		t.Fatalf("who reads at ten is %+v", known)
	}
	refused, erased, elsewhere := reads(10, 60), reads(10, 60), reads(10, 60)
	refused.Told = timing.Pixel{At: 1}
	erased.Erase(at)
	elsewhere.Zone = "Europe/Atlantis"
	rows := []struct {
		name    string
		profile *timing.Profile
		channel string
		before  Values
		want    Values
	}{
		{"of whom nothing is known nothing is told", &timing.Profile{}, "email", Values{}, Values{}},
		{"nor of another channel", reads(10, 60), "sms", known, Values{}},
		{"nor of who does not want to be observed", refused, "email", known, Values{}},
		{"nor of who is erased", erased, "email", known, Values{}},
		{"what was told stays when little is known any more", reads(10, 0), "email", known, Values{}},
		{"what is told stays what it is", reads(10, 60), "email", known, known},
		{"the zone is told as it is known", elsewhere, "email", Values{}, Values{known.Best, known.Confidence, known.Level, "", "Europe/Atlantis"}},
	}
	for _, r := range rows {
		if got := Of(r.profile, m, r.channel, at, r.before); got != r.want && r.profile != elsewhere || got.Zone != r.want.Zone {
			t.Errorf("%s: %+v, want %+v", r.name, got, r.want)
		}
	}
}

// TestJitterIsNotTold: a year of a customer who reads at about ten, looked at every day, is told of a few times and not every day.
func TestJitterIsNotTold(t *testing.T) {
	m := timing.Builtin()
	p := &timing.Profile{Zone: "Europe/Rome"}
	var last Values
	changes, levels := 0, 0
	for day := range 365 {
		now := at.AddDate(0, 0, day)
		if day%7 != 3 { // does not read every day
			also(p, now.AddDate(0, 0, 1), 9+day*7%3, 1)
		}
		v := Of(p, m, "email", now, last)
		if v != last {
			changes++
			if v.Level != last.Level {
				levels++
			}
		}
		last = v
	}
	if changes < 5 || changes > 20 || levels > 2 || last.Best%timing.Day < 7 || last.Best%timing.Day > 11 {
		t.Errorf("told %d times in a year, the level %d times, in the end %+v", changes, levels, last)
	}
	moved := last
	for day := range 90 {
		now := at.AddDate(0, 0, 365+day)
		also(p, now.AddDate(0, 0, 1), 20, 1)
		moved = Of(p, m, "email", now, moved)
	}
	if h := moved.Best % timing.Day; h < 17 || h > 20 {
		t.Errorf("who reads in the evening since three months is told to be best at %d", h)
	}
	// A silence takes evidence away, and in the end nothing new is told.
	quiet, asleep := moved, 0
	for week := range 200 {
		v := Of(p, m, "email", at.AddDate(0, 0, 455+7*week), quiet)
		if v != quiet {
			asleep++
		}
		quiet = v
	}
	if quiet == (Values{}) || quiet.Best != moved.Best || asleep > 12 || quiet.Confidence > 20 {
		t.Errorf("who is silent for four years is told of %d times, in the end %+v", asleep, quiet)
	}
}

// A persona is told when it is likely, and stays as long as no other one is and the model has it.
func TestPersona(t *testing.T) {
	m := &timing.Model{Personas: []timing.Persona{{Name: "early"}, {Name: "late"}, {Name: strings.Repeat("x", 500)}}}
	rows := []struct {
		likely   string
		likeness float64
		before   string
		want     string
	}{
		{"early", 0.6, "", "early"}, {"early", 0.4, "", ""}, {"early", 0.4, "late", "late"}, {"early", 0.6, "late", "early"}, {"early", 0.4, "gone", ""},
		{m.Personas[2].Name, 0.9, "", crm.Clip(m.Personas[2].Name)}, {"early", 0.4, crm.Clip(m.Personas[2].Name), crm.Clip(m.Personas[2].Name)},
	}
	for _, r := range rows {
		if got := persona(&timing.View{Persona: r.likely, Likeness: r.likeness}, m, r.before); got != r.want {
			t.Errorf("%s at %v after %q: %q", r.likely, r.likeness, r.before, got)
		}
	}
}

func TestContact(t *testing.T) {
	v := Values{Best: 1*timing.Day + 10, Confidence: 80, Level: timing.LevelOwn, Persona: "early", Zone: "Europe/Rome"}
	c := v.Contact("C-1", at)
	if *c.Timing != (crm.Timing{BestDay: "tue", BestHour: 10, Confidence: 80, Level: "own", Persona: "early", Zone: "Europe/Rome", ComputedAt: at}) || c.Customer != "C-1" {
		t.Errorf("%+v", c.Timing)
	}
	if none := (Values{}).Contact("C-1", at); none.Timing != nil {
		t.Errorf("nothing is told as %+v", none.Timing)
	}
}

func TestWritten(t *testing.T) {
	all := []Written{
		{}, {Refused: true}, {Values: Values{167, 100, timing.LevelPersona, "", "Europe/Rome"}},
		{Values: Values{34, 80, timing.LevelOwn, strings.Repeat("p", 203), "America/Argentina/ComodRivadavia"}, Refused: true},
	}
	for _, w := range all {
		b := w.Append(nil)
		var again Written
		if err := again.Decode(b); err != nil || again != w {
			t.Errorf("%+v reads as %+v: %v", w, again, err)
		}
		for n := range len(b) {
			_ = again.Decode(b[:n]) // must not panic
		}
	}
	for text, want := range map[string]string{"": "cut off", "\x02": "version 2 is unknown", "\x01\x00\xff\x00\x00": "damaged", "\x01\x00\x00\x00\x09x": "damaged"} {
		var w Written
		if err := w.Decode([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
