package rows

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// all reads everything: the events as they would stand on the topic, and the errors of lines.
func all(t *testing.T, text, name string, m Mapping) (events, bad []string) {
	t.Helper()
	r, err := Open(strings.NewReader(text), name, m)
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, _, err := r.Read()
		if errors.Is(err, io.EOF) {
			return events, bad
		}
		var line *LineError
		switch {
		case errors.As(err, &line):
			bad = append(bad, line.Error())
		case err != nil:
			t.Fatal(err)
		default:
			events = append(events, strings.Join([]string{e.Subject, e.Time.Format(time.RFC3339Nano), e.Kind.String(), e.Channel, e.Zone, e.Message, e.Campaign}, " "))
		}
	}
}

func TestRead(t *testing.T) {
	plain := Mapping{Customer: "user_id", Time: "opened", Kind: "open", Zone: "Europe/Brussels", Channel: "email"}
	full := Mapping{Customer: "who", Time: "at", Kind: "what", Zone: "tz", Channel: "via", Message: "msg", Campaign: "cmp"}
	for _, c := range []struct {
		sentence, file, text string
		mapping              Mapping
		events, bad          string
	}{
		{"a literal kind and zone serve every line", "a.csv", "user_id,opened\n7,2013-10-28 21:14:02.000000 UTC\n", plain,
			"7 2013-10-28T21:14:02Z open email Europe/Brussels  ", ""},
		{"every field can be a column, in any order", "a.csv", "via,what,at,who,tz,cmp,msg\nSMS,Clicked,1700000000,ann,Europe/Rome,spring,m1\n", full,
			"ann 2023-11-14T22:13:20Z click sms Europe/Rome m1 spring", ""},
		{"a bad line is named, and the next one is read", "a.csv", "user_id,opened\n7,yesterday\n,2013-10-28T21:14:02Z\n8,2013-10-28T21:14:02+01:00\n", plain,
			"8 2013-10-28T20:14:02Z open email Europe/Brussels  ", `line 2: opened: "yesterday" is no time|line 3: user_id: is empty`},
		{"a line with too many fields is a bad line", "a.csv", "user_id,opened\n7,1700000000,x\n8,1700000000\n", plain,
			"8 2023-11-14T22:13:20Z open email Europe/Brussels  ", "line 2: wrong number of fields"},
		{"a quoted field may hold a line break, and lines are still counted right", "a.csv", "user_id,opened,note\n7,1700000000,\"a\nb\"\n8,never,x\n", plain,
			"7 2023-11-14T22:13:20Z open email Europe/Brussels  ", `line 4: opened: "never" is no time`},
		{"a byte order mark is not part of the first column's name", "a.csv", "\xef\xbb\xbfuser_id,opened\n7,1700000000\n", plain,
			"7 2023-11-14T22:13:20Z open email Europe/Brussels  ", ""},
		{"objects are read by their members", "a.ndjson", "{\"user_id\":7,\"opened\":1700000000123}\n\n{\"user_id\":\"8\",\"opened\":\"2023-11-14T22:13:20Z\"}\n{\"user_id\":9\n", plain,
			"7 2023-11-14T22:13:20.123Z open email Europe/Brussels  |8 2023-11-14T22:13:20Z open email Europe/Brussels  ", "line 4: no JSON object"},
		{"a kind that nobody knows is a bad line", "a.csv", "via,what,at,who,tz,cmp,msg\nemail,yawned,1700000000,ann,Europe/Rome,,\n", full, "", `line 2: what: "yawned" is no kind of event`},
		{"a zone that nobody knows is a bad line", "a.csv", "via,what,at,who,tz,cmp,msg\nemail,open,1700000000,ann,Mars/Base,,\n", full, "", `line 2: tz: zone "Mars/Base"`},
		{"without a mapping, lines are events", "-", `{"specversion":"1.0","id":"e1","source":"/shop","type":"io.tempismo.engagement.v1","subject":"C-1","time":"2026-12-03T09:41:52Z","datacontenttype":"application/json","data":{"kind":"open","channel":"email"}}` + "\n{}\n", Mapping{},
			"C-1 2026-12-03T09:41:52Z open email   ", "line 2: engagement event"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			events, bad := all(t, c.text, c.file, c.mapping)
			if got := strings.Join(events, "|"); got != c.events {
				t.Errorf("events %q, want %q", got, c.events)
			}
			var want []string
			if c.bad != "" {
				want = strings.Split(c.bad, "|")
			}
			if len(bad) != len(want) {
				t.Fatalf("bad lines %q, want %q", bad, want)
			}
			for i := range want {
				if !strings.HasPrefix(bad[i], want[i]) {
					t.Errorf("bad line %q, want %q...", bad[i], want[i])
				}
			}
		})
	}
}

