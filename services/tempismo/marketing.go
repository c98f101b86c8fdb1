package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/tempismo/town"
)

//go:embed demo-policy.yaml
var demoPolicy []byte

// drive is a message for part of the town: every weekday has one, placed in the morning.
type drive struct {
	message   string
	channel   string
	audience  string // a segment; empty: everybody
	share     float64
	priority  int
	days      int // until its deadline, in the evening
	attentive bool
}

var drives = [7]drive{
	time.Monday:    {message: "winter-preview", channel: "email", audience: "premium", share: .8, priority: 6, days: 3, attentive: true},
	time.Tuesday:   {message: "last-places", channel: "sms", share: .06, priority: 4, days: 1},
	time.Wednesday: {message: "recipes", channel: "email", share: .15, priority: 2, days: 4, attentive: true},
	time.Thursday:  {message: "members-offer", channel: "email", audience: "member", share: .3, priority: 3, days: 2, attentive: true},
	time.Friday:    {message: "weekend-ideas", channel: "email", share: .1, priority: 1, days: 2},
	time.Saturday:  {message: "app-news", channel: "push", share: .1, days: 2},
}

// morning is the hour of the company's day at which requests are placed.
const morning = 8

// marketing is the company's side of the demo: what it knows of the people of the town, and what it wants to tell them.
type marketing struct {
	run    stream.Run
	w      *kafka.Writer
	people map[string]string // zone by customer
	placed time.Time         // requests up to here are placed
}

// chance is a number in [0, 1) that depends on the words alone.
func chance(words ...string) float64 {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	var bits uint64
	for _, b := range sum[:8] {
		bits = bits<<8 | uint64(b)
	}
	return float64(bits>>11) / (1 << 53)
}

// comuni are where the people of Rome's zone live.
var comuni = [...]calendar.Place{
	{Country: "IT", Region: "Lombardia", Province: "MI", Comune: "Milano"},
	{Country: "IT", Region: "Lazio", Province: "RM", Comune: "Roma"},
	{Country: "IT", Region: "Piemonte", Province: "TO", Comune: "Torino"},
	{Country: "IT", Region: "Campania", Province: "NA", Comune: "Napoli"},
	{Country: "IT", Region: "Emilia-Romagna", Province: "BO", Comune: "Bologna"},
	{Country: "IT", Region: "Toscana", Province: "FI", Comune: "Firenze"},
}

func segment(id string) string {
	switch u := chance(id, "segment"); {
	case u < .15:
		return "premium"
	case u < .55:
		return "member"
	}
	return ""
}

// attributes is what the company knows of a customer. Those of the town's stories have said yes to everything.
func attributes(id, zone string, at time.Time) *customer.Attributes {
	a := &customer.Attributes{Zone: zone, Segment: segment(id), Channels: []string{"email", "push"}}
	story := slices.Contains(town.Stories[:], id)
	if zone == "Europe/Rome" {
		a.Place = comuni[int(chance(id, "comune")*float64(len(comuni)))]
	}
	if chance(id, "sms") < .6 {
		a.Channels = append(a.Channels, "sms")
	}
	value := float64(int(1000 * chance(id, "value") * chance(id, "value", "2")))
	a.Value = &value
	answer := func(what string, refuse float64) *customer.Consent {
		return &customer.Consent{Granted: story || chance(id, what) >= refuse, At: at}
	}
	a.Consents = customer.Consents{Mailing: answer("mailing", .02), Pixel: answer("pixel", .02)}
	if chance(id, "asked") < .03 {
		a.Preferred = []customer.Preference{{Days: []string{"tue", "thu"}, From: "12:00", To: "13:30"}}
	}
	return a
}

// introduce writes what is known of everybody.
func (m *marketing) introduce(ctx context.Context, at time.Time) error {
	var all []stream.Message
	for _, id := range slices.Sorted(maps.Keys(m.people)) {
		e := stream.Event{
			ID: "a-" + id, Source: town.Source, Type: customer.Type, Subject: id, Time: at,
			Data: attributes(id, m.people[id], at).Append(nil),
		}
		all = append(all, stream.Message{Key: []byte(id), Value: e.Append(nil)})
	}
	return m.w.WriteAll(ctx, topics.Attributes, all)
}

// place writes the requests of every morning after those that are placed, up to a time.
func (m *marketing) place(ctx context.Context, until time.Time) error {
	rome, err := calendar.Zone("Europe/Rome")
	if err != nil {
		return err
	}
	for day := calendar.DayOf(m.placed, rome); ; day = day.Next() {
		at := day.At(morning*60, rome)
		if at.After(until) {
			break
		}
		if at.After(m.placed) {
			if err := m.send(ctx, day, at, rome); err != nil {
				return err
			}
		}
	}
	m.placed = until
	return nil
}

// send places the requests of a day.
func (m *marketing) send(ctx context.Context, day calendar.Day, at time.Time, rome *time.Location) error {
	d := drives[day.Weekday()]
	if d.message == "" {
		return nil
	}
	audience := d.audience
	if audience == "" {
		audience = "everybody"
	}
	r := decision.Request{
		Action: decision.Place, Channel: d.channel, Message: fmt.Sprintf("%s-%02d%02d", d.message, day.Month, day.Day), Audience: audience, Priority: d.priority,
		NotBefore: at, Deadline: day.Add(d.days).At(18*60, rome), OnDeviation: d.attentive,
	}
	var all []stream.Message
	for _, id := range slices.Sorted(maps.Keys(m.people)) {
		if d.audience != "" && segment(id) != d.audience || chance(id, r.Message) >= d.share || !slices.Contains(attributes(id, m.people[id], at).Channels, d.channel) {
			continue
		}
		data, err := json.Marshal(&r)
		if err != nil {
			return err
		}
		e := stream.Event{ID: "r-" + r.Message + "-" + id, Source: "/tempismo/demo/marketing", Type: decision.RequestType, Subject: id, Time: at, Data: data}
		all = append(all, stream.Message{Key: []byte(id), Value: e.Append(nil)})
	}
	return m.w.WriteAll(ctx, topics.Requests, all)
}

// clock tells the decider that everything up to a time is written.
func (m *marketing) clock(ctx context.Context, until time.Time) error {
	tick := stream.ClockTick(m.run, until)
	return m.w.Broadcast(ctx, topics.Ticks, tick.Value, time.Time{})
}
