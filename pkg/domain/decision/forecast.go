package decision

import "github.com/tempismo/tempismo/pkg/domain/timing"

// Forecast is what a profile says of the week ahead in one channel: all that a decision takes from it.
type Forecast struct {
	Scores     [timing.Week]uint8 `json:"-"` // suitability 0 to 100 by hour of the local week, 0 = Monday 00; on the wire as base64 of 168 bytes
	Confidence int                `json:"confidence"`
	Level      string             `json:"level"` // of knowledge: timing.LevelOwn and the others
}

// Lookup is the result of looking up a customer's profile, as it is recorded in the first decision of each step that used
// it: a replay, a simulation or an explanation decides with what was seen, not with what can be seen now.
type Lookup struct {
	Profile  string              `json:"profile,omitempty"` // position of the last event in it, "topic:partition:offset"; absent: no profile
	Model    string              `json:"model"`
	Zone     string              `json:"zone,omitempty"` // that the profile has learned
	Channels map[string]Forecast `json:"channels"`
}
