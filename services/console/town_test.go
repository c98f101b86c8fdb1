package console

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/console/board"
)

// town writes the records that a town of readers would leave on the topics: five weeks of hourly digests in which
// customers read in the evening whatever time they are written to, and an unusual Friday.
type town struct {
	t    testing.TB
	s    *server
	rnd  *rand.Rand
	zone *time.Location
	seq  int64
	now  time.Time
}

func newTown(t testing.TB, c Config) *town {
	zone, err := calendar.Zone("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	if c.Run.ID == "" {
		c.Run = config.Run{ID: "r1", Mode: "simulated"}
	}
	w := &town{t: t, zone: zone, rnd: rand.New(rand.NewPCG(3, 12)), now: time.Date(2026, 12, 3, 9, 42, 17, 0, time.UTC)}
	w.s = newServer(c, app.Settings{}.WithDefaults(), zone)
	for _, topic := range board.Topics {
		w.s.state.behind[topic] = map[int32]int64{} // nothing of before the start is left to be read
	}
	return w
}

// emit puts a record of a Step on a topic.
func (w *town) emit(topic, typ, id, subject string, at time.Time, data any) {
	w.t.Helper()
	b, err := json.Marshal(data)
	if err != nil {
		w.t.Fatal(err)
	}
	w.seq++
	ev := stream.Event{ID: id, Source: "/tempismo/test/r1/in/0", Type: typ, Subject: subject, Time: at, Sequence: fmt.Sprintf("%020d.000", w.seq), Data: b}
	w.s.apply(topic, &stream.Record{Topic: topic, Offset: w.seq, Value: ev.Append(nil)})
}

// attention by hour of the day: 1 is the average.
var attention = [24]float64{.16, .09, .06, .06, .08, .22, .55, .95, 1.12, 1.16, 1.22, 1.08, 1.10, 1.18, .92, .82, .80, .92, 1.16, 1.48, 1.72, 1.66, 1.12, .48}

// history emits the digests of so many days until now.
func (w *town) history(days int) {
	var sends [168]float64
	for i := range sends {
		d, h := i/24, float64(i%24)
		shape := .003
		if h >= 7 && h <= 21 {
			hump := func(at, width float64) float64 { x := (h - at) / width; return math.Exp(-x * x) }
			shape = .02 + hump(10.2, 1.5) + .42*hump(13, 1.1) + .34*hump(15, .9) + .22*hump(18, 1.6)
		}
		sends[i] = 900 * []float64{.85, 1.25, 1.05, 1.15, 1, .32, .22}[d] * shape
	}
	var exposure [168]float64
	for i := range exposure {
		for a := range 72 {
			exposure[i] += .2 * sends[(i-a+168)%168] * (math.Exp(-float64(a)/5.5) + .12*math.Exp(-float64(a)/22)) / 8
		}
	}
	start := w.now.Add(-time.Duration(days) * 24 * time.Hour).Truncate(time.Hour)
	for at := start; at.Before(w.now.Truncate(time.Hour)); at = at.Add(time.Hour) {
		hour, _ := calendar.LocalHour(at, w.zone)
		how := timing.HourOfWeek(hour)
		progress := float64(at.Sub(start)) / float64(w.now.Sub(start))
		d := timing.Digest{Minute: at, Seconds: 3600, Response: make([]uint32, timing.ResponseBins)}
		for i, share := range []float64{.22, .6, .18} {
			expected := exposure[how] * share
			model := expected * attention[how%24]
			lift := 1.0
			if at.Format("01-02") == "11-27" && how%24 >= 19 && how%24 <= 21 {
				lift = 1.5
			}
			engaged := w.poisson(model * lift)
			d.Cells = append(d.Cells, timing.Cell{Channel: "email", Segment: []string{"premium", "standard", "new"}[i], How: how,
				Delivered: uint32(w.poisson(sends[how] * share)), Engaged: uint32(engaged), Expected: expected, ModelExpected: model})
			d.Engagements += uint64(engaged)
			d.Events.Human += uint64(float64(engaged)*1.6) + uint64(sends[how]*share)
			d.Events.Machine += uint64(engaged / 5)
			for range engaged {
				seconds := int64(math.Exp(math.Log(6800-1200*progress) + 1.3*w.rnd.NormFloat64()))
				d.Response[timing.ResponseBin(seconds)]++
				d.ResponseCount++
				d.ResponseSeconds += uint64(seconds)
			}
		}
		d.Optimal = uint64(w.poisson(float64(d.Engagements) * (.34 + .08*progress)))
		d.Optimal = min(d.Optimal, d.Engagements)
		w.emit(topics.Digests, timing.DigestType, fmt.Sprintf("dg-%d", at.Unix()), "", at, d)
	}
}

