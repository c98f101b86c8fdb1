package evaluation

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/domain/timing/fit"
	"github.com/tempismo/tempismo/services/tempismo/truth"
)

// Truth is what is known of the customers of a log by whoever made it.
type Truth struct {
	Header    truth.Header
	Customers []truth.Customer
}

// judge measures the bars that need a truth: it puts each customer through the profiler's code, one after the other.
type judge struct {
	log    *Log
	ledger *ledger
	world  timing.World
	seed   uint64
	quiet  time.Time
	until  int64   // second of the end
	gaps   []int64 // local days on which the feed was down

	everybody struct { // engaged hours before quiet by hour of the week, for the simple methods
		week [week]float64
		n    float64
	}
	acts    []act             // customer-days with engagement, of those who are known well enough, from a week before quiet on
	active  map[int32]float64 // customer-days with engagement, of everybody, by day
	streaks []streak
	picture evidence

	view timing.View
}

// act is a customer-day that might act.
type act struct {
	customer    int32
	day         int32
	last, least float64 // p_act as the day ended; the smallest of those with which it might have acted, 2 if there was none
	ordinary    bool    // of a customer to whom nothing but bursts happens; such days are ordinary or bursting
	burst       bool
}

// streak is a run of mail days that an ordinary customer leaves unread, after one that was read.
type streak struct {
	customer int32
	stratum  uint8
	days     int32
	alarm    bool
	over     bool // by reading; neither: the log ended
}

// evidence is what the pictures are drawn from.
type evidence struct {
	tails  map[string]*[strata][timing.TailBins]uint32 // randomised p of ordinary customers by kind
	scores [10]struct {                                // by decile of the score of a send's hour
		n, score, response, usual, answered float64
	}
}

func (e *evidence) tail(kind string, stratum int, p float64, n uint32) {
	t := e.tails[kind]
	if t == nil {
		t = new([strata][timing.TailBins]uint32)
		e.tails[kind] = t
	}
	t[stratum][timing.TailBin(p)] += n
}

const (
	silenceFrom = 91 * 24 * time.Hour // from the first event on: silences are looked for in the quiet time, too
	noticeable  = 42 * 24 * time.Hour // a silence that is not noticed by then is not noticed
	before      = 7 * 24 * time.Hour  // of quiet: the days that the first day's gate is computed from
	orders      = 300                 // customers whose events are shuffled
)

// judge runs everybody through the model m.
func (l *Log) judge(ctx context.Context, m *timing.Model, t *Truth, seed uint64, progress func(done, total int)) (*judge, error) {
	j := &judge{
		log: l, ledger: newLedger(), world: timing.World{Model: m}, seed: seed, quiet: quietUntil(t, l), gaps: l.gaps(),
		active: map[int32]float64{}, picture: evidence{tails: map[string]*[strata][timing.TailBins]uint32{}},
	}
	known := make(map[string]*truth.Customer, len(t.Customers))
	for i := range t.Customers {
		known[t.Customers[i].Customer] = &t.Customers[i]
	}
	for i := range l.people {
		events := l.people[i].events
		j.until = max(j.until, events[len(events)-1].second+1)
		j.count(events)
	}
	for i := range l.people {
		if i%64 == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			progress(i, len(l.people))
		}
		if c := known[l.people[i].customer]; c != nil {
			j.customer(i, c)
		}
		if i < orders {
			j.orders(i)
		}
	}
	j.gate()
	j.silences()
	progress(len(l.people), len(l.people))
	return j, nil
}

// quietUntil is when what happens to the customers begins: what the truth says or, where it does not, a day before the
// first of what happens; where nothing happens, a quarter of the log before its end.
func quietUntil(t *Truth, l *Log) time.Time {
	if !t.Header.QuietUntil.IsZero() {
		return t.Header.QuietUntil
	}
	var at time.Time
	for i := range t.Customers {
		for _, e := range t.Customers[i].Episodes {
			if (e.Kind == truth.Burst || e.Kind == truth.Silent) && (at.IsZero() || e.From.Before(at)) {
				at = e.From
			}
		}
	}
	if !at.IsZero() {
		return at.AddDate(0, 0, -1)
	}
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range l.people {
		e := l.people[i].events
		first, last = min(first, e[0].second), max(last, e[len(e)-1].second)
	}
	return time.Unix(last-(last-first)/4, 0).UTC()
}

