package town

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/tempismo/truth"
)

// What a human's and a machine's mail program call themselves.
const (
	browser  = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
	prefetch = "Mozilla/5.0"
)

// How an inbox is read.
const (
	buried  = 20. // hours in which a message's chance of being opened falls to 1/e
	kept    = 96  // hours after which a message is not looked for any more
	again   = 48  // hours within which a message is read again
	reread  = .06 // chance of that, of each visit
	enough  = .25 // chance that a reader stops after a message
	putOff  = .1  // chance that a message is put off to between visits
	eager   = .07 // chance of opening anything, new or old, on a visit in a burst
	fiercer = 5   // visits in a burst against other days
	onLeave = .3  // visits on holiday against other days
	dayVar  = .5  // variance of the days' factors
	weekVar = .0625
)

// mail is a message in an inbox.
type mail struct {
	id, campaign string
	at           int64   // unix seconds of its delivery
	appeal       float64 // of its issue
	read         bool
}

// visit is a look at the inbox.
type visit struct {
	at    int64 // unix seconds
	eager bool  // in a burst
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
	town  *Town
	index int    // in the town
	key   uint64 // of what is drawn for the person, whatever the size of the town
	id    string
	place int
	rnd   *rand.Rand

	habit    *habit // that they were born with
	visiting float64
	interest float64 // chance that a fresh message is opened when it is seen
	triggers float64 // chance of a triggered message, a day
	lists    [len(campaigns)]bool
	private  bool // the mail program fetches every picture by itself and hides the human's opens
	scanned  bool // an employer's scanner follows every link
	even     bool // one day is like another

	null     bool
	since    int64     // unix milliseconds from which on events are exported
	leaves   int       // day on which they unsubscribe; 0: never
	episodes []episode // in order of their beginning; in a town without a plan, those so far
	latest   *habit    // that any shift so far leads to

	day     int   // days lived
	until   int64 // unix milliseconds of the end of the last day lived
	mood    float64
	inbox   []mail
	pending []deed // in order of time
	counted int    // events so far
	gone    bool   // unsubscribed
}

// born makes the i-th customer.
func (t *Town) born(i int) *person {
	r := random(t.config.Seed, uint64(i))
	p := &person{town: t, index: i, key: uint64(i), id: "C-" + number(i+1), rnd: r}
	at := r.IntN(100)
	for j, pl := range places {
		if at -= pl.share; at < 0 {
			p.place = j
			break
		}
	}
	p.moveIn(take(r))
	p.visiting = t.config.Lively * (.5 + 1.1*gamma(r, 3)/3)
	p.interest = .22 + .36*r.Float64()
	p.triggers = .01 + .09*r.Float64()
	busy := .5 + .85*r.Float64() // some are on every list, some on hardly one
	for j := range campaigns {
		p.lists[j] = r.Float64() < campaigns[j].audience*busy
	}
	p.lists[r.IntN(2)] = true // without any there would be no customer
	p.private = r.Float64() < .15
	p.scanned = r.Float64() < .02
	if c := &t.config; !c.QuietUntil.IsZero() {
		p.plan(p.dayOf(c.QuietUntil), p.dayOf(c.Until))
	}
	return p
}

// resident makes the i-th of Stories.
func (t *Town) resident(i int) *person {
	p := &person{town: t, index: t.config.Customers + i, key: 1<<40 + uint64(i), id: Stories[i], visiting: 4.5, interest: .5, triggers: .3, even: true}
	p.rnd = random(t.config.Seed, p.key)
	h := &habit{}
	bumps := [len(Stories)]bump{{8, .8, .8}, {12.9, .8, .75}, {18.3, .9, .75}, {20.8, 1, .75}}
	h.name = [len(Stories)]string{"early commuters", "lunch readers", "on the way home", "evening readers"}[i]
	h.draw([]bump{bumps[i]}, [7]float64{1, 1, 1, 1, 1, 1, 1}, p.rnd)
	p.moveIn(h)
	for j := range campaigns {
		p.lists[j] = true
	}
	p.story(i, p.dayOf(t.config.Stories))
	return p
}

