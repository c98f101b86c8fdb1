package console

import (
	"net/http"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/say"
	"github.com/tempismo/tempismo/services/console/words"
)

// decisionView is the page of one decision.
type decisionView struct {
	frame
	Finding, Say string
	Attributes   []string
	Rules        []ruleView
	Facts        [][2]string
	Row          rowView
	Explain      string // the command that computes it again
}

type ruleView struct {
	Name, Detail string
	Word         string
	Passed       bool
}

func (s *server) getDecision(w http.ResponseWriter, r *http.Request) {
	l, id := choose(w, r), r.PathValue("id")
	s.state.mu.Lock()
	row, found := s.state.board.Decision(id)
	v := &decisionView{frame: s.frame(l, "decisions", id, r.URL), Explain: "tempismo explain " + id}
	if found {
		v.fill(row, s.state.board)
	}
	s.state.mu.Unlock()
	v.Stream = s.live.address(l, query{})
	if !found {
		v.Finding, v.Say = l.T("decision.none"), l.T("decision.none.lead")
		render(w, http.StatusNotFound, "decision", v)
		return
	}
	render(w, http.StatusOK, "decision", v)
}

// fill puts a decision into words.
func (v *decisionView) fill(r board.Row, b *board.Board) {
	l, d := v.L, r.Decision
	v.Row = sayRow(l, r, b.Clock(), b.Zone())
	v.Finding, v.Say = v.Row.Name+": "+v.Row.Text, v.Row.Evidence
	for _, text := range []string{d.Channel, d.Segment, d.Message} {
		if text != "" {
			v.Attributes = append(v.Attributes, text)
		}
	}
	v.Attributes = append(v.Attributes, v.Row.Full)
	for _, rule := range d.Rules {
		word := "decision.failed"
		if rule.Passed {
			word = "decision.passed"
		}
		v.Rules = append(v.Rules, ruleView{say.Named(l, "rule.", rule.Rule), say.Detail(l, rule), l.T(word), rule.Passed})
	}
	v.facts(d)
}

// facts are the numbers and versions that it was made from.
func (v *decisionView) facts(d *decision.Decision) {
	l := v.L
	add := func(key, value string) {
		if value != "" {
			v.Facts = append(v.Facts, [2]string{l.T(key), value})
		}
	}
	add("decision.request", d.Request)
	add("decision.audience", d.Audience)
	if d.Slot != nil {
		zone := say.ZoneOf(d)
		add("decision.slot", l.Moment(d.Slot.From.In(zone))+"–"+d.Slot.To.In(zone).Format("15:04"))
	}
	if d.Propensity > 0 {
		add("decision.arm", say.Named(l, "arm.", d.Arm)+", "+l.Pct(d.Propensity, 0))
	}
	add("decision.deviation", d.Deviation)
	add("cust.confidence", l.Int(d.Score.Confidence))
	add("cust.level", say.Named(l, "cust.level.", d.Score.Level))
	add("cust.zone", d.Zone)
	add("cust.model", d.MadeFrom.Model)
	add("decision.policy", d.MadeFrom.Policy)
	add("cal.kind", d.MadeFrom.Calendar)
	topics := make([]string, 0, len(d.MadeFrom.Positions))
	for topic := range d.MadeFrom.Positions {
		topics = append(topics, topic)
	}
	slices.Sort(topics)
	for _, topic := range topics {
		v.Facts = append(v.Facts, [2]string{topic, d.MadeFrom.Positions[topic]})
	}
}

// shownWays is how many requests of a customer are shown.
const shownWays = 12

// wayView is the way of a request.
type wayView struct {
	Title, ID string
	Steps     []stepView
	Left      string
}

type stepView struct {
	At, Stamp, Name, URL, Text string
}

// sayWays puts a customer's requests into words. Times are in the zone of the customer, as far as the decisions know it.
func sayWays(l *words.Lang, list []board.Request) (out []wayView) {
	for _, q := range list {
		last := q.Steps[len(q.Steps)-1].Decision
		w := wayView{Title: last.Channel, ID: q.ID}
		if last.Message != "" {
			w.Title = "“" + last.Message + "”, " + last.Channel
		}
		if q.Left > 0 {
			w.Left = l.N("way.left", q.Left)
		}
		for _, r := range q.Steps {
			text, _ := say.Decision(l, r.Kind, r.Decision, nil)
			w.Steps = append(w.Steps, stepView{l.Moment(r.Time.In(say.ZoneOf(r.Decision))), r.Time.UTC().Format(time.RFC3339), say.Named(l, "type.", r.Kind), decisionURL(r.ID), text})
		}
		out = append(out, w)
	}
	return out
}
