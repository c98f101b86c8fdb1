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
		if target.note(crm.Answer{Verdict: crm.Unknown}, start, start) {
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
		if opens := target.note(crm.Answer{Verdict: crm.Unknown}, now, now); opens != (target.breaker.failures == breakAfter) {
			t.Errorf("opens after %d failures: %v", target.breaker.failures, opens)
		}
	}
	for range breakAfter - 1 {
		fail()
	}
	target.note(crm.Answer{Verdict: crm.Refused}, now, now) // a no is an answer
	for range breakAfter - 1 {
		fail()
	}
	target.note(crm.Answer{Verdict: crm.Retry, After: time.Second}, now, now) // and a wish is neither
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
	target.note(crm.Answer{Verdict: crm.Accepted}, now, now)
	for range 2 {
		if !target.enter(now) || target.hold(now) != 0 {
			t.Error("a call that works does not close it")
		}
	}
}

// TestSlowAnswersAreNoOutage: a tenth of the calls is not answered in time, and the others work. While nobody is called, because the
// CRM has asked for a rest, nothing but the slow ones come to their end, many in a row.
func TestSlowAnswersAreNoOutage(t *testing.T) {
	target := newGate(0, true)
	late := start.Add(15 * time.Second)
	for i := range 100 {
		if now := start.Add(time.Duration(i) * time.Millisecond); i%10 != 0 {
			target.note(crm.Answer{Verdict: crm.Accepted}, now, now)
		}
	}
	for i := range 10 {
		if target.note(crm.Answer{Verdict: crm.Unknown}, start.Add(time.Duration(10*i)*time.Millisecond), late) {
			t.Fatalf("it opens at slow answer %d", i+1)
		}
	}
	// Those that began after the last one that worked are an outage.
	for i := range breakAfter {
		if opens := target.note(crm.Answer{Verdict: crm.Unknown}, start.Add(time.Second), late); opens != (i == breakAfter-1) {
			t.Errorf("failure %d opens it: %v", i+1, opens)
		}
	}
	// And what was under way when it opened is no probe, however late it ends.
	probe := late.Add(breakFirst)
	if !target.enter(probe) {
		t.Fatal("no probe may be made")
	}
	target.note(crm.Answer{Verdict: crm.Unknown}, start.Add(2*time.Second), probe)
	if target.enter(probe) || target.hold(probe) != breakProbe {
		t.Error("a call from before takes the probe's place")
	}
	target.note(crm.Answer{Verdict: crm.Unknown}, probe, probe.Add(time.Second))
	if got := target.hold(probe.Add(time.Second)); got != 2*breakFirst {
		t.Errorf("after a probe that failed it is open for %v", got)
	}
}
