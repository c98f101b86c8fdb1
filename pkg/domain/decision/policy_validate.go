package decision

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

// Problem is one thing that is wrong with a Policy.
type Problem struct {
	Path string // of the field, e.g. channels.email.windows[0]; empty: the whole
	What string // what is wrong, and what to write instead
}

func (p Problem) Error() string {
	if p.Path == "" {
		return p.What
	}
	return p.Path + ": " + p.What
}

// Problems is everything that is wrong with a Policy, in the order of its fields.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

func (ps *Problems) add(path, format string, args ...any) {
	*ps = append(*ps, Problem{path, fmt.Sprintf(format, args...)})
}

// orNil is ps as an error.
func (ps Problems) orNil() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// Validate names everything that is wrong with p, as Problems. Version and Closed are not asked for: a policy that is not in
// force yet has none.
func (p *Policy) Validate() error { return p.problems().orNil() }

func (p *Policy) problems() (ps Problems) {
	if _, err := calendar.Zone(p.Zone); err != nil {
		ps.add("zone", "%q is no IANA name of a time zone such as Europe/Rome", p.Zone)
	}
	if p.Consent != Assumed && p.Consent != Required {
		ps.add("consent", "%q is neither %s nor %s", p.Consent, Assumed, Required)
	}
	p.checkChannels(&ps)
	if p.Quiet.Whole() {
		ps.add("quiet", "fills the day, so nothing could ever be sent")
	}
	checkCaps(&ps, "", p.CapPerDay, p.CapPerWeek)
	checkSpan(&ps, "gap", p.Gap)
	checkSpan(&ps, "collision", p.Collision)
	if !(p.Overlap > 0 && p.Overlap <= 1) {
		ps.add("overlap", "%v is no share above 0 and up to 1 (no limit), e.g. 0.15", p.Overlap)
	}
	for i := range p.Lead {
		p.Lead[i].check(&ps, fmt.Sprintf("lead[%d]", i))
	}
	p.checkSegments(&ps)
	p.Experiment.check(&ps)
	p.Calendars.check(&ps)
	return ps
}

func (p *Policy) checkChannels(ps *Problems) {
	switch n := len(p.Channels); {
	case n == 0:
		ps.add("channels", "there is none, so nothing would ever be decided; e.g. email")
	case n > MaxChannels:
		ps.add("channels", "there are %d, at most %d are allowed", n, MaxChannels)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Channels)) {
		path := "channels." + name
		if name == "" || len(name) > MaxName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			ps.add(path, "%q must be 1 to %d of a-z, 0-9, hyphen and underscore, e.g. email", name, MaxName)
		}
		c := p.Channels[name]
		c.check(ps, path, p.Quiet)
	}
}

// checkName checks a name that stands in decisions and in metrics.
func checkName(ps *Problems, path, name string) {
	if name == "" || len(name) > MaxName || strings.TrimSpace(name) != name {
		ps.add(path, "%q is no name: 1 to %d characters without space around them", name, MaxName)
	}
}

