package timing

// Profile is all that is kept of one customer: the profiler's key state.
type Profile struct {
	Zone     string // IANA name; empty: the operator's default
	Channels []Channel
}

// Channel is the profile of one customer in one channel.
type Channel struct {
	Name string
	State
}

// State is the time profile of one customer in one channel.
type State struct{}

// View is what m makes of the profile in channel at local hour now.
func (p *Profile) View(m *Model, channel string, now Hour) View { return View{} }

// Append encodes p.
func (p *Profile) Append(dst []byte) []byte { return dst }

// Decode is the inverse of Append.
func (p *Profile) Decode(b []byte) error { return nil }
