package timing

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// TestErase: an erasure leaves what was told and nothing that was learned, and never learns of before it again.
func TestErase(t *testing.T) {
	w := &World{Model: Builtin()}
	at := time.Date(2026, 5, 12, 8, 0, 0, 1, time.UTC)
	p := Profile{Zone: "Asia/Tokyo", Home: "Europe/Rome", Segment: "premium", Told: Pixel{At: 1, Granted: false}}
	p.Channel("email").Engaged(w, simStart, 5)
	p.memory.opens = 7
	if p.Erased(at) {
		t.Error("something is erased of which nobody has said so")
	}
	if !p.Erase(at) {
		t.Error("the first erasure changes nothing")
	}
	want := Profile{Zone: "Europe/Rome", Home: "Europe/Rome", Segment: "premium", Told: Pixel{At: 1, Granted: false}, erased: at.UnixMilli() + 1}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("%+v is left", p)
	}
	p.Channel("email").Engaged(w, simStart, 5)
	before := p.Append(nil)
	for _, again := range []time.Time{at, at.Add(-time.Hour)} {
		if p.Erase(again) || !bytes.Equal(before, p.Append(nil)) {
			t.Errorf("an erasure of what is erased, of before %s, is done again", again)
		}
	}
	for _, row := range []struct {
		after  time.Duration
		erased bool
	}{{-time.Hour, true}, {-1, true}, {time.Millisecond, false}, {time.Hour, false}} {
		if p.Erased(at.Add(row.after)) != row.erased {
			t.Errorf("an event %s after the instant is erased: %v", row.after, !row.erased)
		}
	}
	if !p.Erase(at.Add(time.Hour)) || p.Channels != nil {
		t.Error("a later erasure is not done")
	}
}

// TestToldIsStored: what was told of a customer survives being stored, in every combination.
func TestToldIsStored(t *testing.T) {
	for _, zone := range []string{"", "Europe/Rome", "Asia/Tokyo"} {
		for _, home := range []string{"", "Europe/Rome", "Asia/Kolkata"} {
			for _, answer := range []Pixel{{}, {1, false}, {1_780_000_000_456, true}} {
				for _, erased := range []int64{0, 1, 1_790_000_000_123} {
					p, again := Profile{Zone: zone, Home: home, Told: answer, erased: erased}, Profile{}
					if answer.At > 1 {
						p.Said = Pixel{answer.At / 2, true}
					}
					if err := again.Decode(p.Append(nil)); err != nil || fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", p) {
						t.Errorf("%+v is read as %+v, %v", p, again, err)
					}
				}
			}
		}
	}
	for name, b := range map[string][]byte{
		"an unknown flag":        {4, 0, 0, toldNothing},
		"an unknown flag of old": {3, 0, 0, toldNothingThird},
		"an erasure of no time":  {4, 0, 0, toldErasure, 0, 0, 0, 0, 0},
		"an erasure that is cut": {4, 0, 0, toldErasure},
		"an answer of no time":   {4, 0, 0, toldPixel, 0, 0, 0, 0, 0},
		"a consent to nothing":   {4, 0, 0, toldGranted, 0, 0, 0, 0},
	} {
		if new(Profile).Decode(b) == nil {
			t.Errorf("%s is a profile", name)
		}
	}
}
