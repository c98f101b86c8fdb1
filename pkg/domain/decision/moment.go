package decision

import "time"

// Moment is everything that is decided with, beside what is known of the customer: the arguments of a Step.
type Moment struct {
	Policy    *Policy
	Now       time.Time          // the partition's clock
	Customer  string             // for hold-outs, exploration and jitter, which are drawn by hash
	Lookup    *Lookup            // the profile; nil where the record did not ask for it
	Audiences *Audiences         // of the partition
	Positions map[string]string  // where this is decided, for MadeFrom: "partition:offset" by input topic
	ID        func(n int) string // the id that the n-th decision of this step will have
	Partial   bool               // nothing may be triggered: what is remembered of the customer may be incomplete
}

// Place takes a record of send.requests.v1: it places, replaces or cancels a request, and plans anew whatever of the
// customer's waits. The reason is for counting, where nothing is to be told.
func (m *Moment) Place(s *State, r *Request) ([]Decision, Reason) { panic("contract") }

// Deviate takes a deviation: it releases a request that waits for one, or sends without a request, or says why not.
func (m *Moment) Deviate(s *State, t *Trigger) ([]Decision, Reason) { panic("contract") }

// Tick takes the timer of a request: the request is released, or planned anew, or ends.
func (m *Moment) Tick(s *State, request string) []Decision { panic("contract") }

// Know takes what is known of the customer from now on; nil: nothing any more.
func (m *Moment) Know(s *State, data []byte) ([]Decision, error) { panic("contract") }

// Settle takes what a connector made of a decision: a send that did not happen gives its place under the caps back.
func (m *Moment) Settle(s *State, o *Outcome) { panic("contract") }

// Slot is one hour, or the allowed part of it, in which a message could go out.
type Slot struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Score  int       `json:"score"`
	Prime  bool      `json:"prime"`
	Failed []Rule    `json:"excluded_by,omitempty"` // rules that exclude it
}

// Slots lists the hours between from and to in a channel, best first, those that a rule excludes last and in order of time.
func (m *Moment) Slots(s *State, channel string, from, to time.Time) []Slot { panic("contract") }

// Pending calls each for every request that waits, with the time at which it is to be looked at again.
func (s *State) Pending(each func(request string, due time.Time)) { panic("contract") }
