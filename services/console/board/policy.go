package board

import (
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
)

// inForce is the policy in force; its time is the operator's clock.
type inForce struct {
	policy *decision.Policy
	at     time.Time
}

// enforce notes a policy. It stands in every partition, and each of them is read: the newest one is in force, as it is for the
// decider, whatever order they are told in.
func (b *Board) enforce(p *decision.Policy, at time.Time) {
	if b.inForce.policy == nil || !at.Before(b.inForce.at) {
		b.inForce = inForce{p, at}
	}
}

// Policy is the policy in force, or the default one where none was put into force yet, and which of the two it is. It is
// read-only.
func (b *Board) Policy() (p *decision.Policy, applied bool) {
	if b.inForce.policy == nil {
		p := decision.Default()
		return &p, false
	}
	return b.inForce.policy, true
}
