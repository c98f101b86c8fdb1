package holidays

import (
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
)

//go:generate go test -run TestTheEmbeddedItalyIsThatOfTheLibrary -update .

var update = flag.Bool("update", false, "write pkg/domain/calendar/italy.json")

// The domain imports no library, so its calendar of Italy is a file that is written here.
func TestTheEmbeddedItalyIsThatOfTheLibrary(t *testing.T) {
	b, err := between(decision.Calendars{National: []string{"IT"}}, 2026, 2010, 2045)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.MarshalIndent(b, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("../../../pkg/domain/calendar/italy.json", append(want, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := json.MarshalIndent(calendar.Italy, "", " "); err != nil || string(got) != string(want) {
		t.Errorf("the embedded calendar is not that of the library: go generate ./...\n%s\n%v", got, err)
	}
}