// count takes a customer's engaged hours into the population that the simple methods know.
func (j *judge) count(events []event) {
	latest := timing.Hour(math.MinInt64)
	for i := range events {
		e := &events[i]
		if e.second >= j.quiet.Unix() {
			return
		}
		if !e.delivered() && e.at() != latest {
			latest = e.at()
			j.everybody.week[timing.HourOfWeek(latest)]++
			j.everybody.n++
		}
	}
}

// subject is a customer while it is judged.
type subject struct {
	*judge
	i        int
	truth    *truth.Customer
	ordinary bool
	steady   bool // nothing but bursts happens
	profile  timing.Profile
	channel  *timing.Channel
	counts   counts // engaged hours
	known    known  // of these, decayed

	begun   bool // quiet is over, and what is asked for at its end is noted
	stratum int
	day     int64 // local day that is being lived
	flagged bool  // called a burst
	act     act
	living  bool  // act holds a day
	busy    int64 // latest local day with an engaged hour

	message    int         // deliveries so far
	latest     timing.Hour // delivery
	mailed     bool
	sent       []uint32 // deliveries by hour of the week
	mailDays   []mailDay
	drift      drift
	bursts     []episode
	silences   []episode
	first      int64 // second of the first event
	engagedAt  int64 // second of the latest engagement; 0: none
	deliveries []sent
}

// known is how many engaged hours there are to go by, with a half-life of 13 weeks: the evidence, where no view is at hand.
type known struct {
	n    float64
	week int64
}

func (k *known) at(h timing.Hour) float64 {
	return k.n * math.Exp2(-float64(floorDiv(h, week)-k.week)/13)
}

func (k *known) add(h timing.Hour) { k.n, k.week = k.at(h)+1, floorDiv(h, week) }

func (k *known) stratum(h timing.Hour) int { return timing.Stratum(k.at(h)) }

// mailDay is a local day with mail.
type mailDay struct {
	first   timing.Hour // delivery
	second  int64
	stratum int
	read    bool
	alarm   bool // a silence was raised after it and before the next
}

// drift is the search for a habit that moves.
type drift struct {
	from      int64 // second of the move; 0: none
	answers   int   // since
	found     bool
	atAnswers int
	moved     []timing.Hour // of the answers since
}

// episode is something that is to be noticed.
type episode struct {
	truth.Episode
	begun, proven, found bool
	mails                int // since
}

// sent is a delivery whose answer is waited for, for the picture of scores.
type sent struct {
	second          int64
	score           int
	response, usual float64
}

func (j *judge) customer(i int, t *truth.Customer) {
	s := &subject{judge: j, i: i, truth: t, ordinary: t.IsNull(j.quiet), sent: make([]uint32, week), day: math.MinInt64}
	s.profile.Zone = cmp.Or(t.Zone, "Europe/Rome")
	s.channel = s.profile.Channel(channel)
	s.steady = s.ordinary || !slices.ContainsFunc(t.Episodes, func(e truth.Episode) bool {
		return e.Kind != truth.Burst && (!e.From.Before(j.quiet) || e.Kind != truth.Shift && (e.To.IsZero() || e.To.After(j.quiet)))
	})
	for _, e := range t.Episodes {
		if e.From.Before(j.quiet) {
			continue
		}
		switch e.Kind {
		case truth.Burst:
			s.bursts = append(s.bursts, episode{Episode: e})
		case truth.Silent:
			s.silences = append(s.silences, episode{Episode: e})
		case truth.Shift:
			if e.Hours >= 8 || e.Hours <= -8 || e.Hours == 0 {
				s.drift.from = e.From.Unix()
			}
		}
	}
	events := j.log.people[i].events
	s.first = events[0].second
	zoneless := events[0].at()*3600 - events[0].second // local seconds less instant, to within an hour
	s.world.Gaps = timing.Gaps{}
	gaps := j.gaps
	for k := range events {
		e := &events[k]
		for len(gaps) > 0 && gaps[0]+2 <= floorDiv(e.at(), hours) {
			s.world.Gaps.Add(gaps[0])
			gaps = gaps[1:]
		}
		if !s.begun && e.second >= j.quiet.Unix() {
			s.begin(floorDiv(j.quiet.Unix()+zoneless, 3600))
		}
		if s.begun {
			s.pass(e)
		}
		if e.delivered() {
			s.delivered(e)
		} else {
			s.engaged(e)
		}
	}
	if !s.begun {
		s.begin(events[len(events)-1].at())
	}
	s.endDay(math.MaxInt64)
	s.end()
}

