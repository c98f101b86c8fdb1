package rows

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

var update = flag.Bool("update", false, "write the golden files anew")

// shown are the events of a file and its bad lines, in their order, as people compare them.
func shown(t *testing.T, text, name string, m Mapping) string {
	t.Helper()
	m.Channel = "email"
	r, err := Open(strings.NewReader(text), name, m)
	if err != nil {
		return "refused: " + err.Error() + "\n"
	}
	var b strings.Builder
	for {
		e, line, err := r.Read()
		bad := new(LineError)
		switch {
		case errors.Is(err, io.EOF):
			fmt.Fprintf(&b, "ignored %d\n", r.Ignored)
			return b.String()
		case errors.As(err, &bad):
			fmt.Fprintf(&b, "rejected: %v\n", bad)
		case err != nil:
			return b.String() + "stopped: " + err.Error() + "\n"
		default:
			fmt.Fprintf(&b, "%d %s %s %s", line, e.Time.Format(time.RFC3339Nano), e.Subject, e.Kind)
			for _, f := range []struct{ name, value string }{{"message", e.Message}, {"campaign", e.Campaign}, {"link", e.Link}, {"agent", e.UserAgent}, {"zone", e.Zone}, {"by", e.ActorRule}} {
				if f.value != "" {
					fmt.Fprintf(&b, " %s=%s", f.name, f.value)
				}
			}
			fmt.Fprintln(&b)
		}
	}
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPresets reads one file of each kind, with bad rows among the good ones.
func TestPresets(t *testing.T) {
	for file, m := range map[string]Mapping{
		"hubspot.json":                {Preset: "hubspot"},
		"hubspot.csv":                 {Preset: "hubspot"},
		"salesforce_opens.csv":        {Preset: "salesforce"},
		"salesforce_clicks.csv":       {Preset: "salesforce"},
		"salesforce_emailmessage.csv": {Preset: "salesforce"},
		"mailchimp.ndjson":            {Preset: "mailchimp"},
		"mailchimp_api.json":          {Preset: "mailchimp"},
		"mailchimp_opens.json":        {Preset: "mailchimp"},
		"mailchimp_clicks.csv":        {Preset: "mailchimp", Clock: "Europe/Rome"},
		"mautic.csv":                  {Preset: "mautic", Clock: "Europe/Rome", Zone: "Europe/Rome"},
		"mautic_stats.json":           {Preset: "mautic"},
	} {
		t.Run(file, func(t *testing.T) {
			got, golden := shown(t, testdata(t, file), file, m), filepath.Join("testdata", file+".events")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if want := testdata(t, file+".events"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestPresetsSayWhatIsWrong(t *testing.T) {
	const opens = "JobID,SubscriberKey,EventDate\n71,C-1,7/14/2026 11:05:13 PM\n"
	for _, c := range []struct {
		sentence, file, text string
		mapping              Mapping
		want                 string // in what is shown
	}{
		{"a preset that nobody knows", "a.csv", "a\n1\n", Mapping{Preset: "hubspott"}, "there are hubspot, salesforce, mailchimp, mautic"},
		{"a column that is missing is named, and those that are there", "a.csv", "id,created,type,email\n1,2,OPEN,a@b.c\n", Mapping{Preset: "hubspot"}, "has recipient as well; found are id, created, type, email"},
		{"a column of another name is named by hand", "a.csv", "id,created,type,E-Mail\n1,1790000000000,OPEN,a@b.c\n", Mapping{Preset: "hubspot", Customer: "E-Mail"}, "2 2026-09-21T14:13:20Z a@b.c open"},
		{"a member that is missing from JSON is named", "a.json", `{"events":[{"type":"OPEN","created":1790000000000,"email":"a@b.c"}]}`, Mapping{Preset: "hubspot"}, "has recipient as well; found are created, email, type"},
		{"JSON of something else", "a.json", `[1, 2]`, Mapping{Preset: "hubspot"}, "refused: "},
		{"an empty page", "a.json", `{"events":[]}`, Mapping{Preset: "hubspot"}, "ignored 0"},
		{"an empty file", "a.json", ``, Mapping{Preset: "hubspot"}, "ignored 0"},
		{"JSON that ends in the middle", "a.json", "{\"events\":[\n{\"type\":\"OPEN\",", Mapping{Preset: "hubspot"}, "the JSON ends in the middle"},
		{"semicolons and tabs separate, too", "a.csv", "JobID;SubscriberKey;EventDate\n71;C-1;7/14/2026 11:05:13 PM\n", Mapping{Preset: "salesforce", Kind: "open"}, "2 2026-07-15T05:05:13Z C-1 open"},
		{"UTF-16 is to be converted", "a.csv", "\xff\xfea\x00", Mapping{Preset: "salesforce"}, "refused: a.csv is UTF-16"},
		{"a zip is to be unpacked", "a.csv", "PK\x03\x04", Mapping{Preset: "salesforce"}, "refused: a.csv is a zip"},
		{"a bracket too many", "a.json", "[\n{\"type\":\"OPEN\",\"created\":1790000000000,\"recipient\":\"a@b.c\"}]\n]\n", Mapping{Preset: "hubspot"}, "stopped: line"},
		{"times of no zone stop the import", "mailchimp.csv", "Timestamp,Email\n2026-07-14 09:30:00,a@b.c\n2026-07-14 09:31:00,a@b.c\n", Mapping{Preset: "mailchimp"}, "stopped: the times name no zone, and the export does not say which it is: give --times-in"},
		{"a zone that does not exist", "mailchimp.csv", "Timestamp,Email\n2026-07-14 09:30:00,a@b.c\n", Mapping{Preset: "mailchimp", Clock: "Mars/Base"}, "refused: --times-in: zone"},
		{"a data view does not say of what", "a.csv", opens, Mapping{Preset: "salesforce"}, "refused: --kind: a file of a data view"},
		{"and is told", "a.csv", opens, Mapping{Preset: "salesforce", Kind: "open"}, "2 2026-07-15T05:05:13Z C-1 open campaign=71"},
		{"an extract in a zone of its own", "a.csv", opens, Mapping{Preset: "salesforce", Kind: "open", Clock: "Europe/Rome"}, "2 2026-07-14T21:05:13Z C-1 open"},
		{"days before months, if told", "a.csv", strings.Replace(opens, "7/14/2026 11:05:13 PM", "04/07/2026 23:05", 1), Mapping{Preset: "salesforce", Kind: "open", Format: "02/01/2006 15:04"}, "2 2026-07-05T05:05:00Z C-1 open"},
		{"days before months, if not", "a.csv", strings.Replace(opens, "7/14/2026 11:05:13 PM", "04/07/2026 23:05", 1), Mapping{Preset: "salesforce", Kind: "open"}, `rejected: line 2: EventDate: "04/07/2026 23:05" is no time`},
		{"one kind for a row that tells of several", "mautic.csv", "Email address,Date sent,Date read\n", Mapping{Preset: "mautic", Kind: "open"}, "refused: --kind: in a file of"},
		{"one column of a row that tells of several", "mautic.csv", "Email address,Date sent,Date read\na@b.c,,2026-07-14T09:30:00Z\n", Mapping{Preset: "mautic", Time: "Date read", Kind: "open"}, "2 2026-07-14T09:30:00Z a@b.c open"},
		{"an array of events, one by one", "a.json", "[\n{\"type\":\"OPEN\",\"created\":1790000000000,\"recipient\":\"a@b.c\"},\n\n{\"type\":\"OPEN\",\"created\":1790003600000,\"recipient\":\"a@b.c\"},\n7\n]\n", Mapping{Preset: "hubspot"}, "4 2026-09-21T15:13:20Z a@b.c open"},
		{"and what is none among them is a bad line", "a.json", "[{\"type\":\"OPEN\",\"created\":1790000000000,\"recipient\":\"a@b.c\"},\n7\n]\n", Mapping{Preset: "hubspot"}, "rejected: line 2: no JSON of"},
		{"pages one after the other, as they were fetched", "a.json", "{\"events\":[\n]}\n{\"events\":[{\"type\":\"OPEN\",\"created\":1790000000000,\"recipient\":\"a@b.c\"}],\n\"hasMore\":true}\n", Mapping{Preset: "hubspot"}, "3 2026-09-21T14:13:20Z a@b.c open"},
		{"an event that is not the first decides, if the first lacks something", "a.ndjson", "{\"type\":\"UNBOUNCE\",\"created\":1790000000000}\n{\"type\":\"OPEN\",\"created\":1790000000000,\"recipient\":\"a@b.c\"}\n", Mapping{Preset: "hubspot"}, "2 2026-09-21T14:13:20Z a@b.c open"},
		{"the plain mapping has a zone of times as well", "a.csv", "who,at\nann,2026-07-14 09:30:00\n", Mapping{Customer: "who", Time: "at", Kind: "open", Clock: "Europe/Rome"}, "2 2026-07-14T07:30:00Z ann open"},
		{"and a format", "a.csv", "who,at\nann,14.07.2026 09:30\n", Mapping{Customer: "who", Time: "at", Kind: "open", Format: "02.01.2006 15:04"}, "2 2026-07-14T09:30:00Z ann open"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			if got := shown(t, c.text, c.file, c.mapping); !strings.Contains(got, c.want) {
				t.Errorf("got\n%s\nwhich lacks\n%s", got, c.want)
			}
		})
	}
}

// TestIDsOfPresets says of what an id is made: of what happened, in whichever file it is told.
func TestIDsOfPresets(t *testing.T) {
	ids := func(text, name string, m Mapping) (all []string) {
		m.Channel = "email"
		r, err := Open(strings.NewReader(text), name, m)
		if err != nil {
			t.Fatal(err)
		}
		for {
			e, _, err := r.Read()
			if errors.Is(err, io.EOF) {
				return all
			}
			if err == nil {
				all = append(all, e.ID)
			}
		}
	}
	all := map[string]bool{}
	events := 0
	for _, file := range []string{"hubspot.json", "salesforce_opens.csv", "salesforce_clicks.csv", "salesforce_emailmessage.csv", "mailchimp_api.json", "mautic_stats.json"} {
		preset, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimSuffix(file, ".csv"), ".json"), "_")
		for _, id := range ids(testdata(t, file), file, Mapping{Preset: preset}) {
			all[id] = true
			events++
		}
	}
	if len(all) != events {
		t.Errorf("%d ids of %d events", len(all), events)
	}
	if activity, opens := ids(testdata(t, "mailchimp_api.json"), "a.json", Mapping{Preset: "mailchimp"}), ids(testdata(t, "mailchimp_opens.json"), "a.json", Mapping{Preset: "mailchimp"}); activity[0] != opens[1] {
		t.Errorf("an open has the id %s in the activity, and %s among the opens", activity[0], opens[1])
	}
	const row = `{"type":"OPEN","id":"o-3","created":1790003600000,"recipient":"ann@example.com","emailCampaignId":71,"hmid":"mid-1"}`
	one := ids(row+"\n", "a.ndjson", Mapping{Preset: "hubspot"})
	for name, text := range map[string]string{
		"page.json": `{"events":[` + row + `]}`, "list.json": "[\n" + row + "]",
		"a.csv": "recipient,type,id,created,hmid,email_campaign_id,more\nANN@example.com,OPEN,o-3,1790003600000,mid-1,71,x\n",
	} {
		if other := ids(text, name, Mapping{Preset: "hubspot"}); len(one) != 1 || len(other) != 1 || one[0] != other[0] {
			t.Errorf("%s: %v, want %v", name, other, one)
		}
	}
}

func TestPresetsAreWhole(t *testing.T) {
	for _, p := range Presets {
		for _, l := range p.Layouts {
			if l.What == "" || !strings.HasPrefix(l.Docs, "https://") || len(l.Customer) == 0 || len(l.Happens) == 0 || (len(l.Kind) > 0) != (l.Kinds != nil) || len(l.Expects()) < 3 {
				t.Errorf("%s: %+v", p.Name, l)
			}
			if _, err := clock(l.Clock); err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
			for name := range l.Kinds {
				if name != strings.ToLower(name) {
					t.Errorf("%s: kind %q is never found", p.Name, name)
				}
			}
		}
	}
}

// FuzzPresets holds reading to: no panic, an end, and events that are valid.
func FuzzPresets(f *testing.F) {
	files, err := filepath.Glob("testdata/*[^s]")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil || info.IsDir() {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for i := range Presets {
			f.Add(uint8(i), b)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, text []byte) {
		m := Mapping{Preset: Presets[int(which)%len(Presets)].Name, Channel: "email", Clock: "Europe/Rome"}
		r, err := Open(bytes.NewReader(text), "-", m)
		if err != nil {
			return
		}
		for range 4*len(text) + 4 {
			e, line, err := r.Read()
			bad := new(LineError)
			switch {
			case err == nil && (e.Validate() != nil || e.Actor > engagement.Machine):
				t.Fatalf("line %d: %+v", line, e)
			case err != nil && !errors.As(err, &bad):
				return
			}
		}
		t.Fatal("it does not end")
	})
}