func (w *town) poisson(mean float64) int {
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*w.rnd.NormFloat64())))
	}
	n, p, limit := 0, 1.0, math.Exp(-mean)
	for p *= w.rnd.Float64(); p > limit; p *= w.rnd.Float64() {
		n++
	}
	return n
}

// deviation emits one of a customer, so many seconds before now.
func (w *town) deviation(id, customer string, ago int, d deviation.Deviation) {
	d.Zone, d.Channel, d.Model = "Europe/Rome", "email", "builtin.1"
	w.emit(topics.Deviations, deviation.Type, id, customer, w.now.Add(-time.Duration(ago)*time.Second), d)
}

func burst(observed, expected, z float64, oneIn int64, hours float64, days int, segment string, act bool) deviation.Deviation {
	return deviation.Deviation{Kind: timing.Burst, Z: z, P: 1 / float64(oneIn), OneIn: oneIn, Observed: observed, Expected: expected, Segment: segment, Actionable: act,
		Evidence: timing.Evidence{EngagedHours: hours, Deliveries: 118, Days: days}}
}

// decide emits a decision.
func (w *town) decide(id, customer string, ago int, typ string, reason decision.Reason, now, best int, rules ...decision.Rule) {
	at := w.now.Add(-time.Duration(ago) * time.Second)
	w.emit(topics.Decisions, typ, id, customer, at, decision.Decision{
		Reason: reason, DecidedAt: at, Channel: "email", Zone: "Europe/Rome", Score: decision.Score{Now: now, Best: best, BestAt: time.Date(2026, 12, 4, 9, 0, 0, 0, time.UTC), Confidence: 81, Level: "own"},
		NotBefore: at, ExpiresAt: at.Add(30 * time.Minute), Arm: decision.Treatment, Propensity: 1, Rules: rules,
		MadeFrom: decision.MadeFrom{Model: "builtin.1", Policy: "default.1", Calendar: "IT-2026.1"}, Summary: "as the rules say",
	})
}

func (w *town) outcome(of, result string) {
	w.emit(topics.Outcomes, decision.OutcomeType, "o-"+of+result, "", w.now, decision.Outcome{Decision: of, Connector: "hubspot", Result: decision.Result(result), Attempts: 1})
}

// morning emits the rows that the design's pictures show.
func (w *town) morning() {
	passed := []decision.Rule{{Rule: "expiry", Passed: true, Detail: "in time"}, {Rule: "best_hour", Passed: true, Detail: "83 now, 84 best ahead"}, {Rule: "window", Passed: true, Detail: "9:30-14:00 Europe/Rome, now 10:41"}}
	w.deviation("dv-1", "C-20417", 25, burst(5, .8, 2.7, 270, 34, 203, "premium", true))
	w.deviation("dv-2", "C-58810", 37, deviation.Deviation{Kind: timing.Reactivation, Z: 3.3, OneIn: 1824, Observed: 12, Days: 47, Segment: "premium", Actionable: true, Evidence: timing.Evidence{EngagedHours: 22, Days: 240}})
	w.deviation("dv-3", "C-31962", 82, deviation.Deviation{Kind: timing.Silence, Z: -2.5, OneIn: 162, Observed: 9, Expected: 3.6, Segment: "standard", Evidence: timing.Evidence{EngagedHours: 19, Days: 182}})
	w.deviation("dv-4", "C-64250", 106, burst(4, .5, 2.8, 355, 61, 287, "premium", true))
	w.deviation("dv-5", "C-92231", 177, burst(3, .4, 2.4, 118, 9, 25, "new", false))
	for i := range 8 {
		w.deviation(fmt.Sprintf("dv-%d", 10+i), fmt.Sprintf("C-%d", 70311+977*i), 240+97*i, burst(float64(3+i%3), .3+.1*float64(i%4), 2.1+.1*float64(i), int64(60+40*i), float64(8+5*i), 60+20*i, "standard", i%2 == 0))
	}
	w.decide("d-1", "C-20417", 24, decision.SendNowType, decision.Burst, 83, 84, passed...)
	w.decide("d-2", "C-58810", 37, decision.SendNowType, decision.Reactivation, 81, 84, passed...)
	w.decide("d-3", "C-15530", 65, decision.BlockedType, decision.ClosedDay, 92, 92, decision.Rule{Rule: "calendar", Detail: "Immacolata Concezione"})
	w.decide("d-4", "C-64250", 105, decision.BlockedType, decision.FrequencyCap, 82, 85, decision.Rule{Rule: "frequency_cap", Detail: "3 of 3 messages in 7 days"})
	w.decide("d-5", "C-44098", 170, decision.BlockedType, decision.BetterHourAhead, 57, 91, decision.Rule{Rule: "best_hour", Detail: "57 now, 91 ahead"})
	w.decide("d-6", "C-39071", 200, decision.ExpiredType, decision.Expired, 84, 84, decision.Rule{Rule: "expiry", Detail: "seen 31 minutes after the moment"})
	for i := range 6 {
		w.decide(fmt.Sprintf("d-%d", 10+i), fmt.Sprintf("C-%d", 70311+977*i), 260+97*i, decision.BlockedType, decision.OutsideWindow, 60+4*i, 90, decision.Rule{Rule: "window", Detail: "9:30-14:00 Europe/Rome, now 18:02"})
	}
	w.outcome("d-1", "attempting")
	w.outcome("d-1", "accepted")
	w.s.tick()
	w.s.tick()
}