func (p *person) moveIn(h *habit) {
	p.habit, p.latest = h, h
	p.until = p.midnight(0).UnixMilli()
	p.mood = 1
}

func (p *person) midnight(day int) time.Time { return p.town.almanac.midnight(p.place, day) }

// dayOf is the day of the town on which an instant falls where the person lives.
func (p *person) dayOf(at time.Time) int {
	n := int(at.Sub(p.midnight(0)) / (24 * time.Hour))
	for !p.midnight(n + 1).After(at) {
		n++
	}
	for p.midnight(n).After(at) {
		n--
	}
	return n
}

// next is when the person has to be looked at again: for the next event, or to live the next day.
func (p *person) next() int64 {
	if p.ready() {
		return p.pending[0].at
	}
	return p.until
}

func (p *person) ready() bool { return len(p.pending) > 0 && p.pending[0].at < p.until }

// take hands out the first pending event.
func (p *person) take(e *engagement.Event) {
	d := &p.pending[0]
	p.counted++
	actor, rule := engagement.Human, ""
	if d.agent != browser { // which no rule takes for a machine's name, and all of them are tried
		actor, rule = engagement.Classify(d.kind, d.flag, d.agent)
	}
	*e = engagement.Event{
		ID: "t-" + p.id + "-" + strconv.Itoa(p.counted), Source: Source, Subject: p.id, Time: time.UnixMilli(d.at).UTC(),
		Kind: d.kind, Channel: "email", Message: d.mail.id, Campaign: d.mail.campaign, Actor: actor, ActorRule: rule,
		Link: d.link, UserAgent: d.agent, Provider: "town", Zone: places[p.place].zone,
	}
	p.pending = p.pending[1:]
}

// live adds the events of one more day.
func (p *person) live() {
	d := p.town.almanac.day(p.place, p.day)
	if p.town.config.QuietUntil.IsZero() && p.index < p.town.config.Customers {
		p.chance()
	}
	if p.leaves > 0 && p.leaves == p.day && len(p.inbox) > 0 {
		p.gone = true
		p.add(deed{at: d.second(10 * 3600), kind: engagement.Unsubscribe, mail: p.inbox[len(p.inbox)-1]})
	}
	p.day++
	p.until = d.end
	if p.gone {
		return
	}
	p.spend(d, p.post(d), p.visits(d))
}

// spend is a day: mail comes in, and the inbox is looked at.
func (p *person) spend(d *day, mails []mail, visits []visit) {
	for _, v := range visits {
		for len(mails) > 0 && mails[0].at <= v.at {
			p.receive(mails[0])
			mails = mails[1:]
		}
		p.read(v, d.end)
	}
	for _, m := range mails {
		p.receive(m)
	}
	slices.SortStableFunc(p.pending, func(a, b deed) int { return int(a.at - b.at) })
}