func TestOpenNamesEverythingThatIsWrongWithTheMapping(t *testing.T) {
	_, err := Open(strings.NewReader("a,b\n1,2\n"), "x.csv", Mapping{Customer: "id", Kind: "openn", Zone: "Nowhere", Channel: "email", Message: "m"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`--customer: no column "id"`, "--time: name the column", `--kind: "openn" is neither`, `--zone: "Nowhere" is neither`, `--message: no column "m"`, "columns are a, b"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
}

func TestGzipBySuffix(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, "c,t\nann,1700000000\n")
	z.Close()
	events, _ := all(t, b.String(), "x.csv.gz", Mapping{Customer: "c", Time: "t", Kind: "open", Channel: "email"})
	if len(events) != 1 {
		t.Errorf("events %q", events)
	}
}

func TestIDsAreMadeOfWhatHappened(t *testing.T) {
	a := &engagement.Event{Subject: "ann", Time: time.Unix(1700000000, 0), Kind: engagement.Open, Channel: "email"}
	b := *a
	if contentID(a) != contentID(&b) {
		t.Error("same facts, other id")
	}
	b.Kind = engagement.Click
	if contentID(a) == contentID(&b) {
		t.Error("other facts, same id")
	}
}

func TestTimes(t *testing.T) {
	want := time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC)
	for _, s := range []string{"1700000000", "1700000000000", "1700000000.0", "2023-11-14T22:13:20Z", "2023-11-14T23:13:20+01:00", "2023-11-14 22:13:20", "2023-11-14 22:13:20.000000 UTC", "2023-11-14 23:13:20+01:00"} {
		if got, err := Time(s); err != nil || !got.Equal(want) {
			t.Errorf("%q is %s, %v; want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"", "12", "NaN", "1e300", "2023-02-30 00:00:00", "14/11/2023"} {
		if got, err := Time(s); err == nil {
			t.Errorf("%q is %s, want an error", s, got)
		}
	}
}

func TestOffsetsAreZonesThatHaveThemThen(t *testing.T) {
	summer, winter := time.Date(2015, 7, 1, 12, 0, 0, 0, time.UTC), time.Date(2015, 1, 5, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		text string
		at   time.Time
		want string // empty: no zone
	}{
		{"Europe/Rome", summer, "Europe/Rome"},
		{"+0200", summer, "Etc/GMT-2"},
		{"-07:00", summer, "Etc/GMT+7"},
		{"UTC+2", winter, "Etc/GMT-2"},
		{"+0530", winter, "Asia/Kolkata"},
		{"-0230", summer, "America/St_Johns"},
		{"-0330", winter, "America/St_Johns"},
		{"2015-07-01T12:00:00+02:00", summer, "Etc/GMT-2"},
		{"1435752000 -0500", summer, "Etc/GMT+5"},
		{"2015-07-01T12:00:00Z", summer, "UTC"},
		{"+0000", summer, "UTC"},
		{"2015-07-01", summer, ""},
		{"2015-07-01 12:00:00", summer, ""},
		{"+5100", summer, ""},
		{"+0017", summer, ""},
		{"+", summer, ""},
		{"Mars/Base-2", summer, ""},
	} {
		got, err := zoneAt(c.text, c.at)
		if err == nil && got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%q is %q, %v; want %q", c.text, got, err, c.want)
		}
		if err == nil {
			if _, err := time.LoadLocation(got); err != nil {
				t.Error(err)
			}
		}
	}
}
