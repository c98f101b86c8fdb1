package timing

import "time"

// BuiltinVersion names the model that is in force before anything was fitted, and where it is pinned.
const BuiltinVersion = "builtin.1"

// Model is what is known about everybody, versioned: the data of timing.models.v1.
type Model struct {
	Version    string             `json:"version"`
	FittedOn   *FittedOn          `json:"fitted_on,omitempty"`
	Kernel     [Response]float64  `json:"kernel"`     // share of a message's engagement by hours since delivery, sum 1
	Population [Day]float64       `json:"population"` // attention by hour of the day, mean 1
	Weekdays   [7]float64         `json:"weekdays"`   // attention by day of the week, Monday first, mean 1
	Deliveries Deliveries         `json:"deliveries"`
	Habits     []Habit            `json:"habits"`   // at most MaxHabits, strongest first
	Personas   []Persona          `json:"personas"` // for telling stories; may be empty
	Priors     Priors             `json:"priors"`
	PStar      float64            `json:"p_star"` // largest p_act that may act
	Metrics    map[string]float64 `json:"metrics,omitempty"`

	prepared
}

// FittedOn says what a model was fitted on.
type FittedOn struct {
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Customers int       `json:"customers"`
}

// Deliveries is when and how often everybody is written to: the exposure of a customer whose source reports no sends.
type Deliveries struct {
	PerDay float64      `json:"per_day"`
	Hours  [Day]float64 `json:"hours"` // share by hour of the day, sum 1
	Days   [7]float64   `json:"days"`  // share by day of the week, Monday first, sum 1
}

// Habit is one direction in which the hours of customers differ.
type Habit struct {
	Correlation float64      `json:"correlation"` // between two engagements of one customer along it
	Hours       [Day]float64 `json:"hours"`
}

// Persona is a group of customers with like hours.
type Persona struct {
	Name      string       `json:"name"`
	Share     float64      `json:"share"`
	Attention [Day]float64 `json:"attention"` // by hour of the day, mean 1
}

// Priors are what is believed of a customer before the first event.
type Priors struct {
	EngagedHours float64 `json:"engaged_hours"` // a0 and b0: engaged hours per delivery are Gamma(a0, b0)
	Deliveries   float64 `json:"deliveries"`
	Read         float64 `json:"read"` // SA and SB: the share of mail days that are read is Beta(SA, SB)
	Ignored      float64 `json:"ignored"`
	Hours        float64 `json:"hours"`      // weight of the habits against the customer's own hours (Dirichlet)
	Weekdays     float64 `json:"weekdays"`   // aD: weight of everybody's weekdays
	Dispersion   float64 `json:"dispersion"` // 1/nu: day-to-day variance beyond Poisson, relative to the squared mean
	Organic      float64 `json:"organic"`    // deliveries per day that nobody reports
}

type prepared struct{}

// Builtin is the model of before any fit.
func Builtin() *Model { return &Model{Version: BuiltinVersion, PStar: 0.01} }