// post is the mail of a day in order of its delivery.
func (p *person) post(d *day) []mail {
	var mails []mail
	for i := range d.issues {
		s := &d.issues[i]
		if !p.lists[s.campaign] {
			continue
		}
		// Copies take up to twenty minutes to go out.
		h := hash(p.town.config.Seed, 3, p.key, uint64(s.at))
		if at := s.at + int64(h%1200); at*1000 >= d.start && at*1000 < d.end {
			name := campaigns[s.campaign].name
			mails = append(mails, mail{id: name + "-" + s.stamp + "-" + p.id, campaign: name, at: at, appeal: s.appeal})
		}
	}
	if r := p.rnd; r.Float64() < p.triggers { // a reminder, a receipt: mail that an action of the customer triggers
		at := d.second(7*3600+r.IntN(15*3600)) / 1000
		mails = append(mails, mail{id: "triggered-" + strconv.FormatInt(at, 36) + "-" + p.id, campaign: "triggered", at: at, appeal: 1})
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

// rate is the expected number of visits on an ordinary day of a habit.
func (p *person) rate(h *habit, d time.Weekday) float64 { return p.visiting * float64(h.days[d]) }

// visits are the looks at the inbox of a day, in order.
func (p *person) visits(d *day) []visit {
	r := p.rnd
	if d.weekday == time.Monday {
		p.mood = gamma(r, 1/weekVar) * weekVar
	}
	factor := p.mood * gamma(r, 1/dayVar) * dayVar
	if p.even {
		factor = 1
	}
	h := p.habit
	var burst *episode
	leave := false
	for i := range p.episodes {
		switch e := &p.episodes[i]; {
		case e.from >= d.end:
		case e.kind == truth.Shift:
			h = e.habit
		case !e.holds(d.start, d.end):
		case e.kind == truth.Silent:
			return nil
		case e.kind == truth.Holiday:
			leave = true
		case e.kind == truth.Burst:
			burst = e
		}
	}
	weekday, c := d.weekday, &h.work
	if d.rest {
		c = &h.rest
		if weekday != time.Saturday {
			weekday = time.Sunday
		}
	}
	usual := p.rate(h, weekday)
	rate := usual * factor * d.season
	if leave {
		rate *= onLeave
		c = &h.rest
	}
	var visits []visit
	add := func(second int, only bool) {
		ms := d.second(second)
		v := visit{ms / 1000, burst != nil && ms >= burst.from && ms < burst.to}
		if v.eager || !only {
			visits = append(visits, v)
		}
	}
	for range poisson(r, rate) {
		add(c.second(r.Float64()), false)
	}
	if burst != nil { // at all hours, not only at those of the habit
		for range poisson(r, (fiercer-1)*p.visiting) {
			s := 7*3600 + r.IntN(16*3600)
			if r.Float64() < .5 {
				s = c.second(r.Float64())
			}
			add(s, true)
		}
	}
	slices.SortFunc(visits, func(a, b visit) int { return int(a.at - b.at) })
	return visits
}

// read is one visit to the inbox: newest first, the older the less likely, with a pause after each message.
func (p *person) read(v visit, end int64) {
	r := p.rnd
	ms := v.at*1000 + int64(r.IntN(1000))
	for i := len(p.inbox) - 1; i >= 0; i-- {
		m := &p.inbox[i]
		age := float64(v.at-m.at) / 3600
		chance := p.interest * m.appeal * math.Exp(-age/buried)
		switch {
		case v.eager:
			chance = eager
		case age > kept:
			return
		case m.read && age > again:
			continue
		case m.read:
			chance = reread
		}
		if r.Float64() >= chance {
			continue
		}
		m.read = true
		ms += int64(4000 + r.IntN(50_000))
		at := ms
		if later := ms + 3600_000 + int64(r.IntN(4*3600_000)); r.Float64() < putOff && later < end {
			at = later
		}
		clicks := r.Float64() < .15
		if !p.private {
			p.add(deed{at: at, kind: engagement.Open, mail: *m, agent: browser})
		} else if r.Float64() < .3 {
			clicks = true
		}
		if clicks {
			at += int64(3000 + r.IntN(40_000))
			p.add(deed{at: at, kind: engagement.Click, mail: *m, link: "https://shop.example/" + strconv.Itoa(1+r.IntN(9)), agent: browser})
			if r.Float64() < .03 {
				at += int64(60_000 + r.IntN(200_000))
				p.add(deed{at: at, kind: engagement.Reply, mail: *m})
			}
		}
		if r.Float64() < enough {
			return
		}
	}
}

// add notes an event, unless nobody ever hears of it.
func (p *person) add(d deed) {
	if d.at >= p.since && !p.town.almanac.down(d.at) {
		p.pending = append(p.pending, d)
	}
}

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
