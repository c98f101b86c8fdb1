package town

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// What a human's and a machine's mail program call themselves.
const (
	browser  = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
	prefetch = "Mozilla/5.0"
)

// mail is a message in an inbox.
type mail struct {
	id, campaign string
	at           int64 // unix seconds of its delivery
	read         bool
}

// deed is one event that a person, or a machine of theirs, has caused.
type deed struct {
	at    int64 // unix milliseconds
	kind  engagement.Kind
	mail  mail
	link  string
	agent string
	flag  bool // the provider says that a machine did it
}

type person struct {
	index int
	id    string
	zone  *time.Location
	name  string // of the zone
	rnd   *rand.Rand
	tell  func(Episode)
	start time.Time // of the town, which anchors dates

	habit    curve
	weekend  float64
	sessions float64 // inbox visits a day
	interest float64 // chance that a fresh message is opened when it is seen
	lists    [8]bool // subscriptions, by campaign
	private  bool    // the mail program fetches every picture by itself and hides the human's opens
	scanned  bool    // an employer's scanner follows every link

	day      int   // days lived
	until    int64 // unix milliseconds of the end of the last day lived
	inbox    []mail
	pending  []deed // in order of time
	counted  int    // events so far
	bursting int    // days left
	silent   int    // days left; -1: for good
	gone     bool   // unsubscribed
}

func born(c Config, i int, zones []*time.Location) *person {
	r := random(c.Seed, i)
	p := &person{index: i, id: "C-" + pad(i+1, 5), rnd: r, start: c.Start.UTC()}
	at := r.IntN(100)
	for j, pl := range places {
		if at -= pl.share; at < 0 {
			p.zone, p.name = zones[j], pl.zone
			break
		}
	}
	p.settle()
	p.sessions = 1.2 + 2.2*gamma(r, 2)/2
	p.interest = .08 + .35*r.Float64()
	for j, cp := range campaigns {
		p.lists[j] = r.Float64() < cp.audience
	}
	p.private = r.Float64() < .2
	p.scanned = r.Float64() < .02
	p.until = p.midnight(0).UnixMilli()
	return p
}

// settle draws a habit.
func (p *person) settle() {
	kind := &personas[p.rnd.IntN(len(personas))]
	p.habit = draw(kind, bump{hour: 24 * p.habitual(kind), spread: .8, weight: .35})
	p.weekend = kind.weekend
}

// habitual is the place in the day of a bump of one's own: around one of the persona's.
func (p *person) habitual(kind *persona) float64 {
	b := kind.bumps[p.rnd.IntN(len(kind.bumps))]
	h := math.Mod(b.hour+2.5*p.rnd.NormFloat64()+24, 24)
	return h / 24
}

func (p *person) midnight(day int) time.Time {
	y, m, d := p.start.Date()
	return time.Date(y, m, d+day, 0, 0, 0, 0, p.zone)
}

// next is when the person has to be looked at again: for the next event, or to live the next day.
func (p *person) next() int64 {
	if len(p.pending) > 0 && p.pending[0].at < p.until {
		return p.pending[0].at
	}
	return p.until
}

func (p *person) ready() bool { return len(p.pending) > 0 && p.pending[0].at < p.until }

func (p *person) before(o *person) bool {
	a, b := p.next(), o.next()
	return a < b || a == b && p.index < o.index
}

// take hands out the first pending event.
func (p *person) take(e *engagement.Event) {
	d := &p.pending[0]
	p.counted++
	actor, rule := engagement.Classify(d.kind, d.flag, d.agent)
	*e = engagement.Event{
		ID: "t-" + p.id + "-" + strconv.Itoa(p.counted), Source: Source, Subject: p.id, Time: time.UnixMilli(d.at).UTC(),
		Kind: d.kind, Channel: "email", Message: d.mail.id, Campaign: d.mail.campaign, Actor: actor, ActorRule: rule,
		Link: d.link, UserAgent: d.agent, Provider: "town", Zone: p.name,
	}
	p.pending = p.pending[1:]
}

// live adds the events of one more day.
func (p *person) live() {
	date := p.midnight(p.day)
	end := p.midnight(p.day + 1)
	p.fate(date)
	p.day++
	p.until = end.UnixMilli()
	if p.gone {
		return
	}
	mails := p.post(date)
	for _, at := range p.visits(date) {
		for len(mails) > 0 && mails[0].at <= at {
			p.receive(mails[0])
			mails = mails[1:]
		}
		p.read(at)
	}
	for _, m := range mails {
		p.receive(m)
	}
	slices.SortStableFunc(p.pending, func(a, b deed) int { return int(a.at - b.at) })
}

// fate begins and ends episodes, at midnight.
func (p *person) fate(date time.Time) {
	r := p.rnd
	if p.bursting > 0 {
		p.bursting--
	}
	if p.silent > 0 {
		if p.silent--; p.silent == 0 {
			p.tell(Episode{p.id, Back, date, date.AddDate(0, 0, 14)})
		}
	}
	// The first month is for getting to know each other.
	if p.day < 30 || p.gone || p.bursting > 0 || p.silent != 0 {
		return
	}
	switch u := r.Float64(); {
	case u < .0030:
		p.bursting = 2
		p.tell(Episode{p.id, Burst, date, date.AddDate(0, 0, 2)})
	case u < .0045:
		days := 25 + r.IntN(50)
		to := date.AddDate(0, 0, days)
		if p.silent = days; r.Float64() < .3 {
			p.silent, to = -1, time.Time{}
		}
		p.tell(Episode{p.id, Silent, date, to})
	case u < .0055:
		p.settle()
		p.tell(Episode{p.id, Shifted, date, time.Time{}})
	case u < .0057:
		p.gone = true
		if len(p.inbox) > 0 {
			p.add(deed{at: date.Add(10 * time.Hour).UnixMilli(), kind: engagement.Unsubscribe, mail: p.inbox[len(p.inbox)-1]})
		}
	}
}

