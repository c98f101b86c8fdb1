// Package deviation says which surprises are worth a sentence: it judges what was measured (timing.Scored) by evidence,
// threshold and cool-down, and says which of them may move a send.
//
// It is not a measurement, which package timing makes, and not a decision about sending, which package decision makes.
package deviation

import "github.com/tempismo/tempismo/pkg/domain/timing"

// Type is the CloudEvents type of timing.deviations.v1.
const Type = "io.tempismo.deviation.v1"

// Deviation is the data of timing.deviations.v1.
type Deviation struct {
	Kind        string          `json:"kind"`                 // burst, timing, drift, silence or reactivation
	Z           float64         `json:"z"`                    // normal-equivalent surprise of the calibrated p, signed, never above 6 in size
	P           float64         `json:"p"`                    // as measured
	Calibrated  float64         `json:"calibrated,omitempty"` // what it means where nothing happens, if that is something else
	OneIn       int64           `json:"one_in"`               // round(1/p) of the calibrated p
	Observed    float64         `json:"observed"`             // these three as in timing.Test
	Expected    float64         `json:"expected"`
	Days        int             `json:"days,omitempty"`
	Channel     string          `json:"channel"`
	Zone        string          `json:"zone"`
	LocalDay    string          `json:"local_day"` // 2006-01-02
	Evidence    timing.Evidence `json:"evidence"`
	Actionable  bool            `json:"actionable"`
	Gate        Gate            `json:"gate"`
	Score       timing.Score    `json:"score"`
	Cause       Cause           `json:"cause"`
	Segment     string          `json:"segment,omitempty"`
	Model       string          `json:"model"`       // version of the model that measured
	Calibration string          `json:"calibration"` // of the one that judged
	Summary     string          `json:"summary"`
}

// Gate is the comparison that lets a deviation act.
type Gate struct {
	PAct  float64 `json:"p_act"`
	PStar float64 `json:"p_star"`
}

// Cause is the engagement event behind a deviation.
type Cause struct {
	ID       string `json:"id"`
	Position string `json:"position"` // topic:partition:offset
}