// begin is the end of the quiet time, at local hour h.
func (s *subject) begin(h timing.Hour) {
	s.begun = true
	v := s.profile.View(s.world.Model, channel, h)
	s.stratum = timing.Stratum(v.Evidence.EngagedHours)
	s.day = floorDiv(h, hours)
	_, response := s.truth.At(s.quiet)
	if len(response) != week {
		return
	}
	var usual, n float64
	for how, k := range s.sent {
		usual += float64(k) * response[how]
		n += float64(k)
	}
	if n == 0 {
		return
	}
	usual /= n
	best := func(better func(how int) float64) float64 {
		most, sum, ties := math.Inf(-1), 0., 0.
		for how := range week {
			switch x := better(how); {
			case x > most:
				most, sum, ties = x, response[how], 1
			case x == most:
				sum, ties = sum+response[how], ties+1
			}
		}
		return sum / ties
	}
	ours := best(func(how int) float64 { return float64(v.Scores[how]) })
	naive := usual // who has never engaged is written to as before
	if s.counts.n > 0 {
		naive = best(func(how int) float64 { return float64(s.counts.week[how]) })
	}
	for _, name := range [...]string{"lift-over-naive", "lift-above-naive", "lift", "lift-naive", "lift-oracle"} {
		s.ledger.note(name, s.i, s.stratum, ours, naive, usual, slices.Max(response))
	}
}

// pass is called before each event of the test.
func (s *subject) pass(e *event) {
	if d := floorDiv(e.at(), hours); d > s.day {
		s.endDay(d)
	}
	for _, list := range [...][]episode{s.bursts, s.silences} {
		for k := range list {
			if x := &list[k]; !x.begun && e.second >= x.From.Unix() {
				s.open(x, e.at())
			}
		}
	}
	if s.ordinary {
		s.world.Closing(&s.profile, s.channel, s.name(), e.at(), func(c timing.Closed) {
			if c.Weight == 0 || !c.Exposed {
				return
			}
			hit, n := 0., float64(c.Weight)
			if c.P < timing.TwoSigma {
				hit = n
			}
			s.ledger.note("burst-tail", s.i, c.Stratum, hit, n)
			s.picture.tail(timing.Burst, c.Stratum, c.P, c.Weight)
		})
	}
}

func (s *subject) name() string { return s.log.people[s.i].customer }

// endDay ends the local day that is being lived, and those after it up to next, on which nothing happened.
func (s *subject) endDay(next int64) {
	if s.living {
		s.acts = append(s.acts, s.act)
		s.living = false
	}
	if !s.begun {
		s.day = next
		return
	}
	if next == math.MaxInt64 {
		next = max(s.day, floorDiv(s.until-4*86400, 86400)) + 1
	}
	if s.ordinary {
		hit := 0.
		if s.flagged {
			hit = 1
		}
		s.ledger.note("burst-false-alarms", s.i, s.stratum, hit, float64(next-s.day))
	}
	s.flagged = false
	s.day = next
}

func (s *subject) delivered(e *event) {
	h := e.at()
	s.message++
	s.profile.Sent(s.remembered(e))
	change := s.channel.Delivered(&s.world, h)
	s.alarms(change.Alarms, e)
	s.mailed, s.latest = true, max(s.latest, h)
	s.sent[timing.HourOfWeek(h)]++
	if n := len(s.mailDays); n == 0 || floorDiv(s.mailDays[n-1].first, hours) < floorDiv(h, hours) {
		s.mailDays = append(s.mailDays, mailDay{first: h, second: e.second, stratum: s.known.stratum(h)})
	}
	for k := range s.silences {
		if x := &s.silences[k]; x.Holds(time.Unix(e.second, 0)) {
			x.mails++
			s.notice(x, change.Alarms, e)
		}
	}
	if s.begun && s.ordinary && change.Result == timing.Counted {
		s.world.Derive(&s.view, &s.profile, channel, h, timing.Everything)
		d := sent{second: e.second, score: s.view.Score(h)}
		if _, response := s.truth.At(s.quiet); len(response) == week {
			d.response = response[timing.HourOfWeek(h)]
			for _, x := range response {
				d.usual += x / week
			}
		}
		s.deliveries = append(s.deliveries, d)
	}
}

