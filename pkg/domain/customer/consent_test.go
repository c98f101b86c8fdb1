package customer

import (
	"strings"
	"testing"
	"time"
)

func TestAnswer(t *testing.T) {
	for _, row := range []struct{ name, data, says string }{
		{"one signal", `{"pixel":{"granted":false,"at":"2026-05-12T08:00:00Z"}}`, ""},
		{"both, and why", `{"mailing":{"granted":true,"at":"2026-05-12T08:00:00Z"},"pixel":{"granted":false,"at":"2026-05-13T08:00:00Z"},"reason":"form"}`, ""},
		{"a channel", `{"mailing":{"granted":false,"at":"2026-05-12T08:00:00Z"},"channel":"sms"}`, ""},
		{"no JSON", `yes`, "data: invalid character"},
		{"nothing", `{}`, "data: answers nothing: give mailing or pixel"},
		{"a signal that there is none of", `{"clicks":{"granted":true,"at":"2026-05-12T08:00:00Z"}}`, "data: answers nothing"},
		{"a word", `{"pixel":"no"}`, "data.pixel: is string, want an object"},
		{"no answer", `{"pixel":{"at":"2026-05-12T08:00:00Z"}}`, "data.pixel.granted: is required"},
		{"no time", `{"mailing":{"granted":true}}`, "data.mailing.at: is required"},
		{"a channel of nothing", `{"pixel":{"granted":true,"at":"2026-05-12T08:00:00Z"},"channel":"sms"}`, "data.channel: says which channel mailing is about"},
		{"a channel that is none", `{"mailing":{"granted":true,"at":"2026-05-12T08:00:00Z"},"channel":"E mail"}`, `data.channel: "E mail" must be`},
		{"a reason that is a story", `{"mailing":{"granted":true,"at":"2026-05-12T08:00:00Z"},"reason":"` + strings.Repeat("x", maxReason+1) + `"}`, "data.reason: has 257 bytes"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := Answer{Reason: "left over"}
			err := a.Parse([]byte(row.data))
			if row.says != "" {
				if err == nil || !strings.HasPrefix(err.Error(), row.says) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || string(a.Append(nil)) != row.data {
				t.Errorf("%s, %v", a.Append(nil), err)
			}
		})
	}
}

func TestTheLatestAnswerCounts(t *testing.T) {
	at := func(granted bool, hour int) *Consent {
		return &Consent{Granted: granted, At: time.Date(2026, 5, 12, hour, 0, 0, 0, time.UTC)}
	}
	yes, no, later, tie := at(true, 8), at(false, 9), at(true, 10), at(false, 10)
	for _, row := range []struct {
		name    string
		answers []*Consent
		want    *Consent
	}{
		{"nobody asked", []*Consent{nil, nil}, nil},
		{"one answer", []*Consent{nil, yes}, yes},
		{"withdrawn", []*Consent{yes, no}, no},
		{"told in the other order", []*Consent{no, yes}, no},
		{"given again", []*Consent{later, no, yes}, later},
		{"at one instant the refusal", []*Consent{later, tie}, tie},
		{"whichever is read first", []*Consent{tie, later}, tie},
	} {
		if got := Latest(row.answers...); got != row.want {
			t.Errorf("%s: %+v", row.name, got)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"mailing":{"granted":false,"at":"2026-05-12T08:00:00+02:00"},"channel":"sms","reason":"x"}`))
	f.Add([]byte(`{"pixel":{"granted":true,"at":"2026-05-12T08:00:00Z"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, again Answer
		if a.Parse(data) != nil {
			return
		}
		once := string(a.Append(nil))
		if err := again.Parse([]byte(once)); err != nil || string(again.Append(nil)) != once {
			t.Errorf("%s, %v", once, err)
		}
	})
}
