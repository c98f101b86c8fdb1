package profiler

// Resettle makes the state of partition q of n from those of the partitions that there were, when customers move. What was
// counted and is not published yet goes to one new partition, so that sums stay. What is known of the feed as a whole, each
// gets its share of.
func Resettle(q, n int32, old []Partition) Partition {
	var p Partition
	for i := range old { // the clock that is ahead says where everybody is
		if o := &old[i]; o.clock > p.clock || i == 0 {
			p.clock, p.open, p.flushed = o.clock, o.open, o.flushed
		}
		p.whole = max(p.whole, old[i].whole)
		p.world.Gaps.Merge(&old[i].world.Gaps)
	}
	for i := range old {
		if o := &old[i]; o.clock != 0 {
			o.flush(p.flushed)
			if int32(i)%n == q {
				p.add(o)
			}
		}
	}
	p.feed, p.crowd = share(n, old)
	return p
}

// add adds what o has counted.
func (p *Partition) add(o *Partition) {
	p.totals.Add(o.totals)
	for i := range o.tallies {
		from := &o.tallies[i]
		to := p.tally(from.channel, from.segment)
		for how := range from.cells {
			c, f := &to.cells[how], &from.cells[how]
			c.delivered += f.delivered
			c.engaged += f.engaged
			c.flat += f.flat
			c.own += f.own
		}
		for h := range from.waiting {
			to.waiting[h].flat += from.waiting[h].flat
			to.waiting[h].own += from.waiting[h].own
		}
	}
	for kind := range p.tails {
		for stratum := range p.tails[kind] {
			sum(p.tails[kind][stratum][:], o.tails[kind][stratum][:])
		}
	}
	for stratum := range p.acts {
		sum(p.acts[stratum][:], o.acts[stratum][:])
	}
	sum(p.response[:], o.response[:])
	p.gaps = append(p.gaps, o.gaps...)
	p.active += o.active
	p.everybody += o.everybody
	p.responses += o.responses
	p.seconds += o.seconds
	p.optimal += o.optimal
	p.engagements += o.engagements
	e, f := &p.events, &o.events
	e.Human += f.Human
	e.Probable += f.Probable
	e.Machine += f.Machine
	e.Late += f.Late
	e.Duplicate += f.Duplicate
	e.Erased += f.Erased
	e.Unconsented += f.Unconsented
}

func sum(to, from []uint32) {
	for i := range to {
		to[i] += from[i]
	}
}

// share is what one of n partitions knows of the feed and of the crowd.
func share(n int32, old []Partition) (f feed, c crowd) {
	first := true
	for i := range old {
		o := &old[i]
		if o.clock == 0 {
			continue
		}
		f.judged, c.hour = max(f.judged, o.feed.judged), max(c.hour, o.crowd.hour)
		f.outed = max(f.outed, o.feed.outed)
		if first || o.feed.ordinary < f.ordinary {
			f.ordinary = o.feed.ordinary
		}
		first = false
	}
	for i := range old {
		o := &old[i]
		if o.clock == 0 {
			continue
		}
		f.usual.expected += o.feed.usual.expected
		f.usual.engaged += o.feed.usual.engaged
		for day := f.judged; day < min(f.judged, o.feed.judged)+feedDays; day++ {
			f.days[day%feedDays].expected += o.feed.days[day%feedDays].expected
			f.days[day%feedDays].engaged += o.feed.days[day%feedDays].engaged
		}
		c.usual.engaged += o.crowd.usual.engaged
		c.usual.bursts += o.crowd.usual.bursts
		for k := range c.now { // an hour and the one before, which one that is behind has in another place
			if at := int64(k) - (c.hour - o.crowd.hour); at >= 0 {
				c.now[k].engaged += o.crowd.now[at].engaged
				c.now[k].bursts += o.crowd.now[at].bursts
			}
		}
	}
	by := uint64(n)
	f.usual.expected /= by
	f.usual.engaged /= by
	for i := range f.days {
		f.days[i].expected /= by
		f.days[i].engaged /= by
	}
	c.usual.engaged /= by
	c.usual.bursts /= by
	for k := range c.now {
		c.now[k].engaged /= by
		c.now[k].bursts /= by
	}
	return f, c
}
