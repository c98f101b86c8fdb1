package calendar

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseOpening(t *testing.T) {
	morning := Window{570, 840}
	rows := []struct {
		name, text string
		want       Opening
		again      string // as String writes it; empty: a mistake
	}{
		{"hours alone hold every day", "09:30-14:00", Opening{0, morning}, "09:30-14:00"},
		{"a range of days", "mon-fri 09:30-14:00", Opening{0b0011111, morning}, "mon-fri 09:30-14:00"},
		{"days one by one", "tue,thu 09:30-14:00", Opening{0b0001010, morning}, "tue,thu 09:30-14:00"},
		{"ranges and days", "mon-wed,sat 09:30-14:00", Opening{0b0100111, morning}, "mon-wed,sat 09:30-14:00"},
		{"one day", "sun 09:30-14:00", Opening{0b1000000, morning}, "sun 09:30-14:00"},
		{"a range may run over Sunday", "sat-mon 09:30-14:00", Opening{0b1100001, morning}, "mon,sat-sun 09:30-14:00"},
		{"days in a row are written as a range", "fri,thu,mon,tue 09:30-14:00", Opening{0b0011011, morning}, "mon-tue,thu-fri 09:30-14:00"},
		{"all days are every day", "mon-sun 09:30-14:00", Opening{0, morning}, "09:30-14:00"},
		{"capitals do not matter", "Mon-FRI 09:30-14:00", Opening{0b0011111, morning}, "mon-fri 09:30-14:00"},
		{"a night belongs to the evening", "fri 22:00-02:00", Opening{0b0010000, Window{1320, 120}}, "fri 22:00-02:00"},
		{"nothing is a mistake: a list that holds no opening is written without any", "", Opening{}, ""},
		{"days without hours are a mistake", "mon-fri", Opening{}, ""},
		{"days and a space are a mistake", "mon-fri ", Opening{}, ""},
		{"a day that nobody knows is a mistake", "lun 09:30-14:00", Opening{}, ""},
		{"two spaces are a mistake", "mon  09:30-14:00", Opening{}, ""},
		{"a space in front is a mistake", " 09:30-14:00", Opening{}, ""},
		{"a comma at the end is a mistake", "mon, 09:30-14:00", Opening{}, ""},
		{"an open range is a mistake", "mon- 09:30-14:00", Opening{}, ""},
		{"hours must be hours", "mon 09:30-09:30", Opening{}, ""},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got, err := ParseOpening(r.text)
			if got != r.want || (err == nil) != (r.again != "") {
				t.Fatalf("got %+v, %v", got, err)
			}
			if err == nil && got.String() != r.again {
				t.Errorf("String() = %q, want %q", got.String(), r.again)
			}
		})
	}
}

func TestOpeningContains(t *testing.T) {
	rows := []struct {
		name, opening string
		day           time.Weekday
		at            string
		in            bool
	}{
		{"a morning of the week", "mon-fri 09:30-14:00", time.Wednesday, "09:30-14:00", true},
		{"a morning of the weekend", "mon-fri 09:30-14:00", time.Saturday, "09:30-14:00", false},
		{"Sunday is the last day, not the first", "mon-sat 09:30-14:00", time.Sunday, "09:30-14:00", false},
		{"an opening without days holds Sundays", "09:30-14:00", time.Sunday, "09:30-14:00", true},
		{"the minute after the end", "mon-fri 09:30-14:00", time.Monday, "14:00-14:01", false},
		{"the evening of a night", "fri 22:00-02:00", time.Friday, "22:00-24:00", true},
		{"the morning after belongs to the night before", "fri 22:00-02:00", time.Saturday, "00:00-02:00", true},
		{"the morning of the day on which a night begins does not", "fri 22:00-02:00", time.Friday, "00:00-02:00", false},
		{"the evening after does not", "fri 22:00-02:00", time.Saturday, "22:00-24:00", false},
		{"a night of Sunday ends on Monday", "sun 22:00-02:00", time.Monday, "00:00-02:00", true},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			o, err := ParseOpening(r.opening)
			if err != nil {
				t.Fatal(err)
			}
			w, err := ParseWindow(r.at)
			if err != nil {
				t.Fatal(err)
			}
			for m := w.From; m < w.To; m++ {
				if o.Contains(r.day, m) != r.in {
					t.Fatalf("%v %s: Contains = %v", r.day, Clock(m), !r.in)
				}
			}
		})
	}
}

func TestOpeningsAndWindowsSurviveTheirText(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type hours struct {
			Opening Opening
			Window  Window
		}
		w := Window{rapid.IntRange(0, 1439).Draw(rt, "from"), rapid.IntRange(0, 1440).Draw(rt, "to")}
		if w.Empty() {
			w = Window{0, 1440}
		}
		want := hours{Opening{rapid.Uint8Range(0, everyDay-1).Draw(rt, "days"), w}, w}
		text, err := json.Marshal(want)
		if err != nil {
			rt.Fatal(err)
		}
		var got hours
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			rt.Fatalf("%s became %+v, %v", text, got, err)
		}
	})
	t.Run("a window may be empty, and its text is", func(t *testing.T) {
		w := Window{60, 120}
		if err := w.UnmarshalText(nil); err != nil || !w.Empty() {
			t.Errorf("%v, %v", w, err)
		}
	})
	t.Run("a mistake is an error, not another window", func(t *testing.T) {
		var o Opening
		if err := json.Unmarshal([]byte(`"mon 9-14"`), &o); err == nil {
			t.Errorf("became %v", o)
		}
	})
}

func FuzzParseOpening(f *testing.F) {
	for _, s := range []string{"", "09:30-14:00", "mon-fri 09:30-14:00", "tue,thu 10:00-12:00", "sat-mon 22:00-02:00", "mon-- 09:30-14:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseOpening(s)
		if err != nil {
			return
		}
		if again, err := ParseOpening(o.String()); err != nil || again != o {
			t.Errorf("%q became %+v, which is written %q and read as %+v, %v", s, o, o.String(), again, err)
		}
	})
}
