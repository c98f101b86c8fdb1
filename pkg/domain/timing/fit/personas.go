package fit

import "github.com/tempismo/tempismo/pkg/domain/timing"

type personas struct {
	seed uint64
}

func (p *personas) fit(l *Learner) {}

func (p *personas) list() []timing.Persona { return []timing.Persona{} }