// post is the mail of a day in order of its delivery.
func (p *person) post(date time.Time) []mail {
	r := p.rnd
	var mails []mail
	y, m, d := date.Date()
	_, week := date.ISOWeek()
	for j, c := range campaigns {
		if !p.lists[j] || !c.days[date.Weekday()] {
			continue
		}
		// The company sends by its own clock, which is Rome's: people abroad get the same mail at the same instant, here
		// by an hour of their own day, which is a difference that nothing depends on.
		at := time.Date(y, m, d, c.hours[week%len(c.hours)], 0, r.IntN(1200), 0, p.zone)
		mails = append(mails, mail{id: c.name + "-" + stamp(y, m, d) + "-" + p.id, campaign: c.name, at: at.Unix()})
	}
	if r.Float64() < .06 { // a reminder, a receipt: mail that an action of the customer triggers
		at := time.Date(y, m, d, 8, 0, r.IntN(14*3600), 0, p.zone)
		mails = append(mails, mail{id: "triggered-" + stamp(y, m, d) + "-" + p.id, campaign: "triggered", at: at.Unix()})
	}
	slices.SortFunc(mails, func(a, b mail) int { return int(a.at - b.at) })
	return mails
}

// receive puts a message into the inbox, unless it bounces, and lets the machines at it.
func (p *person) receive(m mail) {
	r := p.rnd
	ms := m.at * 1000
	if r.Float64() < .004 {
		p.add(deed{at: ms, kind: engagement.Bounce, mail: m})
		return
	}
	p.add(deed{at: ms, kind: engagement.Delivered, mail: m})
	if p.private {
		wait := int64(2000 + r.IntN(40_000))
		if r.Float64() < .3 { // the device was asleep
			wait = int64(r.IntN(5 * 3600_000))
		}
		p.add(deed{at: ms + wait, kind: engagement.Open, mail: m, agent: prefetch, flag: r.Float64() < .8})
	}
	if p.scanned {
		for i := range 3 {
			p.add(deed{at: ms + 1500 + int64(i)*400, kind: engagement.Click, mail: m, link: "https://shop.example/" + strconv.Itoa(i+1), agent: browser})
		}
	}
	if p.inbox = append(p.inbox, m); len(p.inbox) > 10 {
		p.inbox = slices.Delete(p.inbox, 0, len(p.inbox)-10)
	}
}

// visits are the moments of a day at which the inbox is opened, in unix seconds. Days differ more than chance alone
// explains: the day's factor is Gamma distributed with variance 0.3.
func (p *person) visits(date time.Time) []int64 {
	r := p.rnd
	rate := p.sessions * gamma(r, 1/.3) * .3
	if wd := date.Weekday(); wd == time.Saturday || wd == time.Sunday {
		rate *= p.weekend
	}
	if p.bursting > 0 {
		rate = 4 + 4*r.Float64()
	}
	var at []int64
	y, m, d := date.Date()
	for range poisson(r, rate) {
		u := r.Float64()
		s := p.habit.second(u)
		if p.bursting > 0 { // all over the waking day
			s = 7*3600 + r.IntN(16*3600)
		}
		at = append(at, time.Date(y, m, d, 0, 0, s, 0, p.zone).Unix())
	}
	slices.Sort(at)
	return at
}

// read is one visit to the inbox: newest first, the older the less likely, with a pause after each message.
func (p *person) read(at int64) {
	if p.silent != 0 {
		return
	}
	r := p.rnd
	ms := at*1000 + int64(r.IntN(1000))
	for i := len(p.inbox) - 1; i >= 0; i-- {
		m := &p.inbox[i]
		age := float64(at-m.at) / 3600
		chance := p.interest * math.Exp(-age/20)
		switch {
		case p.bursting > 0:
			chance = .45 // old mail, too, and again
		case m.read || age > 96:
			continue
		}
		if r.Float64() >= chance {
			continue
		}
		m.read = true
		ms += int64(4000 + r.IntN(50_000))
		clicks := r.Float64() < .15
		if !p.private {
			p.add(deed{at: ms, kind: engagement.Open, mail: *m, agent: browser})
		} else if r.Float64() < .3 {
			clicks = true
		}
		if clicks {
			ms += int64(3000 + r.IntN(40_000))
			p.add(deed{at: ms, kind: engagement.Click, mail: *m, link: "https://shop.example/" + strconv.Itoa(1+r.IntN(9)), agent: browser})
			if r.Float64() < .03 {
				ms += int64(60_000 + r.IntN(200_000))
				p.add(deed{at: ms, kind: engagement.Reply, mail: *m})
			}
		}
	}
}

func (p *person) add(d deed) { p.pending = append(p.pending, d) }

// gamma draws from a Gamma distribution with the given shape and scale 1 (Marsaglia and Tsang: A Simple Method for
// Generating Gamma Variables, ACM TOMS 2000). shape must be at least 1.
func gamma(r *rand.Rand, shape float64) float64 {
	d := shape - 1./3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-r.Float64()) < .5*x*x+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

// poisson draws a count by multiplying uniform numbers (Knuth); means are small here.
func poisson(r *rand.Rand, mean float64) int {
	limit, n := math.Exp(-mean), 0
	for f := r.Float64(); f > limit; f *= r.Float64() {
		n++
	}
	return n
}

func pad(n, width int) string {
	s := strconv.Itoa(n)
	for len(s) < width {
		s = "0" + s
	}
	return s
}

func stamp(y int, m time.Month, d int) string { return strconv.Itoa(y*10000 + int(m)*100 + d) }
