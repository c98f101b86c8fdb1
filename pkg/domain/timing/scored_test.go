package timing

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestScoredAppend: what is written by hand is what encoding/json writes.
func TestScoredAppend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, number := rapid.String(), rapid.Float64Range(-1e22, 1e22)
		small := rapid.OneOf(rapid.Just(0.), rapid.Float64Range(-1e-5, 1e-5), number)
		count := rapid.IntRange(-5, 5)
		s := Scored{
			Event: text.Draw(t, "event"), Kind: text.Draw(t, "kind"), Channel: text.Draw(t, "channel"), Local: text.Draw(t, "local"), Zone: text.Draw(t, "zone"),
			Segment: text.Draw(t, "segment"), Everybody: rapid.Bool().Draw(t, "everybody"), Model: text.Draw(t, "model"), ResponseSeconds: int64(count.Draw(t, "response")),
			Evidence: Evidence{EngagedHours: small.Draw(t, "engaged"), Deliveries: count.Draw(t, "deliveries"), Days: count.Draw(t, "days"), EngagedDays: 3, Partial: rapid.Bool().Draw(t, "partial")},
			Score: Score{
				Now: count.Draw(t, "now"), Best: 7, BestAt: time.Unix(rapid.Int64Range(0, 1<<35).Draw(t, "second"), rapid.Int64Range(0, 1e9-1).Draw(t, "nanos")).UTC(),
				Worth: small.Draw(t, "worth"), Confidence: 5, Level: text.Draw(t, "level"),
			},
		}
		if n := rapid.IntRange(-1, 3).Draw(t, "tests"); n >= 0 {
			s.Tests = make([]Test, n)
			for i := range s.Tests {
				s.Tests[i] = Test{Kind: text.Draw(t, "test"), P: small.Draw(t, "p"), PAct: small.Draw(t, "p_act"), Observed: small.Draw(t, "observed"), Expected: number.Draw(t, "expected"), Days: count.Draw(t, "days")}
			}
		}
		want, err := json.Marshal(&s)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Append([]byte("x")); !bytes.Equal(got, append([]byte("x"), want...)) {
			t.Errorf("got\n%s\nwant\n%s", got[1:], want)
		}
	})
}
