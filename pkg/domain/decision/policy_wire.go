package decision

import (
	"encoding/json"
	"fmt"
)

// Append encodes p as the data of send.policies.v1.
func (p *Policy) Append(dst []byte) []byte { return appendJSON(dst, p) }

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
	if more, ok := p.Validate().(Problems); ok {
		ps = append(ps, more...)
	}
	if err := ps.orNil(); err != nil {
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
	return p, p.Parse(e.Data)
}
