package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// policyExplain says what a policy means for one customer.
type policyExplain struct {
	Policy     string `arg:"" optional:"" help:"Policy file, or a version; without it, the policy in force."`
	Customer   string `placeholder:"CUSTOMER" help:"Id of a customer, as attributes name it."`
	Attributes string `placeholder:"JSON" help:"What is known of somebody, instead: the data of customer.attributes.v1."`
	Channel    string `placeholder:"CHANNEL" help:"Only this channel."`
	At         string `placeholder:"TIME" help:"Instant to look at, 2026-12-03T10:41:00+01:00. Default: now."`
	JSON       bool   `help:"Write a JSON object."`
	target
}

// Help is the example.
func (*policyExplain) Help() string {
	return `Says who the customer is to the policy and why, what may be sent when, and the closed days ahead. Caps and gaps are told, but what was
sent before is not looked at.

Examples:
  tempismo policy explain --customer C-20417
  tempismo policy explain docs/examples/policy.yaml --attributes '{"segment":"business","place":{"comune":"Milano"}}' --channel email`
}

// Validate names everything that is wrong.
func (c *policyExplain) Validate() error {
	errs := []error{c.target.Validate()}
	if c.Customer != "" && c.Attributes != "" {
		errs = append(errs, errors.New("--customer and --attributes: give one of them"))
	}
	if _, err := c.at(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *policyExplain) at() (time.Time, error) {
	if c.At == "" {
		return time.Now().UTC().Truncate(time.Minute), nil
	}
	at, err := time.Parse(time.RFC3339, c.At)
	if err != nil {
		return at, fmt.Errorf("--at: %q is no instant such as 2026-12-03T10:41:00+01:00", c.At)
	}
	return at.UTC(), nil
}

// explained is what a policy means for one customer.
type explained struct {
	Customer string             `json:"customer,omitempty"`
	Policy   string             `json:"policy"` // version, or the file
	At       time.Time          `json:"at"`
	Zone     string             `json:"zone"`
	Segment  string             `json:"segment"` // empty: none
	Lines    []said             `json:"lines"`
	Channels []explainedChannel `json:"channels"`
	Closed   []calendar.Holiday `json:"closed"` // days ahead
}

// explainedChannel is one channel of it.
type explainedChannel struct {
	Channel string          `json:"channel"`
	Rules   json.RawMessage `json:"rules"`
	Against []decision.Rule `json:"against"` // what forbids a message now; empty: nothing
	Next    *time.Time      `json:"next"`    // when the next one could go out; null: not within two weeks
}

// How far is looked ahead.
const (
	slotsAhead  = 14 * 24 * time.Hour
	closedAhead = 120 // days
	closedShown = 8
)

// Run explains.
func (c *policyExplain) Run(ctx context.Context, t terminal) error {
	at, err := c.at()
	if err != nil {
		return err
	}
	data := []byte(c.Attributes)
	var answers []customer.Answer
	var p *decision.Policy
	name := c.Policy
	if name != "" && isFile(name) {
		if p, err = openPolicy(name, at.Year()); err != nil {
			return t.refuse(name, err)
		}
	}
	if p == nil || c.Customer != "" {
		err = c.with(ctx, func(sys *system) error {
			if p == nil {
				s, err := readPolicies(ctx, sys.log, sys.run)
				if err != nil {
					return err
				}
				if p, err = s.find(c.Policy); err != nil {
					return err
				}
				name = p.Version
			}
			if c.Customer != "" {
				data, answers, err = toldOf(ctx, sys, c.Customer)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if c.Channel != "" && !hasChannel(p, c.Channel) {
		return fmt.Errorf("%w: --channel: the policy has no channel %q; it has %s", config.ErrUsage, c.Channel, strings.Join(slices.Sorted(maps.Keys(p.Channels)), ", "))
	}
	v, err := explain(p, data, answers, c.Customer, c.Channel, at)
	if err != nil {
		return fmt.Errorf("what is known of the customer: %w", err)
	}
	v.Policy = name
	if c.Customer != "" && len(data) == 0 && len(answers) == 0 {
		fmt.Fprintf(t.err, "%s and %s have nothing about %q: this is what holds for a customer of whom nothing is known\n", topics.Attributes, topics.Consents, c.Customer)
	}
	if c.JSON {
		return t.json(v)
	}
	return v.print(t)
}

func hasChannel(p *decision.Policy, channel string) bool {
	_, ok := p.Channels[channel]
	return ok
}

// toldOf reads what is known of a customer (nil: nothing), and what the customer has answered.
func toldOf(ctx context.Context, sys *system, id string) (data []byte, answers []customer.Answer, err error) {
	n, err := sys.partitions(ctx)
	if err != nil {
		return nil, nil, err
	}
	partition := stream.Partition([]byte(id), n)
	from := func(ctx context.Context, l *kafka.Log, topic string) (map[int32]int64, error) {
		at, err := kafka.Earliest(ctx, l, topic)
		return map[int32]int64{partition: at[partition]}, err
	}
	for topic, take := range map[string]func(data []byte){
		topics.Attributes: func(last []byte) { data = slices.Clone(last) },
		topics.Consents: func(one []byte) {
			var a customer.Answer
			if a.Parse(one) == nil { // otherwise nobody has taken it into account
				answers = append(answers, a)
			}
		},
	} {
		err := kafka.Range(ctx, sys.log, sys.run.Topic(topic), from, kafka.Latest, func(r *stream.Record) error {
			if string(r.Key) == id {
				e, _ := stream.ParseEvent(r.Value) // of a tombstone, and of what cannot be read, nothing
				take(e.Data)
			}
			return nil
		})
		if err != nil {
			return nil, nil, fmt.Errorf("read what is told of %q: %w", id, err)
		}
	}
	return data, answers, nil
}

// explain asks the policy, and the engine that decides by it.
func explain(p *decision.Policy, data []byte, answers []customer.Answer, id, channel string, at time.Time) (*explained, error) {
	a := &customer.Attributes{}
	if len(data) > 0 {
		if err := a.Parse(data); err != nil {
			return nil, err
		}
	}
	var s decision.State
	m := decision.Moment{Policy: p, Now: at, Customer: id, Audiences: new(decision.Audiences), ID: func(int) string { return "" }}
	if len(data) > 0 {
		if _, err := m.Know(&s, data); err != nil {
			return nil, err
		}
	}
	for i := range answers {
		m.Answer(&s, &answers[i])
		if answers[i].Channel == "" {
			a.Consents.Mailing = customer.Latest(a.Consents.Mailing, answers[i].Mailing)
		}
	}
	v := &explained{Customer: id, At: at, Zone: p.Zone, Closed: []calendar.Holiday{}}
	if _, err := calendar.Zone(a.Zone); err == nil {
		v.Zone = a.Zone
	}
	if s := p.Segment(a); s != nil {
		v.Segment = s.Name
	}
	for _, name := range slices.Sorted(maps.Keys(p.Channels)) {
		if channel == "" || name == channel {
			v.Channels = append(v.Channels, explainChannel(&m, &s, a, name))
		}
	}
	loc, err := calendar.Zone(v.Zone)
	if err != nil {
		return nil, err
	}
	for d, n := calendar.DayOf(at, loc), 0; n < closedAhead && len(v.Closed) < closedShown; d, n = d.Next(), n+1 {
		if h, closed := p.Closed.Closed(d, a.Place); closed {
			v.Closed = append(v.Closed, h)
		}
	}
	v.Lines = explainWords(p, a, v, loc)
	return v, nil
}

// explainChannel asks what the engine would find now, and when the next hour is that it would find nothing against.
func explainChannel(m *decision.Moment, s *decision.State, a *customer.Attributes, name string) explainedChannel {
	rules, _, _ := m.Policy.For(name, a)
	data, err := json.Marshal(rules)
	if err != nil {
		panic(err) // a part of a policy is always JSON
	}
	c := explainedChannel{Channel: name, Rules: data, Against: []decision.Rule{}}
	for _, slot := range m.Slots(s, name, m.Now, m.Now.Add(time.Minute)) {
		c.Against = append(c.Against, slot.Failed...)
	}
	for _, slot := range m.Slots(s, name, m.Now, m.Now.Add(slotsAhead)) {
		if len(slot.Failed) == 0 && (c.Next == nil || slot.From.Before(*c.Next)) {
			c.Next = &slot.From
		}
	}
	return c
}

// explainWords says what is known of the customer, and what the policy makes of it.
func explainWords(p *decision.Policy, a *customer.Attributes, v *explained, loc *time.Location) []said {
	zone := v.Zone + ", the customer's own"
	if v.Zone != a.Zone {
		zone = v.Zone + ", the policy's, unless the profile has learned another"
	}
	lines := []said{{"zone", zone}, {"place", placeWords(a.Place)}, {"mailing", mailingWords(p, a)}, {"reachable", "nothing is known, so by every channel"}}
	if a.Channels != nil {
		lines[3].Text = "by " + strings.Join(a.Channels, ", ")
	}
	for i := range p.Segments {
		lines = append(lines, said{"segment", fitWords(&p.Segments[i], a)})
		if p.Segments[i].Name == v.Segment {
			break
		}
	}
	for _, c := range v.Channels {
		rules, _, _ := p.For(c.Channel, a)
		lines = append(lines, said{c.Channel, channelWords(rules)}, said{"", c.words(v.At, loc)})
	}
	lines = append(lines, said{"over all", overAllWords(p)})
	for _, l := range p.Lead {
		lines = append(lines, said{"before " + l.Name, fmt.Sprintf("what can go earlier, or after, does not go on the %s before %s", counted(l.Days, "day"), l.Before)})
	}
	for i, h := range v.Closed {
		name := ""
		if i == 0 {
			name = "closed ahead"
		}
		where := ""
		if h.In != "" {
			where = ", " + h.In
		}
		lines = append(lines, said{name, fmt.Sprintf("%s  %s (%s%s)", dateWords(h.Day), h.Name, h.Kind, where)})
	}
	return lines
}

func placeWords(p calendar.Place) string {
	var parts []string
	for _, part := range []string{p.Comune, p.Province, p.Region, p.Country} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return "not known, so only days that are closed everywhere are"
	}
	return strings.Join(parts, ", ")
}

func mailingWords(p *decision.Policy, a *customer.Attributes) string {
	switch c := a.Consents.Mailing; {
	case c == nil && p.Consent == decision.Required:
		return "never asked, and the policy requires consent: nothing is sent"
	case c == nil:
		return "never asked, and the policy assumes consent"
	case c.Granted:
		return "consented on " + c.At.Format(time.DateOnly)
	default:
		return "refused on " + c.At.Format(time.DateOnly) + ": nothing is sent"
	}
}

// fitWords says whether a segment fits, condition by condition.
func fitWords(s *decision.Segment, a *customer.Attributes) string {
	verdict := "fits"
	if !s.Fits(a) {
		verdict = "does not fit"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(s.When)) {
		c := s.When[name]
		held, found := c.Holds(name, a)
		switch {
		case held:
			parts = append(parts, fmt.Sprintf("%s is %s", name, found))
		case found == "":
			parts = append(parts, fmt.Sprintf("%s is not known", name))
		default:
			parts = append(parts, fmt.Sprintf("%s is %s, and not what %s", name, found, conditionWords(&c)))
		}
	}
	return fmt.Sprintf("%s %s: %s", s.Name, verdict, strings.Join(parts, "; "))
}

// words says whether a message could go out now, and when the next one could.
func (c *explainedChannel) words(at time.Time, loc *time.Location) string {
	const form = "Mon 2 Jan 15:04"
	s := at.In(loc).Format(form)
	if len(c.Against) == 0 {
		return s + ": nothing is against it"
	}
	var rules []string
	for _, r := range c.Against {
		rules = append(rules, fmt.Sprintf("%s (%s)", r.Rule, r.Detail))
	}
	s += ": no, because of " + strings.Join(rules, ", ")
	if c.Next == nil {
		return s + "; nor within two weeks"
	}
	return s + "; next " + c.Next.In(loc).Format(form)
}

func (v *explained) print(t terminal) error {
	s := styleFor(t.out)
	who := v.Customer
	if who == "" {
		who = "a customer"
	}
	segment := ""
	if v.Segment != "" {
		segment = ", " + v.Segment
	}
	fmt.Fprintf(t.out, "%s  %s\n", s.strong.Render(who+segment), s.faint.Render("by policy "+v.Policy))
	return sideBySide(t.out, v.Lines)
}
