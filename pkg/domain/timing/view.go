package timing

// View is what a model makes of a profile at one moment: the week of one customer in one channel.
type View struct {
	Phi        [Week]float64 // attention by hour of the week, mean 1
	Scores     [Week]uint8   // how good a send at that hour is, 0..100; filled by Profile.View, not by derive
	Evidence   Evidence
	Rate       float64  // engaged hours per delivery
	Confidence int      // 0..100
	Level      string   // LevelOwn, LevelPersona or LevelPopulation
	Reasons    []Reason // strongest first, at most three; filled by Profile.View
}

// Reason is an hour of the day at which the customer engages more often than the mail received explains.
type Reason struct {
	Hour  int     `json:"hour"`  // 0..23
	Ratio float64 `json:"ratio"` // engaged hours over those that sends and everybody's habits explain
}
