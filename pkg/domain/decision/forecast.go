package decision

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// Forecast is what a profile says of the week ahead in one channel: all that a decision takes from it.
type Forecast struct {
	Scores     [timing.Week]uint8 // suitability 0 to 100 by hour of the local week, 0 = Monday 00; on the wire as base64 of 168 bytes
	Confidence int
	Level      string // of knowledge: timing.LevelOwn and the others
}

// Lookup is the result of looking up a customer's profile, as it is recorded in the first decision of each step that used
// it: a replay, a simulation or an explanation decides with what was seen, not with what can be seen now.
type Lookup struct {
	Profile  string              `json:"profile,omitempty"` // position of the last event in it, "topic:partition:offset"; absent: no profile
	Model    string              `json:"model"`
	Zone     string              `json:"zone,omitempty"`    // that the profile has learned
	Partial  bool                `json:"partial,omitempty"` // the profile is not whole: its scores count for nothing, and nothing is triggered
	Channels map[string]Forecast `json:"channels"`
}

// NewLookup is what model makes of a profile at the instant now, in the given channels. Profile and Partial are left for the
// caller, who knows where the profile was read. A nil profile is that of a customer of whom nothing is known.
func NewLookup(profile *timing.Profile, model *timing.Model, channels []string, now time.Time) *Lookup {
	if profile == nil {
		profile = &timing.Profile{}
	}
	loc, err := calendar.Zone(profile.Zone)
	if err != nil {
		loc = time.UTC // the hour only says how old the profile is
	}
	hour, _ := calendar.LocalHour(now, loc)
	l := &Lookup{Model: model.Version, Zone: profile.Zone, Channels: make(map[string]Forecast, len(channels))}
	for _, c := range channels {
		l.Channels[c] = forecast(profile, model, c, hour)
	}
	return l
}

func forecast(p *timing.Profile, m *timing.Model, channel string, hour timing.Hour) Forecast {
	v := p.View(m, channel, hour)
	return Forecast{Scores: v.Scores, Confidence: v.Confidence, Level: v.Level}
}

// businessHours is what is planned with where there is no profile, or none that may be believed.
var businessHours = sync.OnceValue(func() *Forecast {
	f := forecast(&timing.Profile{}, timing.Builtin(), "", 0)
	return &f
})

// wireForecast is the JSON form of a Forecast.
type wireForecast struct {
	Scores     []byte `json:"scores"`
	Confidence int    `json:"confidence"`
	Level      string `json:"level"`
}

// MarshalJSON writes the scores as base64.
func (f Forecast) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireForecast{f.Scores[:], f.Confidence, f.Level})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (f *Forecast) UnmarshalJSON(b []byte) error {
	var w wireForecast
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	if len(w.Scores) != len(f.Scores) {
		return fmt.Errorf("scores: %d hours, want the %d of a week", len(w.Scores), len(f.Scores))
	}
	for i, score := range w.Scores {
		if score > 100 {
			return fmt.Errorf("scores: %d at hour %d of the week is above 100", score, i)
		}
	}
	*f = Forecast{Scores: [timing.Week]uint8(w.Scores), Confidence: w.Confidence, Level: w.Level}
	return nil
}