// remembered is an event as the profile's memory of messages wants it. Which were a machine's was found out when the log was read;
// here the memory only has to be as large as it is in the services.
func (s *subject) remembered(e *event) *engagement.Event {
	return &engagement.Event{Time: time.Unix(e.second, 0), Kind: e.kind, Message: strconv.Itoa(s.message), Link: "l"}
}

// open asks, when an episode has begun, whether the customer is known well enough for it to be noticed.
func (s *subject) open(x *episode, h timing.Hour) {
	x.begun = true
	s.world.Derive(&s.view, &s.profile, channel, h, floorDiv(h, hours))
	x.proven = s.view.Evidence.Enough()
	if x.Kind == truth.Silent { // the test asks for no minimum but mail that was read
		x.proven = s.view.Evidence.EngagedHours >= 5 && !s.channel.Silent()
	}
}

func (s *subject) notice(x *episode, alarms []timing.Test, e *event) {
	for _, a := range alarms {
		if a.Kind == timing.Silence && !x.found && e.second < x.From.Add(noticeable).Unix() {
			x.found = true
			if x.proven {
				s.ledger.note("silence-mails-to-alarm", s.i, strata, float64(x.mails))
			}
		}
	}
}

func (s *subject) engaged(e *event) {
	h := e.at()
	if s.begun && s.ordinary && s.counts.fresh(h) {
		s.predict(e)
	}
	s.profile.Answered(s.remembered(e))
	s.ends(e)
	change := s.channel.Engaged(&s.world, h, int(e.minute))
	s.alarms(change.Alarms, e)
	for k := len(s.mailDays) - 1; k >= 0 && s.mailDays[k].first >= h-48; k-- {
		s.mailDays[k].read = true
	}
	for len(s.deliveries) > 0 {
		d := &s.deliveries[0]
		s.answered(d, e.second-d.second <= timing.Horizon*3600)
		s.deliveries = s.deliveries[1:]
	}
	if change.Result != timing.Counted {
		return
	}
	s.counts.add(h)
	s.known.add(h)
	if e.second < s.quiet.Add(-before).Unix() {
		return
	}
	day := floorDiv(h, hours)
	s.world.Derive(&s.view, &s.profile, channel, h, day)
	if s.begun {
		s.stratum = timing.Stratum(s.view.Evidence.EngagedHours)
	}
	s.burst(e, day)
	if s.begun {
		s.timing(e, day)
	}
}

// ends takes the streak of unread mail days that an engagement ends into the picture, with the randomised p of its length: one
// of no day, too, where mail was read like the mail before.
func (s *subject) ends(e *event) {
	h, n := e.at(), len(s.mailDays)
	last := s.engagedAt
	s.engagedAt = e.second
	if !s.ordinary || n == 0 || last == 0 || e.second < s.first+int64(silenceFrom/time.Second) || s.happened(last, e.second) {
		return
	}
	read, ignored := s.world.Model.Priors.Read, s.world.Model.Priors.Ignored
	for _, d := range s.mailDays {
		if d.read {
			read++
		} else {
			ignored++
		}
	}
	some := ignored / (read + ignored) // the chance of a streak at all
	u := timing.Hash(s.name(), h, timing.Silence)
	if above, at, ok := s.world.Ending(&s.channel.State, h); ok {
		s.picture.tail(timing.Silence, timing.Stratum(s.known.n), some*(above+u*at), 1)
	} else if d := &s.mailDays[n-1]; !d.read && d.first >= h-48 {
		s.picture.tail(timing.Silence, timing.Stratum(s.known.n), some+u*(1-some), 1)
	}
}