// tales emits what newcomers are shown: a habit that moved by eight hours, and an odd hour.
func (w *town) tales() {
	known := timing.Evidence{EngagedHours: 61, Deliveries: 120, Days: 287}
	w.deviation("dv-drift", "C-10874", 9*24*3600, deviation.Deviation{Kind: timing.Drift, Z: 2.1, P: .02, OneIn: 49, Observed: 20, Expected: 12, LocalDay: "2026-11-24", Segment: "premium", Evidence: known})
	w.deviation("dv-odd", "C-77103", 68, deviation.Deviation{Kind: timing.Timing, Z: 2.1, P: .017, OneIn: 58, Observed: 10, Expected: 21, LocalDay: "2026-12-03", Segment: "standard", Evidence: known})
}

// publish emits a model, fitted or not, and digests with the tests of a month.
func (w *town) publish(fitted bool) {
	data, err := timing.Builtin().Append(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := timing.ParseModel(data)
	if err != nil {
		w.t.Fatal(err)
	}
	if fitted {
		m.Version = "2026-12-03.1"
		m.FittedOn = &timing.FittedOn{From: w.now.AddDate(0, 0, -182), To: w.now, Customers: 10_000, Defaults: map[string]string{"boost": "only 7 engaged hours within a day of another"}}
		m.Metrics = map[string]float64{"bits": 4.02, "bits_before": 4.11, "held_out_customers": 2000}
		for i, name := range []string{"evening readers", "morning readers", "midday readers", "Tuesday morning readers, 10-12"} {
			p := timing.Persona{Name: name, Share: []float64{.4, .3, .2, .1}[i]}
			sum := 0.0
			for h := range p.Attention {
				d := math.Abs(float64(h) - []float64{20, 8, 13, 10}[i])
				p.Attention[h] = .3 + 3*math.Exp(-d*d/8)
				sum += p.Attention[h] / 24
			}
			for h := range p.Attention {
				p.Attention[h] /= sum
			}
			m.Personas = append(m.Personas, p)
		}
		m.Segments = []timing.Segment{{Name: "premium", Share: .2, Attention: m.Population}}
		m.Season.First = w.now.Unix()/86400 - 4 - 100
		for d := range 200 {
			f := 1.
			if d%50 == 20 {
				f = .6
			}
			m.Season.Factors = append(m.Season.Factors, f)
		}
		for h := range m.Boost {
			m.Boost[h] = 1 + math.Exp(-float64(h)/3)
		}
	}
	w.emit(topics.Models, timing.ModelType, "md-"+m.Version, "", w.now.Add(-time.Hour), m)

	d := timing.Digest{Minute: w.now.Add(-time.Hour), Seconds: 3600}
	for _, kind := range []string{timing.Burst, timing.Timing, timing.Silence} {
		for i, stratum := range timing.Strata {
			bins := make([]uint32, timing.TailBins)
			for range 200_000 >> (2 * i) {
				p := w.rnd.Float64()
				if kind == timing.Silence {
					p = math.Sqrt(p)
				}
				bins[timing.TailBin(p)]++
			}
			d.Tails = append(d.Tails, timing.Tail{Kind: kind, Stratum: stratum, Bins: bins})
		}
	}
	w.emit(topics.Digests, timing.DigestType, "dg-tails", "", w.now.Add(-time.Hour), d)
}
