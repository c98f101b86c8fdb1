package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// drained finds what the services have not taken. What is not taken cannot be judged, so it is no small matter.
func (f *facts) drained(v *verdict) {
	var ids []string
	for _, service := range stateful {
		for _, t := range topics.All {
			if !slices.Contains(t.Readers, service) {
				continue
			}
			for p := range f.Partitions {
				records := f.records[t.Name][p]
				if len(records) == 0 {
					continue
				}
				// Without MODEL, or with it, an input may not be read at all.
				at, read := f.kept[service][p].meta.Positions[t.Name]
				if end := records[len(records)-1].Offset + 1; read && at < end {
					ids = append(ids, fmt.Sprintf("%s at %d of %d in %s:%d", service, at, end, t.Name, p))
				}
				if !read && t.Name != topics.Models {
					ids = append(ids, fmt.Sprintf("%s without a position in %s:%d", service, t.Name, p))
				}
			}
		}
	}
	v.broken("L", "not everything on the logs was taken", ids)
	v.broken("R", "not everything on the logs was taken", ids)
}

// acknowledged finds what was acknowledged and does not stand on the topics.
func (f *facts) acknowledged(v *verdict) {
	stand := map[string]bool{}
	for _, topic := range []string{topics.Events, topics.Requests} {
		for _, records := range f.records[topic] {
			for i := range records {
				if id := idOf(records[i].Value); id != "" {
					stand[topic+" "+id] = true
				}
			}
		}
	}
	var ids []string
	for i := range f.Ledger {
		if a := &f.Ledger[i]; !stand[a.Topic+" "+a.ID] {
			ids = append(ids, a.ID)
		}
	}
	v.count("acknowledged", len(f.Ledger))
	v.broken("L", "acknowledged, and on no topic", ids)
}

// tally is what somebody counts who has nothing but the log: the hours in which mail came to a customer, and the days on
// which the customer read.
type tally struct {
	delivered map[int64]bool // local hours
	engaged   map[int64]bool // local days
	head      int64
	late      bool // an event came later than a profile promises to count
}

// counted holds profiles against a count of our own, which shares no code with the profiler: a mistake that the fold makes,
// too, shows here.
func (f *facts) counted(v *verdict) {
	var ids []string
	model, zones := timing.Builtin(), map[string]*time.Location{}
	for p, records := range f.records[topics.Events] {
		taken := f.kept["profiler"][p].meta.Positions[topics.Events]
		customers := map[string]*tally{}
		for i := range records {
			if records[i].Offset >= taken {
				break
			}
			var e engagement.Event
			if e.Parse(records[i].Value) != nil || e.Channel != "email" || e.Zone == "" {
				continue
			}
			t := customers[e.Subject]
			if t == nil {
				t = &tally{delivered: map[int64]bool{}, engaged: map[int64]bool{}}
				customers[string(records[i].Key)] = t
			}
			t.add(&e, records[i].Time, zones)
		}
		for who, t := range customers {
			if t.late {
				continue
			}
			var profile timing.Profile
			if b := f.kept["profiler"][p].states[who]; b == nil || profile.Decode(b) != nil {
				ids = append(ids, who+" has no profile")
				continue
			}
			view := profile.View(model, "email", t.head)
			if view.Evidence.Deliveries != len(t.delivered) || view.Evidence.EngagedDays != len(t.engaged) {
				ids = append(ids, fmt.Sprintf("%s: %d hours with mail and %d days with engagements, and the profile has %d and %d",
					who, len(t.delivered), len(t.engaged), view.Evidence.Deliveries, view.Evidence.EngagedDays))
			}
			v.count("profiles counted", 1)
		}
	}
	slices.Sort(ids)
	v.broken("L", "profiles do not hold what the log does", ids)
}

// add counts one event. In a live run what lies more than a minute ahead of its record is refused.
func (t *tally) add(e *engagement.Event, written time.Time, zones map[string]*time.Location) {
	zone := zones[e.Zone]
	if zone == nil {
		var err error
		if zone, err = time.LoadLocation(e.Zone); err != nil {
			t.late = true // not to be told
			return
		}
		zones[strings.Clone(e.Zone)] = zone
	}
	if e.Time.After(written.Add(time.Minute)) {
		t.late = true // refused
		return
	}
	_, offset := e.Time.In(zone).Zone()
	hour := floor(e.Time.Unix()+int64(offset), 3600)
	if t.head == 0 {
		t.head = hour
	}
	t.late = t.late || hour < t.head-timing.Lateness
	t.head = max(t.head, hour)
	switch {
	case e.Kind == engagement.Delivered:
		t.delivered[hour] = true
	case e.Kind.Engaged():
		t.engaged[floor(hour, 24)] = true
	}
}

func floor(a, n int64) int64 {
	q := a / n
	if a%n < 0 {
		q--
	}
	return q
}

// idOf is the CloudEvents id of a record's value; empty if it is none.
func idOf(value []byte) string {
	e, err := stream.ParseEvent(value)
	if err != nil {
		return ""
	}
	return e.ID
}
