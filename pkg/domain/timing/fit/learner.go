package fit

import "github.com/tempismo/tempismo/pkg/domain/timing"

// Config is how a Learner learns. The zero value is fit to use.
type Config struct {
	Seed uint64 // of the generator that starts the personas
}

// Learner learns customers and what they have in common, event by event.
type Learner struct {
	model *timing.Model
}

// NewLearner starts from nothing but what from assumes of things that a Learner does not learn (kernel, priors).
func NewLearner(from *timing.Model, c Config) *Learner { return &Learner{model: from} }

// Delivered notes that a message reached customer in hour h.
func (l *Learner) Delivered(customer int, h timing.Hour) {}

// Predict is what the model in force expects of the next engagement of customer, were it in the week of h.
func (l *Learner) Predict(customer int, h timing.Hour, p *timing.Prediction) {}

// Answer is where answers to the latest message of customer would fall by hour of the day, were every hour like every other
// (sum 1): the answer of timing.Prediction.Likelihoods; false where no message came in the timing.Response hours before h.
func (l *Learner) Answer(customer int, h timing.Hour) (answer [timing.Day]float64, ok bool) {
	return answer, false
}

// Engaged notes an engagement of customer: it predicts, learns for the model how good the prediction was, and then learns
// the customer.
func (l *Learner) Engaged(customer int, h timing.Hour, minute int) {}

// Close ends a local day of the population: the model is fitted to everything noted so far, and is in force from now on.
func (l *Learner) Close(day int64) {}

// Model is the model in force. Later days do not change it.
func (l *Learner) Model() *timing.Model { return l.model }