// burst tests the day of an engagement.
func (s *subject) burst(e *event, day int64) {
	m := s.world.Model
	test := m.Burst(&s.channel.State, &s.view, day)
	p := m.Calibrated(timing.Burst, s.stratum, test.P)
	flag := p < timing.TwoSigma && test.Observed >= 2
	proven := s.view.Evidence.Enough()
	s.flagged = s.flagged || flag
	bursting := false
	for k := range s.bursts {
		if x := &s.bursts[k]; x.Holds(time.Unix(e.second, 0)) {
			x.found = x.found || flag && proven
			bursting = true
		}
	}
	if s.busy != day {
		s.busy = day
		s.judge.active[int32(day)]++
	}
	if !proven {
		return
	}
	if !s.living || int64(s.act.day) != day {
		if s.living {
			s.acts = append(s.acts, s.act)
		}
		s.living = true
		s.act = act{customer: int32(s.i), day: int32(day), least: 2, ordinary: s.steady}
	}
	s.act.last = test.PAct
	s.act.burst = s.act.burst || bursting
	if flag {
		s.act.least = min(s.act.least, test.PAct)
	}
}

// timing tests the hour of an engagement.
func (s *subject) timing(e *event, day int64) {
	h := e.at()
	test, ties, ok := s.world.Model.Timing(&s.channel.State, &s.view, h)
	proven := s.view.Evidence.Enough()
	if !ok {
		return
	}
	if s.drift.from != 0 && e.second >= s.drift.from {
		s.drift.answers++
		s.drift.moved = append(s.drift.moved, h)
	}
	if !s.ordinary {
		return
	}
	p := s.world.Model.Calibrated(timing.Timing, s.stratum, test.P)
	hit := 0.
	if p < timing.TwoSigma {
		hit = 1
	}
	if proven {
		s.ledger.note("timing-false-alarms", s.i, s.stratum, hit, 1)
		s.ledger.note("drift-answers-per-false-alarm", s.i, s.stratum, 0, 1)
		s.ledger.note("drift-false-alarms", s.i, s.stratum, 0, 1)
	}
	s.picture.tail(timing.Timing, s.stratum, min(max(test.P+(timing.Hash(s.name(), h, timing.Timing)-.5)*ties, 0), 1), 1)
}

// alarms takes note of what the profile raised by itself.
func (s *subject) alarms(alarms []timing.Test, e *event) {
	for _, a := range alarms {
		switch a.Kind {
		case timing.Silence:
			if n := len(s.mailDays); n > 0 {
				s.mailDays[n-1].alarm = true
			}
		case timing.Drift:
			// It is raised when the answer behind it is settled; a.Days is how long ago that was.
			at := floorDiv(e.at(), hours) - int64(a.Days)
			if s.begun && s.ordinary {
				s.ledger.note("drift-answers-per-false-alarm", s.i, s.stratum, 1, 0)
				s.ledger.note("drift-false-alarms", s.i, s.stratum, 1, 0)
			}
			if d := &s.drift; d.from != 0 && e.second >= d.from && !d.found {
				for _, h := range d.moved {
					if floorDiv(h, hours) <= at {
						d.atAnswers++
					}
				}
				d.found = d.atAnswers > 0
			}
		}
	}
}

// predict scores our prediction of an engaged hour beside simple ones.
func (s *subject) predict(e *event) {
	h := e.at()
	how := timing.HourOfWeek(h)
	y := how % hours
	s.world.Derive(&s.view, &s.profile, channel, h, timing.Everything)
	var laplace, everybody [week]float64
	var own, ours [hours]float64
	for i := range week {
		laplace[i] = (float64(s.counts.week[i]) + 1) / (float64(s.counts.n) + week)
		everybody[i] = (s.everybody.week[i] + 1) / (s.everybody.n + week)
	}
	for i, k := range s.counts.day {
		own[i] = float64(k)
	}
	usual := s.view.Usual()
	for i, x := range usual {
		ours[i%hours] += x
	}
	s.ledger.note("week-nats-below-laplace", s.i, s.stratum, nats(usual[how])-nats(laplace[how]), 1)
	s.ledger.note("week-nats-below-population", s.i, s.stratum, nats(usual[how])-nats(everybody[how]), 1)
	s.ledger.note("top3-above-histogram", s.i, s.stratum, hit(&ours, y, 3)-hit(&own, y, 3), 1)
	if age := h - s.latest; s.mailed && age >= 0 && age < timing.Response {
		kernel := &s.world.Model.Kernel
		p := s.view.Answers(s.latest)[age]
		s.ledger.note("response-nats-below-laplace", s.i, s.stratum, nats(p)-nats(answering(kernel, &laplace, s.latest, h)), 1)
		s.ledger.note("response-nats-below-population", s.i, s.stratum, nats(p)-nats(answering(kernel, &everybody, s.latest, h)), 1)
	}
}

