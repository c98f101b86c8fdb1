package profiler

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// answer is what the customer has answered, beside the attributes.
func answer(who string, granted bool, after time.Duration) stream.Record {
	a := customer.Answer{Pixel: &customer.Consent{Granted: granted, At: start.Add(after)}}
	e := stream.Event{ID: fmt.Sprint("pc-", who, granted, after), Source: "/test", Type: customer.ConsentType, Subject: who, Time: start.Add(after), Data: a.Append(nil)}
	return stream.Record{Topic: topics.Consents, Key: []byte(who), Value: e.Append(nil)}
}

// TestConsentIsRequired: where nobody is observed who has not said so, opens count from the consent on, and the profile begins with
// it; what needs no pixel is learned before, too.
func TestConsentIsRequired(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1, Pixels: config.Pixels{Consent: "required"}})
	pipe(d, event(engagement.Delivered, "anna", "m-1", 0))
	pipe(d, event(engagement.Open, "anna", "m-1", time.Hour))
	pipe(d, event(engagement.Click, "anna", "m-1", 2*time.Hour))
	if v := d.State("anna").View(timing.Builtin(), "email", 2924*timing.Week); v.Evidence.EngagedDays != 1 || d.Partition().totals.Unconsented != 1 {
		t.Fatalf("%+v, %+v", v.Evidence, d.Partition().totals)
	}
	// What is told by and by is the last that was answered, wherever it stands.
	out := d.Pipe(answer("anna", true, 2*day))
	if got := ordered(t, out); len(got) != 1 || !got[0].Before.Equal(start.Add(2*day)) || got[0].Reason != given {
		t.Fatalf("ordered %+v", got)
	}
	pipe(d, event(engagement.Open, "anna", "m-1", 2*day-time.Second))
	pipe(d, event(engagement.Click, "anna", "m-1", 2*day-time.Second))
	if p := d.State("anna"); len(p.Channels) != 0 {
		t.Errorf("what was before the consent is learned: %+v", p)
	}
	pipe(d, event(engagement.Open, "anna", "m-2", 3*day))
	if p := d.State("anna"); len(p.Channels) != 1 {
		t.Error("a consented open is not learned")
	}
	if got := d.Pipe(pixel("anna", "yes", day)); len(got) != 0 {
		t.Errorf("a consent of before, told by the attributes, orders %+v", got)
	}
	if got := ordered(t, d.Pipe(answer("anna", false, 4*day))); len(got) != 1 || got[0].Reason != withdrawn {
		t.Errorf("a withdrawal orders %+v", got)
	}
	if got := d.Pipe(pixel("anna", "yes", 3*day)); len(got) != 0 || d.State("anna").Observable(start.Add(5*day), false) {
		t.Errorf("a consent of before the withdrawal ends it, and orders %+v", got)
	}

	// Nothing is begun anew where there is nothing, and opens of before a consent stay out whichever came first.
	if got := d.Pipe(pixel("bert", "yes", 2*day)); len(got) != 0 {
		t.Errorf("the consent of somebody unknown orders %+v", got)
	}
	pipe(d, event(engagement.Open, "bert", "m-1", day))
	if p := d.State("bert"); len(p.Channels) != 0 {
		t.Error("an open of before the consent is learned")
	}
	pipe(d, event(engagement.Open, "bert", "m-1", 2*day))
	if p := d.State("bert"); len(p.Channels) != 1 {
		t.Error("an open of after the consent is not learned")
	}
}

// TestARunSaysWhatCountsWithoutAnAnswer: a live run asks for consent, a simulated one assumes it, unless it is told otherwise.
func TestARunSaysWhatCountsWithoutAnAnswer(t *testing.T) {
	for _, row := range []struct {
		mode, consent string
		counts        bool
	}{
		{"live", "", false}, {"live", "required", false}, {"live", "assumed", true},
		{"simulated", "", true}, {"simulated", "required", false}, {"simulated", "assumed", true},
	} {
		d := driver(t, Config{Run: config.Run{ID: "r1", Mode: row.mode}, Pixels: config.Pixels{Consent: row.consent}})
		r := stream.Record{Topic: topics.Events, Key: []byte("anna"), Value: event(engagement.Open, "anna", "m-1", 0).Append(nil), Time: start}
		d.Pipe(r)
		if got := d.Partition().totals.Unconsented == 0; got != row.counts {
			t.Errorf("%+v: counts is %v", row, got)
		}
	}
}

// TestAnswersAndAttributesComeInAnyOrder: what is told of an instant at two places leads to one profile, whichever is read first.
func TestAnswersAndAttributesComeInAnyOrder(t *testing.T) {
	told := []stream.Record{answer("anna", false, 3*day), pixel("anna", "yes", 2*day), answer("anna", true, day), erasure("anna", customer.SignalOpen, 3*day)}
	var first []byte
	for i := range told {
		d := driver(t, Config{ScoredBelow: .1})
		for j := range told {
			d.Pipe(told[(i+j)%len(told)])
		}
		pipe(d, event(engagement.Open, "anna", "m-1", 5*day))
		pipe(d, event(engagement.Click, "anna", "m-1", 5*day))
		got := d.State("anna").Append(nil)
		if first == nil {
			first = got
		}
		if !bytes.Equal(got, first) {
			t.Errorf("told from the %d-th on: %x, want %x", i, got, first)
		}
	}
}

// TestWhoLeavesIsNotWrittenTo: an unsubscription and a complaint are answers to being written to, whoever caused them, and whatever
// became of the event in the profile.
func TestWhoLeavesIsNotWrittenTo(t *testing.T) {
	d := driver(t, Config{ScoredBelow: .1})
	d.Pipe(pixel("anna", "no", 9*day))
	for kind, reason := range leaving {
		e := event(kind, "anna", "m-1", 5*day) // before what is erased
		e.Channel, e.Actor = "sms", engagement.Machine
		out := pipe(d, e)
		var a customer.Answer
		if len(out) != 1 || out[0].Topic != topics.Consents || out[0].Event.Type != customer.ConsentType || string(out[0].Key) != "anna" {
			t.Fatalf("%s: %+v", kind, out)
		}
		if err := a.Parse(out[0].Event.Data); err != nil || a.Mailing == nil || a.Mailing.Granted || !a.Mailing.At.Equal(e.Time) || a.Channel != "sms" || a.Pixel != nil || a.Reason != reason {
			t.Errorf("%s: %s, %v", kind, out[0].Event.Data, err)
		}
	}
}
