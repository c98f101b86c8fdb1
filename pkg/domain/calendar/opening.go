package calendar

// Opening is a Window on some days of the week. Its text is "09:30-14:00" (every day) or "mon-fri 09:30-14:00" or
// "tue,thu 10:00-12:00".
type Opening struct {
	Days   uint8 // bit 0 is Monday; 0 is every day
	Window Window
}
