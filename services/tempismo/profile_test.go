package main

import (
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/console/say"
	"github.com/tempismo/tempismo/services/console/words"
)

func TestAProfileIsExplainedInWords(t *testing.T) {
	// Half a year of mail at eight in the morning, every second read at seven in the evening.
	w := timing.World{Model: timing.Builtin()}
	p := timing.Profile{Zone: "Europe/Rome", Segment: "premium"}
	c := p.Channel("email")
	const monday = timing.Hour(2944) * timing.Week
	for d := range int64(180) {
		c.Delivered(&w, monday+24*d+8)
		if d%2 == 0 {
			c.Engaged(&w, monday+24*d+19, 10)
		}
	}
	snap := stream.Snapshot{Meta: stream.Meta{Positions: map[string]int64{"engagement.events.v1": 7}}, Values: [][]byte{p.Append(nil)}}
	at := time.Date(2026, 11, 12, 18, 3, 0, 0, time.UTC)
	for code, want := range map[string][]string{
		"en": {
			"C-1  Europe/Rome, premium, model builtin.1, engagement.events.v1:3:7", "email: C-1 reads around 19; best hour to write",
			"× more than expected around 19h", "Answers about", "Confidence is", "On 12 Nov the habit moved: from around 11:00 to around 19:00.", "180 deliveries", "best 1",
			"Thu 12 Nov 19:03  Drift  +2.0σ  now reads around 19:00, no longer around 11:00.",
		},
		"it": {
			"email: C-1 legge verso le 19; ora migliore per scrivere", "× più del previsto verso le 19", "Risponde a circa", "La fiducia è", "Il 12 nov l’abitudine si è spostata", "180 consegne", "meglio alle 1",
			"gio 12 nov 19:03  Abitudine  +2,0σ  ora legge verso le 19:00, non più verso le 11:00.",
		},
	} {
		l := words.In(code)
		d := deviation.Deviation{Kind: timing.Drift, Channel: "email", Zone: "Europe/Rome", LocalDay: "2026-11-12", Z: 2, OneIn: 44, Observed: 19, Expected: 11}
		h := happened{Time: at, Kind: d.Kind, Channel: d.Channel, Z: d.Z, name: say.Named(l, "kind.", d.Kind), zone: d.Zone, moved: say.MovedBy(&d)}
		h.Sentence, h.Evidence = say.Deviation(l, &d, at)
		v, err := viewOf("C-1", snap, 3, l, []happened{h})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		v.print(&out)
		for _, s := range want {
			if !strings.Contains(out.String(), s) {
				t.Errorf("%s: nothing says %q in\n%s", code, s, out.String())
			}
		}
		if strings.Contains(out.String(), "prof.") || strings.Contains(out.String(), "{0}") {
			t.Errorf("%s: a text is missing in\n%s", code, out.String())
		}
	}
	if v, err := viewOf("C-1", snap, 3, words.In("en"), nil); err != nil || v.Segment != "premium" || len(v.Channels) != 1 || len(v.Channels[0].Sentences) < 4 {
		t.Errorf("the JSON says %+v, %v", v, err)
	}
}
