package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/tempismo/history"
)

var noon = time.Date(2026, 11, 24, 11, 0, 0, 0, time.UTC) // in Rome

// end is a fate of a customer in Rome, so many hours after noon.
func end(kind, reason string, hours int) *fate {
	at := noon.Add(time.Duration(hours) * time.Hour)
	return &fate{Type: kind, Reason: reason, At: at, customer: "anna", channel: "email", zone: "Europe/Rome", slot: at.Truncate(time.Hour)}
}

func setAgainst(was, before, after map[string]*fate) *otherwise {
	x := &otherwise{Before: map[string]int{}, After: map[string]int{}}
	x.compare(&fates{by: was}, &fates{by: before}, &fates{by: after})
	x.sum(10)
	return x
}

func TestWhatAPolicyChangesIsCounted(t *testing.T) {
	send := func(hours int) *fate { return end("send_now", "slot", hours) }
	for _, tt := range []struct {
		sentence      string
		before, after *fate
		want          string // same, earlier, later, end otherwise
	}{
		{"the same end at the same time", send(1), send(1), "1 0 0 0"},
		{"a send that comes earlier", send(3), send(1), "0 1 0 0"},
		{"a send that comes later", send(1), send(3), "0 0 1 0"},
		{"a send to the control group is one for the same time", end("held_out", "slot", 1), send(1), "1 0 0 0"},
		{"another reason at the same time is the same", end("send_now", "fall_back", 1), send(1), "1 0 0 0"},
		{"an expiry in place of a send", send(1), end("expired", "frequency_cap", 9), "0 0 0 1"},
		{"an expiry for another reason", end("expired", "window", 9), end("expired", "frequency_cap", 9), "0 0 0 1"},
		{"an expiry for the same reason", end("expired", "window", 9), end("expired", "window", 9), "1 0 0 0"},
		{"waiting for another reason", end("wait", "window", 9), end("wait", "slot", 8), "1 0 0 0"},
		{"waiting in place of a send", send(1), end("wait", "slot", 8), "0 0 0 1"},
		{"a deviation that would have sent", nil, end("send_now", "burst", 0), "0 0 0 1"},
		{"a deviation that would not", end("send_now", "burst", 0), nil, "0 0 0 1"},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			one := func(f *fate) map[string]*fate {
				if f == nil {
					return map[string]*fate{}
				}
				return map[string]*fate{"r-1": f}
			}
			x := setAgainst(nil, one(tt.before), one(tt.after))
			if got := fmt.Sprint(x.Same, x.Earlier, x.Later, x.Ends); got != tt.want || x.All != 1 || len(x.Examples) != 1-x.Same {
				t.Errorf("got %s of %d with %d examples, want %s", got, x.All, len(x.Examples), tt.want)
			}
		})
	}
}

func TestTheFoldIsHeldAgainstTheTruth(t *testing.T) {
	truth := map[string]*fate{"a": end("send_now", "slot", 1), "b": end("send_now", "slot", 2), "c": end("expired", "window", 3), "d": end("wait", "slot", 4), "e": end("send_now", "slot", 5)}
	fold := map[string]*fate{"a": end("send_now", "slot", 1), "b": end("send_now", "slot", 3), "c": end("expired", "quiet_hours", 3), "d": end("wait", "slot", 4)}
	if x := setAgainst(truth, fold, fold); x.Decided != 4 || x.Faithful != 1 {
		t.Errorf("%d of %d come out as they were, want 1 of 4: another slot, another reason and none are not, and what waits has not ended", x.Faithful, x.Decided)
	}
}

func TestASimulationIsToldInWords(t *testing.T) {
	before := map[string]*fate{"r-1": end("send_now", "slot", 0), "r-2": end("send_now", "slot", 1), "r-3": end("send_now", "slot", 2), "r-4": end("wait", "window", 3)}
	after := map[string]*fate{"r-1": end("send_now", "slot", 0), "r-2": end("send_now", "slot", 7), "r-3": end("expired", "frequency_cap", 30), "r-4": end("wait", "slot", 3)}
	x := setAgainst(before, before, after)
	x.Policy, x.From, x.Partitions = "policy.yaml", noon, []int32{0, 1}
	var b bytes.Buffer
	if err := x.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"policy.yaml  against what was in force, from 2026-11-24 on; 0 records of 2 partitions",
		"send now     3          2", "· frequency cap     0          1",
		"Of 4 requests and deviations, 2 end alike and at the same time, or wait; 0 go out earlier and 1 later, half of them by 6.0 hours or less; 1 end otherwise.",
		"r-3 of anna, email: was send now (slot) Tue 24 Nov 2026 14:00; would be expired (frequency cap)",
		"of 3 ends in truth, the fold without the file has 3 (100.0 %)",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("does not say %q:\n%s", want, b.String())
		}
	}
	if x.HoursBefore[12] != 1 || x.HoursBefore[13] != 1 || x.HoursAfter[13] != 0 || x.HoursAfter[19] != 1 {
		t.Errorf("hours of the customers' clocks: %v, %v", x.HoursBefore, x.HoursAfter)
	}
	if ids := []string{x.Examples[0].ID, x.Examples[1].ID}; !slices.Equal(ids, []string{"r-3", "r-2"}) {
		t.Errorf("examples %v: those that end otherwise come first", ids)
	}
}

// What had ended before the range is not of it; what waited then is.
func TestFatesAreOfTheRange(t *testing.T) {
	f := &fates{from: noon, to: noon.Add(24 * time.Hour), by: map[string]*fate{}}
	take := func(id, typ string, at time.Time) {
		t.Helper()
		d := decision.Decision{Reason: decision.BestSlot, DecidedAt: at, Request: id, Zone: "Europe/Rome", ExpiresAt: at.Add(time.Hour)}
		if err := f.take(&history.Decision{Event: stream.Event{ID: "d-" + id, Type: typ, Subject: "anna", Data: d.Append(nil)}}); err != nil {
			t.Fatal(err)
		}
	}
	early, within, late := noon.Add(-time.Hour), noon.Add(time.Hour), noon.Add(25*time.Hour)
	take("ended", decision.WaitType, early.Add(-time.Hour))
	take("ended", decision.SendNowType, early)
	take("waits", decision.WaitType, early)
	take("ends", decision.WaitType, early)
	take("ends", decision.ExpiredType, within)
	take("after", decision.WaitType, within)
	take("after", decision.SendNowType, late)
	want := map[string]string{"waits": "wait", "ends": "expired", "after": "wait"}
	got := map[string]string{}
	for id, x := range f.by {
		got[id] = x.Type
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// What differs where the log no longer holds everything says nothing; what agrees does.
func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		sentence string
		each     []string
		missing  []string
		want     string
	}{
		{"all agree", []string{agrees, agrees}, nil, agrees},
		{"one differs", []string{agrees, differs, agrees}, nil, differs},
		{"one cannot be made again", []string{agrees, cannot}, nil, cannot},
		{"one differs and one cannot", []string{differs, cannot}, nil, differs},
		{"one differs, and the beginning is missing", []string{agrees, differs}, []string{"the beginning"}, cannot},
		{"all agree although the beginning is missing", []string{agrees}, []string{"the beginning"}, agrees},
	} {
		x := &explanation{Missing: tt.missing}
		for _, v := range tt.each {
			x.Decisions = append(x.Decisions, &reviewed{Verdict: v})
		}
		if x.judge(); x.Verdict != tt.want {
			t.Errorf("%s: %s, want %s", tt.sentence, x.Verdict, tt.want)
		}
	}
}