// answered takes a delivery into the picture of scores.
func (s *subject) answered(d *sent, yes bool) {
	c := &s.picture.scores[min(d.score/10, 9)]
	c.n++
	c.score += float64(d.score)
	c.response += d.response
	c.usual += d.usual
	if yes {
		c.answered++
	}
}

// end sums up a customer.
func (s *subject) end() {
	size := float64(len(s.profile.Append(nil)))
	for _, name := range [...]string{"bytes-p50", "bytes-p95", "bytes-max"} {
		s.ledger.note(name, s.i, strata, size)
	}
	for k := range s.deliveries {
		if d := &s.deliveries[k]; d.second+timing.Horizon*3600 < s.until {
			s.answered(d, false)
		}
	}
	for k := range s.bursts {
		x := &s.bursts[k]
		if x.begun && x.proven {
			s.ledger.note("burst-power", s.i, s.stratum, one(x.found), 1)
		}
	}
	for k := range s.silences {
		x := &s.silences[k]
		deadline := x.From.Add(noticeable)
		if x.begun && x.proven && deadline.Unix() <= s.until && (x.To.IsZero() || !x.To.Before(deadline)) {
			s.ledger.note("silence-power", s.i, s.stratum, one(x.found), 1)
		}
	}
	if d := &s.drift; d.from != 0 && d.answers >= 6 {
		s.ledger.note("drift-power", s.i, s.stratum, one(d.found), 1)
		if d.found {
			s.ledger.note("drift-answers-to-alarm", s.i, s.stratum, float64(d.atAnswers))
		}
	}
	if s.ordinary {
		s.runs(s.first + int64(silenceFrom/time.Second))
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// runs notes the streaks of mail days that the customer left unread, each from a mail day that was read on. Whoever reads a
// mail day begins anew, whether or not the next one is ignored: that is the chance that the test's p speaks of.
func (s *subject) runs(from int64) {
	known := s.until - 96*3600 // of later mail days it is not known yet whether they are read
	var run *streak
	for _, d := range s.mailDays {
		if d.second >= known {
			break
		}
		if s.away(d.second) { // what was begun is cut off
			if run != nil {
				s.streaks, run = append(s.streaks, *run), nil
			}
			continue
		}
		if run != nil {
			run.days++
			run.over = d.read
			if run.alarm = d.alarm; run.alarm || run.over {
				s.streaks = append(s.streaks, *run)
				run = nil
			}
		}
		if d.read && d.second >= from {
			run = &streak{customer: int32(s.i), stratum: uint8(d.stratum)}
		}
	}
	if run != nil {
		s.streaks = append(s.streaks, *run)
	}
}

// away reports whether something is known to happen to the customer at that time: a holiday, before all.
func (s *subject) away(second int64) bool {
	at := time.Unix(second, 0)
	return slices.ContainsFunc(s.truth.Episodes, func(e truth.Episode) bool { return e.Kind != truth.Shift && e.Holds(at) })
}

// happened reports whether anything is known to have happened to the customer between two times.
func (s *subject) happened(from, to int64) bool {
	return slices.ContainsFunc(s.truth.Episodes, func(e truth.Episode) bool {
		return e.Kind != truth.Shift && e.From.Unix() < to && (e.To.IsZero() || e.To.Unix() > from)
	})
}

// silences turns streaks into the share of those that end in an alarm. Some are cut off by the end of the log; the others
// stand for these, by weights of one over the chance of not having been cut off by then, which is Aalen and Johansen's estimate
// (An empirical transition matrix, 1978) in the form of Satten and Datta (2001).
func (j *judge) silences() {
	longest := 0
	for i := range j.streaks {
		longest = max(longest, int(j.streaks[i].days))
	}
	cut, risk := make([]float64, longest+2), make([]float64, longest+2)
	for i := range j.streaks {
		r := &j.streaks[i]
		for k := range r.days + 1 {
			risk[k]++
		}
		if !r.alarm && !r.over {
			cut[r.days]++
		}
	}
	stays := make([]float64, longest+2) // chance of not having been cut off before that day
	stays[0] = 1
	for k := range longest + 1 {
		stays[k+1] = stays[k]
		if risk[k] > 0 {
			stays[k+1] *= 1 - cut[k]/risk[k]
		}
	}
	for i := range j.streaks {
		r := &j.streaks[i]
		hit := 0.
		if r.alarm {
			hit = 1 / stays[r.days]
		}
		j.ledger.note("silence-false-alarms", int(r.customer), int(r.stratum), hit, 1)
	}
}

// gate lets act, on each day, what the week before it allows to, and counts how much of that is false.
func (j *judge) gate() {
	slices.SortFunc(j.acts, func(a, b act) int {
		if a.day != b.day {
			return int(a.day - b.day)
		}
		return int(a.customer - b.customer)
	})
	const days, rate, budget = 7, .05, .005
	bins := map[int32]*[timing.ActBins]uint64{}
	for i := range j.acts {
		a := &j.acts[i]
		if bins[a.day] == nil {
			bins[a.day] = new([timing.ActBins]uint64)
		}
		bins[a.day][timing.ActBin(a.last)]++
	}
	opens, _ := calendar.LocalHour(j.quiet, j.log.zone)
	first := int32(floorDiv(opens, hours))
	star := map[int32]float64{}
	for i := range j.acts {
		a := &j.acts[i]
		if a.day < first || !a.ordinary {
			continue
		}
		p, ok := star[a.day]
		if !ok {
			var week [timing.ActBins]uint64
			active := 0.
			for d := a.day - days; d < a.day; d++ {
				active += j.active[d]
				if b := bins[d]; b != nil {
					for k, n := range b {
						week[k] += n
					}
				}
			}
			p = fit.PStar(week[:], active, rate, budget)
			star[a.day] = p
		}
		if a.burst {
			j.ledger.note("action-gate-power", int(a.customer), strata, one(a.least <= p), 1)
		}
		if a.least <= p {
			j.ledger.note("action-gate-false-share", int(a.customer), strata, one(!a.burst), 1)
		}
	}
}

// orders asks whether the order of events, or where the stream is cut, leaves traces in a profile.
func (j *judge) orders(i int) {
	events := j.log.people[i].events
	j.world.Gaps = timing.Gaps{}
	r := rand.New(rand.NewPCG(j.seed, uint64(i)))
	type arrival struct {
		at int64
		e  *event
	}
	late := make([]arrival, len(events))
	for k := range events {
		late[k] = arrival{events[k].second + r.Int64N(48*3600-3600), &events[k]}
	}
	slices.SortStableFunc(late, func(a, b arrival) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		}
		return 0
	})
	var ordered, shuffled, stored timing.Profile
	drifted := false
	put := func(p *timing.Profile, e *event) {
		c := p.Channel(channel)
		var change timing.Change
		if e.delivered() {
			change = c.Delivered(&j.world, e.at())
		} else {
			change = c.Engaged(&j.world, e.at(), int(e.minute))
		}
		drifted = drifted || slices.ContainsFunc(change.Alarms, func(t timing.Test) bool { return t.Kind == timing.Drift })
	}
	for k := range events {
		put(&ordered, &events[k])
		put(&stored, &events[k])
		if r.IntN(4) == 0 {
			if err := stored.Decode(stored.Append(nil)); err != nil {
				j.ledger.note("any-split", i, strata, 0, 1)
				return
			}
		}
		put(&shuffled, late[k].e)
	}
	want := ordered.Append(nil)
	j.ledger.note("any-split", i, strata, one(bytes.Equal(want, stored.Append(nil))), 1)
	if !drifted {
		j.ledger.note("any-order", i, strata, one(bytes.Equal(want, shuffled.Append(nil))), 1)
	}
}
