package decider

import (
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
)

// Note takes a customer who has moved to the partition into its state: the counts of audiences are those of its customers.
func Note(p *Partition, s *decision.State, now time.Time) { p.audiences.Admit(s, now) }
