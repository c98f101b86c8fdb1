package connector

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/connector/crm"
)

// FuzzParse: whatever stands on the topic is refused, or is a decision that a CRM can be told of, that lives no longer than the ledger
// remembers, that does not change with the bytes it was read from, and of which an outcome can be written.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		`{"specversion":"1.0","id":"d-1","source":"/s","type":"io.tempismo.decision.send_now.v1","subject":"C-1","time":"2026-12-03T09:41:52Z","traceparent":"` + traceparent + `","data":{"reason":"slot","request":"r-1","channel":"email","message":"winter","expires_at":"2026-12-03T10:11:52Z"}}`,
		`{"specversion":"1.0","id":"d-2","source":"/s","type":"io.tempismo.decision.wait.v1","subject":"C-1","time":"2026-12-03T09:41:52Z","data":{"reason":"slot"}}`,
		`{"id":"d-3","source":"/s","type":"io.tempismo.decision.send_now.v1","subject":"\ud800\u0000","time":"2026-12-03T09:41:52.000000001+01:00","data":{"reason":"slot","expires_at":"2026-12-04T08:41:52Z"}}`,
		`{"id":"d-4","source":"/s","type":"io.tempismo.decision.send_now.v1","subject":"C","time":"0001-01-01T00:00:01Z","data":{"reason":"slot","expires_at":"9999-12-03T10:11:52Z"}}`,
		`{"id":"d-5","source":"/s","type":"io.tempismo.outcome.v1","time":"2026-12-03T09:41:52Z","data":{}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		r := &stream.Record{Value: bytes.Clone(value)}
		d, err := parse(r, stream.Run{ID: "r1"})
		if err != nil {
			return
		}
		if d.id == "" || d.time.IsZero() {
			t.Fatalf("%+v", d)
		}
		if d.typ == decision.SendNowType {
			if d.customer == "" || d.expires.IsZero() || d.expires.Sub(d.time) > decision.MaxExpiry {
				t.Fatalf("%+v", d)
			}
			facts, err := (&crm.Send{ID: d.id, Type: d.typ, Customer: d.customer, Time: d.time, Data: d.data}).Facts()
			if err != nil || facts.Decision != d.id || facts.Request != d.request || !facts.ExpiresAt.Equal(d.expires) {
				t.Fatalf("a CRM is told %+v: %v", facts, err)
			}
		}
		for i := range r.Value {
			r.Value[i] = '#'
		}
		if again, err := parse(&stream.Record{Value: value}, stream.Run{ID: "r1"}); err != nil || !reflect.DeepEqual(d, again) {
			t.Fatalf("it was    %+v\nand is now %+v, %v", again, d, err)
		}
		o := decision.Outcome{Decision: d.id, Request: d.request, Connector: "c", Result: decision.Attempting, Attempts: 1}
		e := stream.Event{ID: outcomeID("r", &o), Source: "/s", Type: decision.OutcomeType, Subject: d.customer, Time: d.time, Traceparent: d.trace, Data: o.Append(nil)}
		read, err := stream.ParseEvent(e.Append(nil))
		if err != nil || read.Subject != d.customer || read.Traceparent != d.trace {
			t.Fatalf("of the outcome is read %+v: %v", read, err)
		}
		var back decision.Outcome
		if err := back.Parse(read.Data); err != nil || back != o {
			t.Fatalf("of %+v is read %+v: %v", o, back, err)
		}
	})
}
