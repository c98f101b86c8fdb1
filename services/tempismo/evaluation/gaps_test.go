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

// TestADayAfterABurstOfManyHasAFeed: people who read a message again and again in an hour engage once in it, and what becomes of
// a town for good is no gap, however it began.
func TestADayAfterABurstOfManyHasAFeed(t *testing.T) {
	town := func(opens func(day, customer int) int) []int64 {
		b := NewBuilder(time.UTC)
		for day := range 80 {
			for c := range 300 {
				subject := string(rune('a'+c%26)) + string(rune('a'+c/26))
				sent := at(day*24*60, engagement.Delivered, "")
				sent.Subject = subject
				b.Add(&sent)
				for i := range opens(day, c) {
					open := at(day*24*60+5*60+i, engagement.Open, "")
					open.Subject = subject
					b.Add(&open)
				}
			}
		}
		return b.Log().gaps()
	}
	if down := town(func(day, c int) int {
		switch {
		case (day+c)%3 != 0:
			return 0
		case day >= 20 && day < 40:
			return 30
		}
		return 1
	}); len(down) > 0 {
		t.Errorf("after days of reading again and again the feed was down on %v", down)
	}
	if down := town(func(day, c int) int {
		if day < 30 && c%2 == 0 || c%20 == 1 {
			return 1
		}
		return 0
	}); len(down) != 14 {
		t.Errorf("of a town that reads a tenth for good %d days are gaps, want the first 14", len(down))
	}
}