func (c *Channel) check(ps *Problems, path string, quiet calendar.Window) {
	checkOpenings(ps, path+".windows", c.Windows)
	checkOpenings(ps, path+".prime", c.Prime)
	checkOpenings(ps, path+".fall_back", c.FallBack)
	switch {
	case len(c.Windows) == 0:
		ps.add(path+".windows", "there is none, so nothing could ever be sent; use 00:00-24:00 to allow every hour")
	case quiet.Whole(): // said of quiet
	case !meet(quiet, c.Windows):
		ps.add(path+".windows", "lie within quiet hours, so nothing could ever be sent")
	default:
		if len(c.Prime) > 0 && !meet(quiet, c.Windows, c.Prime) {
			ps.add(path+".prime", "lies outside the windows, or within quiet hours, so it never counts")
		}
		if len(c.FallBack) > 0 && !meet(quiet, c.Windows, c.FallBack) {
			ps.add(path+".fall_back", "lies outside the windows, or within quiet hours, so no request could end there")
		}
	}
	if c.Threshold < 0 || c.Threshold > 100 {
		ps.add(path+".threshold", "%d is no score, 0 to 100", c.Threshold)
	}
	checkCaps(ps, path+".", c.CapPerDay, c.CapPerWeek)
	checkSpan(ps, path+".gap", c.Gap)
	if c.Expiry <= 0 || time.Duration(c.Expiry) > MaxExpiry {
		ps.add(path+".expiry", "%v is not above 0 and up to %v", c.Expiry, Duration(MaxExpiry))
	}
	for i, t := range c.Triggers {
		if t != string(Burst) && t != string(Reactivation) {
			ps.add(fmt.Sprintf("%s.triggers[%d]", path, i), "%q is neither %s nor %s: no other deviation is a reason to write", t, Burst, Reactivation)
		} else if slices.Contains(c.Triggers[:i], t) {
			ps.add(fmt.Sprintf("%s.triggers[%d]", path, i), "%s is there twice", t)
		}
	}
	if c.Priority < 0 || c.Priority > MaxPriority {
		ps.add(path+".priority", "%d is not between 0 and %d", c.Priority, MaxPriority)
	}
}

func checkOpenings(ps *Problems, path string, list []calendar.Opening) {
	if n := len(list); n > MaxOpenings {
		ps.add(path, "there are %d, at most %d are allowed", n, MaxOpenings)
	}
	for i, o := range list {
		if o.Window.Empty() {
			ps.add(fmt.Sprintf("%s[%d]", path, i), "is empty; write hours such as 09:30-14:00 or mon-fri 09:30-14:00")
		}
	}
}

// checkCaps checks the two caps of a channel, or those over all.
func checkCaps(ps *Problems, path string, perDay, perWeek int) {
	for _, c := range []struct {
		name string
		n    int
	}{{"cap_per_day", perDay}, {"cap_per_week", perWeek}} {
		if c.n < 0 || c.n > MaxCap {
			ps.add(path+c.name, "%d is not between 0 (no cap) and %d", c.n, MaxCap)
		}
	}
}

// checkSpan checks a least time between sends.
func checkSpan(ps *Problems, path string, d Duration) {
	if d < 0 || time.Duration(d) > week {
		ps.add(path, "%v is not between 0 and %v", d, Duration(week))
	}
}

func (l *Lead) check(ps *Problems, path string) {
	checkName(ps, path+".name", l.Name)
	if _, _, ok := parseMonthDay(l.Before); !ok {
		ps.add(path+".before", "%q is no day of the year, MM-DD, e.g. 12-25", l.Before)
	}
	if l.Days < 1 || l.Days > MaxLead {
		ps.add(path+".days", "%d is not between 1 and %d", l.Days, MaxLead)
	}
}

func (p *Policy) checkSegments(ps *Problems) {
	if n := len(p.Segments); n > MaxSegments {
		ps.add("segments", "there are %d, at most %d are allowed", n, MaxSegments)
	}
	names := map[string]bool{}
	for i := range p.Segments {
		s, path := &p.Segments[i], fmt.Sprintf("segments[%d]", i)
		checkName(ps, path+".name", s.Name)
		if names[s.Name] {
			ps.add(path+".name", "there is another segment %q: decisions name segments, so each needs a name of its own", s.Name)
		}
		names[s.Name] = true
		if len(s.When) == 0 {
			ps.add(path+".when", "there is no condition, so it would fit everybody; say what is different in channels instead")
		}
		for _, name := range slices.Sorted(maps.Keys(s.When)) {
			c := s.When[name]
			c.check(ps, path+".when."+name)
		}
		for _, name := range slices.Sorted(maps.Keys(s.Channels)) {
			c := s.Channels[name]
			if _, ok := p.Channels[name]; !ok {
				ps.add(path+".channels."+name, "the policy has no channel of that name: put it under channels first")
				continue
			}
			c.check(ps, path+".channels."+name, p.Quiet)
		}
	}
}

