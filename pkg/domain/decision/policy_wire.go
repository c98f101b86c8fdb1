package decision

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Append encodes p as the data of send.policies.v1. A list that a file would take from Default if it were left out is written
// even where it is empty, so that what was written can be read as a file.
func (p *Policy) Append(dst []byte) []byte {
	q := *p
	q.Lead = present(q.Lead)
	q.Calendars.National = present(q.Calendars.National)
	q.Channels = withTriggers(q.Channels)
	q.Segments = slices.Clone(q.Segments)
	for i := range q.Segments {
		q.Segments[i].Channels = withTriggers(q.Segments[i].Channels)
	}
	return appendJSON(dst, &q)
}

func withTriggers(channels map[string]Channel) map[string]Channel {
	m := maps.Clone(channels)
	for name, c := range m {
		c.Triggers = present(c.Triggers)
		m[name] = c
	}
	return m
}

// present is a list that JSON writes as one.
func present[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// Parse reads the data of send.policies.v1: a policy that is in force, and so one that Validate has nothing against and that
// has a version and its closed days. Fields of later versions are ignored.
func (p *Policy) Parse(data []byte) error {
	*p = Policy{}
	if err := json.Unmarshal(data, p); err != nil {
		return fmt.Errorf("read policy: %w", err)
	}
	var ps Problems
	if p.Version == "" {
		ps.add("version", "is missing: it stands in every decision")
	}
	if p.Closed == nil {
		ps.add("closed", "is missing: the days that calendars come to")
	}
	if err := append(ps, p.problems()...).orNil(); err != nil {
		return fmt.Errorf("policy %q: %w", p.Version, err)
	}
	return nil
}

// ParsePolicyRecord reads the value of a record of send.policies.v1.
func ParsePolicyRecord(value []byte) (*Policy, error) {
	var e struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(value, &e); err != nil {
		return nil, fmt.Errorf("read policy record: %w", err)
	}
	if e.Type != PolicyType {
		return nil, fmt.Errorf("read policy record: type %q is not %s", e.Type, PolicyType)
	}
	p := new(Policy)
	if err := p.Parse(e.Data); err != nil {
		return nil, err
	}
	return p, nil
}
