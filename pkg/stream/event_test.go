package stream

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseEvent(t *testing.T) {
	for _, c := range []struct{ name, in, wantID, wantErr string }{
		{"what a Step emits", `{"specversion":"1.0","id":"i","source":"/s","type":"t","subject":"C","time":"2026-03-01T00:00:00Z","datacontenttype":"application/json","sequence":"1","traceparent":"x","data":{"a":1}}`, "i", ""},
		{"another order, spaces, unknown attributes", ` {"type":"t", "id":"i", "specversion":"1.0","source":"/s","custom":[1], "data":null}`, "i", ""},
		{"escapes", `{"specversion":"1.0","id":"\u0069","source":"/s","type":"t","time":"2026-03-01T00:00:00Z","datacontenttype":"application/json","data":1}`, "i", ""},
		{"no id", `{"specversion":"1.0","source":"/s","type":"t"}`, "", "id is missing"},
		{"no source", `{"specversion":"1.0","id":"i","type":"t"}`, "", "source is missing"},
		{"no type", `{"specversion":"1.0","id":"i","source":"/s"}`, "", "type is missing"},
		{"another version", `{"specversion":"0.3","id":"i","source":"/s","type":"t"}`, "", "specversion"},
		{"a time that is none", `{"specversion":"1.0","id":"i","source":"/s","type":"t","time":"yesterday"}`, "", "yesterday"},
		{"data that is no JSON", `{"specversion":"1.0","id":"i","source":"/s","type":"t","time":"2026-03-01T00:00:00Z","datacontenttype":"application/json","data":{a}}`, "", "invalid character"},
		{"nothing", ``, "", "unexpected end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := ParseEvent([]byte(c.in))
			if e.ID != c.wantID || (err == nil) != (c.wantErr == "") || err != nil && !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}

func TestAppendedEventsParseToTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Filter(func(s string) bool { return strings.ToValidUTF8(s, "") == s })
		e := Event{
			ID: "i" + text.Draw(t, "id"), Source: "/" + text.Draw(t, "source"), Type: "t" + text.Draw(t, "type"), Subject: text.Draw(t, "subject"),
			Sequence: text.Draw(t, "sequence"), Traceparent: text.Draw(t, "trace"),
			Time: time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC(), Data: json.RawMessage(`{"x":[1,2]}`),
		}
		b := e.Append(nil)
		got, err := ParseEvent(b)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("%s\n have %+v\n want %+v\n %v", b, got, e, err)
		}
	})
}

// FuzzParseEvent holds the fast path to what encoding/json reads.
func FuzzParseEvent(f *testing.F) {
	full := `{"specversion":"1.0","id":"i","source":"/s","type":"t","subject":"C","time":"2026-03-01T00:00:00.5+01:00","datacontenttype":"application/json","sequence":"1","traceparent":"x","data":{"a":1}}`
	f.Add([]byte(full))
	f.Add([]byte(strings.Replace(full, `"subject":"C",`, ``, 1)))
	f.Add([]byte(strings.Replace(full, `"data":{"a":1}`, `"data":{"a":1},"id":"other"`, 1)))
	f.Add([]byte(strings.Replace(full, `"data":{"a":1}`, `"data":1,"data":2`, 1)))
	f.Add([]byte(strings.Replace(full, `"C"`, `"C\u00e8"`, 1)))
	f.Add([]byte(strings.Replace(full, `"t"`, `",\"data\":"`, 1)))
	f.Add([]byte(`{"specversion":"1.0","id":"i","source":"/s","type":"t","time":"2026-03-01T00:00:00Z","datacontenttype":"a","data":"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		fast, ok := parseOwn(b)
		if !ok {
			return
		}
		slow, err := parseAny(b)
		if err != nil {
			t.Fatalf("read fast, refused slowly: %v\n%s", err, b)
		}
		if !bytes.Equal(bytes.TrimSpace(fast.Data), slow.Data) {
			t.Fatalf("data %s, want %s", fast.Data, slow.Data)
		}
		fast.Data, slow.Data = nil, nil
		if !reflect.DeepEqual(fast, slow) {
			t.Fatalf("%s\n fast %+v\n slow %+v", b, fast, slow)
		}
	})
}

func TestSequencesSortAsTheyAreEmitted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pos := func(n string) (int64, int) {
			return rapid.Int64Range(0, 1<<62).Draw(t, n), rapid.IntRange(0, 20_000).Draw(t, n+"i")
		}
		o1, i1 := pos("a")
		o2, i2 := pos("b")
		if rapid.Bool().Draw(t, "same") {
			o2 = o1
		}
		a, b := appendSequence(nil, o1, i1), appendSequence(nil, o2, i2)
		if !isSequence(a) || !isSequence(b) {
			t.Fatalf("%s %s", a, b)
		}
		if want := o1 > o2 || o1 == o2 && i1 > i2; later(a, b) != want {
			t.Fatalf("later(%s, %s) is not %v", a, b, want)
		}
	})
	for _, s := range []string{"", "7", "00000000000000000001", "00000000000000000001.1", "0000000000000000000a.001", "00000000000000000001x001"} {
		if isSequence([]byte(s)) {
			t.Errorf("%q", s)
		}
	}
}

func BenchmarkParseEvent(b *testing.B) {
	e := Event{ID: "sc-14c5d75ce93", Source: "/tempismo/profiler/r1/engagement.events.v1/7", Type: "io.tempismo.scored.v1", Subject: "C-20417", Sequence: "00000000000001842217.000",
		Time: time.Unix(1772323200, 0), Data: json.RawMessage(`{"event":"sg-14c5d75ce93","kind":"open","channel":"email","local":"2026-12-03T10:41:52","zone":"Europe/Rome","tests":[{"kind":"burst","p":0.0037,"observed":5}]}`)}
	doc := e.Append(nil)
	b.ReportAllocs()
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if _, err := ParseEvent(doc); err != nil {
			b.Fatal(err)
		}
	}
}
