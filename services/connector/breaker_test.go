package connector

import (
	"testing"
	"time"

	"github.com/tempismo/tempismo/services/connector/crm"
)

// TestCallsUnderWayDoNotKeepTheBreakerOpen: many calls may be under way when the CRM fails. They are one outage, not many probes.
func TestCallsUnderWayDoNotKeepTheBreakerOpen(t *testing.T) {
	target := newGate(0, true)
	const calls = 16
	for range calls {
		if !target.enter(start) {
			t.Fatal("no call may be made")
		}
	}
	opened := 0
	for range calls {
		if target.note(crm.Answer{Verdict: crm.Unknown}, start) {
			opened++
		}
	}
	if opened != 1 || target.hold(start) != breakFirst {
		t.Errorf("it opened %d times, for %v", opened, target.hold(start))
	}
}

func TestBreaker(t *testing.T) {
	target := newGate(0, true)
	now := start
	fail := func() {
		t.Helper()
		if !target.enter(now) {
			t.Fatal("no call may be made")
		}
		if opens := target.note(crm.Answer{Verdict: crm.Unknown}, now); opens != (target.breaker.failures == breakAfter) {
			t.Errorf("opens after %d failures: %v", target.breaker.failures, opens)
		}
	}
	for range breakAfter - 1 {
		fail()
	}
	target.note(crm.Answer{Verdict: crm.Refused}, now) // a no is an answer
	for range breakAfter - 1 {
		fail()
	}
	target.note(crm.Answer{Verdict: crm.Retry, After: time.Second}, now) // and a wish is neither
	fail()
	for _, want := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 2 * time.Minute, 2 * time.Minute} {
		if got := target.hold(now); got != want || target.enter(now) {
			t.Fatalf("open for %v, want %v", got, want)
		}
		now = now.Add(want)
		if target.hold(now) != 0 || !target.enter(now) {
			t.Fatal("no probe may be made")
		}
		if target.hold(now) != breakProbe || target.enter(now) {
			t.Fatal("a second probe may be made")
		}
		target.leave() // it was not made
		fail()
	}
	now = now.Add(breakMost)
	if !target.enter(now) {
		t.Fatal("no probe may be made")
	}
	target.note(crm.Answer{Verdict: crm.Accepted}, now)
	for range 2 {
		if !target.enter(now) || target.hold(now) != 0 {
			t.Error("a call that works does not close it")
		}
	}
}
