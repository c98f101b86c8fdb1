package main

import (
	"slices"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/tempismo/town"
)

// TestMarketing: every morning but Sunday's has its requests, once, however often it is asked; they can be read, and go to people
// who can be reached by them. Nobody of the stories has refused anything.
func TestMarketing(t *testing.T) {
	brokers, _ := embedded(t)
	run, config := stream.Run{ID: "fair", Simulated: true}, kafka.Config{Brokers: []string{brokers}}
	if err := kafka.EnsureTopics(t.Context(), config, run, 2); err != nil {
		t.Fatal(err)
	}
	log, err := kafka.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	w, err := kafka.NewWriter(t.Context(), log, run)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	begin := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC) // a Monday
	m := marketing{run: run, w: w, people: map[string]string{}, placed: begin}
	for i := range 300 {
		m.people["C-"+string(rune('a'+i%26))+string(rune('a'+i/26))] = "Europe/Rome"
	}
	for _, id := range town.Stories {
		m.people[id] = "Europe/Rome"
	}
	if err := m.introduce(t.Context(), begin); err != nil {
		t.Fatal(err)
	}
	for at := begin; at.Before(begin.AddDate(0, 0, 7)); at = at.Add(100 * time.Minute) {
		if err := m.place(t.Context(), at); err != nil {
			t.Fatal(err)
		}
	}

	channels := map[string][]string{}
	each := func(topic string, read func(e *stream.Event) error) {
		t.Helper()
		err := kafka.Range(t.Context(), log, run.Topic(topic), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
			e, err := stream.ParseEvent(r.Value)
			if err != nil {
				return err
			}
			return read(&e)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	each(topics.Attributes, func(e *stream.Event) error {
		var a customer.Attributes
		err := a.Parse(e.Data)
		channels[e.Subject] = a.Channels
		if story := slices.Contains(town.Stories[:], e.Subject); story && (!a.Consents.Mailing.Granted || !a.Consents.Pixel.Granted) {
			t.Errorf("%s of the stories has refused", e.Subject)
		}
		return err
	})
	if len(channels) != len(m.people) {
		t.Errorf("%d people are introduced, %d live there", len(channels), len(m.people))
	}
	mornings, seen := map[time.Time]bool{}, map[string]bool{}
	each(topics.Requests, func(e *stream.Event) error {
		var r decision.Request
		if seen[e.ID] {
			t.Errorf("%s is placed twice", e.ID)
		}
		seen[e.ID], mornings[e.Time] = true, true
		err := r.Parse(e.ID, e.Data)
		if !slices.Contains(channels[e.Subject], r.Channel) {
			t.Errorf("%s: %s cannot be reached by %s", e.ID, e.Subject, r.Channel)
		}
		return err
	})
	if len(mornings) != 6 {
		t.Errorf("requests of %d mornings, want six", len(mornings))
	}
}