func (c *Condition) check(ps *Problems, path string) {
	switch {
	case len(c.Is) == 0 && c.Min == nil && c.Max == nil:
		ps.add(path, "asks for nothing; give is, min or max")
	case c.Min != nil && c.Max != nil && *c.Min >= *c.Max:
		ps.add(path, "min %v is not below max %v, so it never holds", *c.Min, *c.Max)
	}
}

func (e *Experiment) check(ps *Problems) {
	checkName(ps, "experiment.name", e.Name)
	if !(e.Holdout >= 0 && e.Holdout < 1) {
		ps.add("experiment.holdout", "%v is no share from 0 and below 1", e.Holdout)
	}
	if !(e.Exploration >= 0 && e.Exploration <= 1) {
		ps.add("experiment.exploration", "%v is no share from 0 to 1", e.Exploration)
	}
}

// check looks at the form of what was chosen. Whether there is such a country or such a comune is known to whoever resolves
// Calendars to days.
func (c *Calendars) check(ps *Problems) {
	for i, country := range c.National {
		if len(country) != 2 || strings.ToUpper(country) != country {
			ps.add(fmt.Sprintf("calendars.national[%d]", i), "%q is no country, two capitals (ISO 3166-1), e.g. IT", country)
		}
	}
	for _, comune := range slices.Sorted(maps.Keys(c.Patrons)) {
		if _, _, ok := parseMonthDay(c.Patrons[comune]); !ok {
			ps.add("calendars.patrons."+comune, "%q is no day of the year, MM-DD, e.g. 12-07", c.Patrons[comune])
		}
	}
	for i := range c.Closures {
		c.Closures[i].check(ps, fmt.Sprintf("calendars.closures[%d]", i))
	}
	for i := range c.Open {
		c.Open[i].check(ps, fmt.Sprintf("calendars.open[%d]", i))
	}
}

// recurrences are the longest spans that may recur, in days, by how often they do.
var recurrences = map[string]int{"": 0, "week": 7, "month": 28, "year": 365}

func (c *Closure) check(ps *Problems, path string) {
	checkName(ps, path+".name", c.Name)
	from, ok := checkDate(ps, path+".from", c.From)
	longest, known := recurrences[c.Every]
	if !known {
		ps.add(path+".every", "%q is none of week, month and year; leave it out for a closure that does not recur", c.Every)
	}
	if c.To != "" {
		to, there := checkDate(ps, path+".to", c.To)
		switch days := int(to.Sub(from)/day) + 1; {
		case !ok || !there:
		case days < 1:
			ps.add(path+".to", "%s is before %s", c.To, c.From)
		case c.Every != "" && known && days > longest:
			ps.add(path+".to", "%d days are more than recur every %s, at most %d", days, c.Every, longest)
		}
	}
	if c.Until != "" {
		until, there := checkDate(ps, path+".until", c.Until)
		switch {
		case c.Every == "":
			ps.add(path+".until", "is for closures that recur: give every, or leave it out; the last day of a span is to")
		case ok && there && until.Before(from):
			ps.add(path+".until", "%s is before %s", c.Until, c.From)
		}
	}
}

func checkDate(ps *Problems, path, text string) (time.Time, bool) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		ps.add(path, "%q is no date, YYYY-MM-DD", text)
	}
	return t, err == nil
}

// meet reports whether a minute of the week lies in one of the openings of each list, and not in quiet. Where minutes are common to
// all, the first of a row is the first of an opening, or the one after quiet.
func meet(quiet calendar.Window, lists ...[]calendar.Opening) bool {
	firsts := []int{quiet.To % (24 * 60)}
	for _, list := range lists {
		for _, o := range list {
			firsts = append(firsts, o.Window.From)
		}
	}
	for day := time.Sunday; day <= time.Saturday; day++ {
		for _, minute := range firsts {
			in := func(o calendar.Opening) bool { return o.Contains(day, minute) }
			if !quiet.Contains(minute) && !slices.ContainsFunc(lists, func(list []calendar.Opening) bool { return !slices.ContainsFunc(list, in) }) {
				return true
			}
		}
	}
	return false
}
