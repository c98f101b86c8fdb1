package engagement_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

const example = `{"specversion":"1.0","id":"sg-14c5d75ce93","source":"/ingest/sendgrid","type":"io.tempismo.engagement.v1","subject":"C-20417","time":"2026-12-03T09:41:52.104Z","datacontenttype":"application/json","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","data":{"kind":"open","channel":"email","message":"m-81f3","campaign":"weekly-edit","actor":"human","actor_rule":"","link":"","user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0","provider":"sendgrid"}}`

var parsed = engagement.Event{
	ID: "sg-14c5d75ce93", Source: "/ingest/sendgrid", Subject: "C-20417", Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	Time: time.Date(2026, 12, 3, 9, 41, 52, 104e6, time.UTC),
	Kind: engagement.Open, Channel: "email", Message: "m-81f3", Campaign: "weekly-edit", Provider: "sendgrid",
	UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
}

// edit replaces one part of the example, which must be there.
func edit(t testing.TB, from, to string) string {
	t.Helper()
	if !strings.Contains(example, from) {
		t.Fatalf("the example does not contain %q", from)
	}
	return strings.Replace(example, from, to, 1)
}

func TestParse(t *testing.T) {
	same := func(*engagement.Event) {}
	for _, tt := range []struct {
		name string
		in   string
		want func(*engagement.Event) // applied to the example's event
	}{
		{"the canonical order", example, same},
		{"white space anywhere", "\n" + strings.NewReplacer(":{", " : { ", ",", " ,\t", "}", "\r\n}").Replace(edit(t, "(X11; Linux x86_64; rv:140.0)", "")) + " ", func(e *engagement.Event) {
			e.UserAgent = "Mozilla/5.0  Gecko/20100101 Firefox/140.0"
		}},
		{"data before everything else", `{"data":` + example[strings.Index(example, `{"kind"`):len(example)-1] + "," + example[1:strings.Index(example, `,"data":`)] + "}", same},
		{"unknown fields of every type", edit(t, `"data":{`, `"sequence":"1","n":12,"x":null,"y":true,"z":false,"f":-1.5e3,"list":[1,{"a":[]}],"data":{"new":"","deep":{"kind":"click"},`), same},
		{"an escaped string", edit(t, `weekly-edit`, `week\u006cy-\u0065dit`), same},
		{"an escaped name", edit(t, `"campaign"`, `"camp\u0061ign"`), same},
		{"a name in capitals, as encoding/json allows", edit(t, `"subject"`, `"Subject"`), same},
		{"the last of two values counts", edit(t, `"subject":`, `"subject":"C-1","subject":`), same},
		{"two data objects are one", edit(t, `"data":{`, `"data":{"zone":"Europe/Rome"},"data":{`), func(e *engagement.Event) { e.Zone = "Europe/Rome" }},
		{"letters beyond ASCII", edit(t, "weekly-edit", "novità"), func(e *engagement.Event) { e.Campaign = "novità" }},
		{"null is as if not given", edit(t, `"campaign":"weekly-edit"`, `"campaign":null`), func(e *engagement.Event) { e.Campaign = "" }},
		{"no actor is a human", edit(t, `"actor":"human",`, ""), same},
		{"a machine with its rule", edit(t, `"actor":"human","actor_rule":""`, `"actor":"machine","actor_rule":"provider"`), func(e *engagement.Event) {
			e.Actor, e.ActorRule = engagement.Machine, engagement.RuleProvider
		}},
		{"no traceparent", edit(t, `"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",`, ""), func(e *engagement.Event) { e.Trace = "" }},
		{"a time with an offset", edit(t, "09:41:52.104Z", "10:41:52.104+01:00"), same},
		{"Confluent's framing", "\x00\x00\x00\x01\x02" + example, same},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := parsed
			tt.want(&want)
			var got engagement.Event
			if err := got.Parse([]byte(tt.in)); err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestParseNamesTheWrongField(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tt := range []struct {
		name, in, field, reason string
	}{
		{"not JSON", `{"id":`, "", "not a JSON document"},
		{"an array", `[]`, "", "must be of another type than array"},
		{"empty", ``, "", "not a JSON document"},
		{"something behind the document", example + "{}", "", "not a JSON document"},
		{"a raw control character", edit(t, "weekly-edit", "weekly\nedit"), "", "not a JSON document"},
		{"invalid UTF-8", edit(t, "weekly-edit", "weekly\xffedit"), "", "not valid UTF-8"},
		{"a megabyte", edit(t, "weekly-edit", strings.Repeat("x", 1<<20)), "", "more than the 65536 allowed"},
		{"a number for a string", edit(t, `"C-20417"`, `20417`), "subject", "another type than number"},
		{"a string for the data", edit(t, `"data":{`, `"data":"x","y":{`), "data", "another type than string"},
		{"a list for a kind", edit(t, `"open"`, `["open"]`), "data.kind", "another type than array"},
		{"another version of CloudEvents", edit(t, `"1.0"`, `"0.3"`), "specversion", `must be "1.0", not "0.3"`},
		{"another type", edit(t, "engagement.v1", "engagement.v2"), "type", "must be"},
		{"no id", edit(t, `"id":"sg-14c5d75ce93",`, ""), "id", "required"},
		{"an empty subject", edit(t, `"C-20417"`, `""`), "subject", "required"},
		{"a zero byte in the subject", edit(t, `C-20417`, `C-\u0000`), "subject", "control characters"},
		{"a long source", edit(t, "/ingest/sendgrid", long), "source", "longer than 256 bytes"},
		{"no time", edit(t, `"time":"2026-12-03T09:41:52.104Z",`, ""), "time", "required"},
		{"a time without a zone", edit(t, "52.104Z", "52.104"), "time", "RFC 3339"},
		{"a thirtieth of February", edit(t, "2026-12-03", "2026-02-30"), "time", "RFC 3339"},
		{"seconds taken for milliseconds", edit(t, "2026-12-03", "1970-01-21"), "time", "2000 to 9999"},
		{"no data", example[:strings.Index(example, `,"data":`)] + "}", "data.kind", "required"},
		{"no kind", edit(t, `"kind":"open",`, ""), "data.kind", "required"},
		{"an unknown kind", edit(t, `"open"`, `"opened"`), "data.kind", `must be one of sent, delivered, open, click, reply, bounce, complaint, unsubscribe, not "opened"`},
		{"an unknown actor", edit(t, `"human"`, `"robot"`), "data.actor", "must be one of"},
		{"no channel", edit(t, `"channel":"email",`, ""), "data.channel", "required"},
		{"a channel that is no name", edit(t, `"email"`, `"E mail"`), "data.channel", "a-z"},
		{"a long message id", edit(t, "m-81f3", long), "data.message", "longer than 256 bytes"},
		{"a long zone", edit(t, `"provider":"sendgrid"`, `"zone":"`+long+`"`), "data.zone", "longer than 64 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var e engagement.Event
			err := e.Parse([]byte(tt.in))
			var wrong *engagement.FieldError
			if !errors.As(err, &wrong) {
				t.Fatalf("got error %v, want a *FieldError", err)
			}
			if wrong.Field != tt.field || !strings.Contains(wrong.Reason, tt.reason) {
				t.Errorf("got field %q, reason %q; want %q, ... %s ...", wrong.Field, wrong.Reason, tt.field, tt.reason)
			}
		})
	}
}

func TestAppendIsCanonical(t *testing.T) {
	if got := string(parsed.Append(nil)); got != example {
		t.Errorf("got  %s\nwant %s", got, example)
	}
}

// Whatever a valid event holds comes back from its bytes, and the bytes are JSON to everybody else.
func TestAppendParseRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 40, 200)
		id := rapid.StringOfN(rapid.RuneFrom([]rune(`aZ09-_"\/<&è日😀`)), 1, 40, 200)
		want := engagement.Event{
			ID: id.Draw(t, "id"), Source: id.Draw(t, "source"), Subject: id.Draw(t, "subject"),
			Time:    time.Unix(rapid.Int64Range(946684800, 253402300799).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanoseconds")).UTC(),
			Kind:    engagement.Kind(rapid.IntRange(int(engagement.Sent), int(engagement.Unsubscribe)).Draw(t, "kind")),
			Channel: rapid.StringMatching(`[a-z][a-z0-9_-]{0,10}`).Draw(t, "channel"),
			Message: id.Draw(t, "message"), Campaign: text.Draw(t, "campaign"), Link: text.Draw(t, "link"), UserAgent: text.Draw(t, "agent"),
			Actor: engagement.Actor(rapid.IntRange(0, int(engagement.Machine)).Draw(t, "actor")),
			Trace: rapid.SampledFrom([]string{"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}).Draw(t, "trace"),
			Zone:  rapid.SampledFrom([]string{"", "Europe/Rome"}).Draw(t, "zone"),
		}
		if err := want.Validate(); err != nil {
			t.Fatal(err)
		}
		b := want.Append(nil)
		if !json.Valid(b) {
			t.Fatalf("not JSON: %q", b)
		}
		var got engagement.Event
		if err := got.Parse(b); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestAppendReplacesInvalidUTF8(t *testing.T) {
	e := parsed
	e.Campaign = "a\xffb\xc3"
	b := e.Append(nil)
	if !bytes.Contains(b, []byte(`"campaign":"a�b�"`)) {
		t.Errorf("got %s", b)
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	b := []byte(example)
	var e engagement.Event
	if n := testing.AllocsPerRun(100, func() {
		if err := e.Parse(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Parse allocates %v times per event, want 0", n)
	}
	dst := make([]byte, 0, 2*len(b))
	if n := testing.AllocsPerRun(100, func() { dst = e.Append(dst[:0]) }); n != 0 {
		t.Errorf("Append allocates %v times per event, want 0", n)
	}
}

func BenchmarkParse(b *testing.B) {
	in := []byte(example)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	var e engagement.Event
	for b.Loop() {
		if err := e.Parse(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	var e engagement.Event
	if err := e.Parse([]byte(example)); err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = e.Append(dst[:0])
	}
}
