package calendar

// Place is where a customer lives, as far as it is known; closed days hold in places. All fields may be empty.
type Place struct {
	Country  string `json:"country,omitempty"`  // ISO 3166-1 alpha-2, e.g. IT
	Region   string `json:"region,omitempty"`   // e.g. Lombardia
	Province string `json:"province,omitempty"` // its abbreviation, e.g. MI
	Comune   string `json:"comune,omitempty"`   // municipality, e.g. Milano
}
