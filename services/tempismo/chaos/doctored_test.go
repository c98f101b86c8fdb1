package chaos

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// clone copies what a doctor may lay hands on. Bytes are shared: they are replaced, not written to.
func (f *facts) clone() *facts {
	e := *f.Evidence
	e.Ledger, e.Calls, e.Samples, e.Injections = slices.Clone(e.Ledger), slices.Clone(e.Calls), slices.Clone(e.Samples), slices.Clone(e.Injections)
	g := &facts{Evidence: &e, records: map[string][][]stream.Record{}, kept: map[string][]kept{}, differs: slices.Clone(f.differs), remade: f.remade}
	for topic, partitions := range f.records {
		for _, records := range partitions {
			g.records[topic] = append(g.records[topic], slices.Clone(records))
		}
	}
	for service, all := range f.kept {
		for _, k := range all {
			k.meta.Positions = maps.Clone(k.meta.Positions)
			g.kept[service] = append(g.kept[service], kept{k.meta, maps.Clone(k.states)})
		}
	}
	return g
}

// doctored are wrongs that a fault could do, each with the invariant that it breaks and what must be said of it. doctor
// returns the id that must be named.
var doctored = []struct {
	name, invariant, what string
	doctor                func(f *facts) (id string)
}{
	{"an acknowledged event is on no topic", "L", "acknowledged, and on no topic", func(f *facts) string {
		f.Ledger = append(f.Ledger, Acked{Topic: topics.Events, ID: "e-lost", Customer: name(1)})
		return "e-lost"
	}},
	{"an event that was taken changes no profile", "L", "profiler keeps is not what a fold", func(f *facts) string {
		who := string(f.find(topics.Events, "", nil).Key)
		f.profile(who, func(p *timing.Profile) { p.Forget() })
		return who
	}},
	{"an event is counted twice", "L", "profiler keeps is not what a fold", func(f *facts) string {
		f.profile(name(2), func(p *timing.Profile) { again(p) })
		return name(2)
	}},
	{"an event is counted twice, as a count of our own shows", "L", "profiles do not hold what the log does", func(f *facts) string {
		f.profile(name(2), func(p *timing.Profile) { again(p) })
		return name(2)
	}},
	{"a profile is gone", "L", "profiles do not hold what the log does", func(f *facts) string {
		for p := range f.kept["profiler"] {
			delete(f.kept["profiler"][p].states, name(3))
		}
		return name(3)
	}},
	{"a profile is made up", "L", "profiler keeps is not what a fold", func(f *facts) string {
		f.kept["profiler"][0].states["nobody"] = f.kept["profiler"][0].states[slices.Sorted(maps.Keys(f.kept["profiler"][0].states))[0]]
		return "nobody"
	}},
	{"what a partition has counted is another's", "L", "keeps of whole partitions", func(f *facts) string {
		k := f.kept["profiler"]
		k[0].meta.Partition, k[1].meta.Partition = k[1].meta.Partition, k[0].meta.Partition
		return "0"
	}},
	{"a committed output was never published", "L", "owes for what it has taken were never published", func(f *facts) string {
		return f.remove(topics.Scored, "/tempismo/profiler/")
	}},
	{"a deviation was never published", "L", "detector owes for what it has taken", func(f *facts) string {
		return f.remove(topics.Deviations, "/tempismo/detector/")
	}},
	{"what was published was never committed", "L", "nothing that it has taken leads to", func(f *facts) string {
		r := f.find(topics.Scored, "/tempismo/profiler/", nil)
		extra := *r
		extra.Value = bytes.Replace(r.Value, []byte(idOf(r.Value)), []byte("s-invented"), 1)
		extra.Headers = withSequence(r.Headers, "00000000000099999999.000")
		f.records[topics.Scored][r.Partition] = append(f.records[topics.Scored][r.Partition], extra)
		return "s-invented"
	}},
	{"an output says something else", "L", "has published other bytes", func(f *facts) string {
		r := f.find(topics.Deviations, "/tempismo/detector/", nil)
		r.Value = bytes.Replace(r.Value, []byte(`"observed":`), []byte(`"observed":1`), 1)
		return idOf(r.Value)
	}},
	{"the detector remembers something else", "L", "detector keeps is not what a fold", func(f *facts) string {
		for p := range f.kept["detector"] {
			for who := range f.kept["detector"][p].states {
				f.kept["detector"][p].states[who] = new(deviation.Memory).Append(nil)
				return who
			}
		}
		return "nobody"
	}},
	{"an unreadable record was not set aside", "L", "must have set these records aside", func(f *facts) string {
		r := f.find(topics.Events, "", nil)
		r.Value = []byte("no event")
		return positionOf(topics.Events, r.Partition, r.Offset)
	}},
	{"a record was set aside without a reason", "L", "set these records aside without a reason", func(f *facts) string {
		r := *f.find(topics.Events, "", nil)
		r.Headers = []stream.Header{{Key: "__connect.errors.partition", Value: []byte("0")}, {Key: "__connect.errors.offset", Value: []byte("7")}}
		letters := f.records[topics.DeadLetter(topics.Events)]
		letters[0] = append(letters[0], r)
		return topics.Events + ":0:7"
	}},
	{"a record was not taken", "L", "not everything on the logs was taken", func(f *facts) string {
		f.kept["profiler"][1].meta.Positions[topics.Events]--
		return topics.Events + ":1"
	}},
	{"the end of a request is lost", "L", "neither wait nor have ended", func(f *facts) string {
		d := f.ended()
		f.drop(topics.Decisions, d)
		return requestOf(d)
	}},
	{"one decision stands at two positions", "L", "decided twice", func(f *facts) string {
		r := *f.ended()
		r.Headers = withSequence(r.Headers, "00000000000099999999.000")
		f.records[topics.Decisions][r.Partition] = append(f.records[topics.Decisions][r.Partition], r)
		return idOf(r.Value)
	}},
	{"a decision is made otherwise", "L", "leads to other decisions", func(f *facts) string {
		f.differs = append(f.differs, "send.requests.v1:0:1")
		return "send.requests.v1:0:1"
	}},
	{"a request is sent under two ids", "P", "ended more than once", func(f *facts) string { return f.secondSend(true) }},
	{"a request is called for under two ids", "P", "called under more than one id", func(f *facts) string { return f.secondSend(true) }},
	{"a deviation is answered twice", "P", "more than one message was sent", func(f *facts) string {
		r := f.ended()
		r.Value = bytes.Replace(r.Value, []byte(`"data":{`), []byte(`"data":{"deviation":"dv-twice",`), 1)
		f.second(r)
		return "dv-twice"
	}},
	{"the receiver is called for what was never decided", "P", "never decided", func(f *facts) string {
		c := f.Calls[0]
		c.WebhookID, c.Decision = "d-invented", "d-invented"
		f.Calls = append(f.Calls, c)
		return "d-invented"
	}},
	{"the receiver is not called", "P", "sent, and never called for", func(f *facts) string {
		id := f.Calls[0].WebhookID
		f.Calls = slices.DeleteFunc(f.Calls, func(c Call) bool { return c.WebhookID == id })
		return id
	}},
	{"only a refused call was made", "P", "sent, and never called for", func(f *facts) string {
		f.Calls[0].Status = 500
		return f.Calls[0].WebhookID
	}},
	{"a repeated call says something else", "P", "something else than the first", func(f *facts) string {
		c := f.Calls[0]
		c.Body = "other"
		f.Calls = append(f.Calls, c)
		return c.WebhookID
	}},
	{"a call is for somebody else", "P", "something else than their decision", func(f *facts) string {
		f.Calls[0].Customer = "somebody"
		return f.Calls[0].WebhookID
	}},
	{"a call is not signed", "P", "signature", func(f *facts) string {
		f.Calls[0].Unsigned = true
		return f.Calls[0].WebhookID
	}},
	{"the result of a call is lost", "P", "the outcome does not say so", func(f *facts) string {
		id := f.Calls[0].WebhookID
		for p, records := range f.records[topics.Outcomes] {
			f.records[topics.Outcomes][p] = slices.DeleteFunc(records, func(r stream.Record) bool {
				return bytes.Contains(r.Value, []byte(id)) && !bytes.Contains(r.Value, []byte(decision.Attempting))
			})
		}
		return id
	}},
	{"two outputs are swapped", "O", "after later ones of the same source", func(f *facts) string {
		records := f.records[topics.Scored][0]
		i := len(records) - 2
		records[i].Value, records[i+1].Value = records[i+1].Value, records[i].Value
		records[i].Headers, records[i+1].Headers = records[i+1].Headers, records[i].Headers
		return idOf(records[i+1].Value)
	}},
	{"two calls for a customer are swapped", "O", "calls for these customers", func(f *facts) string {
		d := f.ended()
		f.second(d)
		first := slices.IndexFunc(f.Calls, func(c Call) bool { return c.WebhookID == idOf(d.Value) })
		c := f.Calls[first]
		c.WebhookID = "d-second"
		c.Arrived = c.Arrived.Add(-time.Millisecond)
		f.Calls = append(f.Calls, c)
		return c.Customer
	}},
	{"a deviation of a partial profile may act", "N", "may move a send", func(f *facts) string {
		r := f.find(topics.Deviations, "/tempismo/detector/", func(r *stream.Record) bool { return bytes.Contains(r.Value, []byte(`"actionable":true`)) })
		r.Value = bytes.Replace(r.Value, []byte(`"evidence":{`), []byte(`"evidence":{"partial":true,`), 1)
		return idOf(r.Value)
	}},
	{"a deviation has sent with a partial profile", "N", "with a partial profile", func(f *facts) string {
		d := f.lookedUp()
		d.Value = bytes.Replace(d.Value, []byte(`"data":{`), []byte(`"data":{"deviation":"dv-1",`), 1)
		d.Value = bytes.Replace(d.Value, []byte(`"lookup":{`), []byte(`"lookup":{"partial":true,`), 1)
		for _, other := range []string{decision.WaitType, decision.ExpiredType, decision.CancelledType} {
			d.Value = bytes.Replace(d.Value, []byte(other), []byte(decision.SendNowType), 1)
		}
		return idOf(d.Value)
	}},
	{"a decision has seen less than the profile held", "N", "another profile than the log", func(f *facts) string {
		d := f.lookedUp()
		at := bytes.Index(d.Value, []byte(`"lookup":{`))
		head, tail := bytes.Clone(d.Value[:at]), d.Value[at:]
		d.Value = append(head, bytes.Replace(tail, []byte(`"confidence":`), []byte(`"confidence":1`), 1)...)
		return idOf(d.Value)
	}},
	{"a process needs a gigabyte", "M", "more memory than 512 MB", func(f *facts) string {
		f.Samples = append(f.Samples, Sample{At: time.Now(), Process: "profiler.1", RSS: 1 << 30, Ready: true})
		return "profiler.1"
	}},
	{"the services stay behind", "R", "not recovered", func(f *facts) string {
		from := time.Now()
		f.Injections = append(f.Injections, Injection{from, from.Add(2 * time.Second), "kill of the profiler"})
		for s := range 15 {
			f.Samples = append(f.Samples, Sample{At: from.Add(time.Duration(2*s) * time.Second), Lag: 1000, Behind: 10 * time.Second})
		}
		return "kill of the profiler"
	}},
	{"nothing shows a fault", "V", "nothing showed", func(f *facts) string {
		from := time.Now()
		f.Injections = append(f.Injections, Injection{from, from.Add(2 * time.Second), "kill of the profiler"})
		for s := range 5 {
			f.Samples = append(f.Samples, Sample{At: from.Add(time.Duration(s) * time.Second), Process: "profiler.1", Ready: true, Metrics: map[string]float64{"tempismo_stream_retries_total": 1}})
		}
		f.Samples = append([]Sample{{At: from.Add(-time.Second), Process: "profiler.1", Ready: true, Metrics: map[string]float64{"tempismo_stream_retries_total": 1}}}, f.Samples...)
		return "kill of the profiler"
	}},
}

// find is the last record of a topic that a source has written and that fits; nil if there is none.
func (f *facts) find(topic, source string, fits func(*stream.Record) bool) *stream.Record {
	for _, records := range f.records[topic] {
		for i := len(records) - 1; i >= 0; i-- {
			if strings.HasPrefix(headerOf(records[i].Headers, "source"), source) && (fits == nil || fits(&records[i])) {
				return &records[i]
			}
		}
	}
	return nil
}

// remove takes the last record that a source has written off a topic, and returns its id.
func (f *facts) remove(topic, source string) string {
	r := f.find(topic, source, nil)
	id := idOf(r.Value)
	f.drop(topic, r)
	return id
}

func (f *facts) drop(topic string, r *stream.Record) {
	p, offset := r.Partition, r.Offset
	f.records[topic][p] = slices.DeleteFunc(slices.Clone(f.records[topic][p]), func(x stream.Record) bool { return x.Offset == offset })
}

// ended is a decision in which a request was sent.
func (f *facts) ended() *stream.Record {
	return f.find(topics.Decisions, "", func(r *stream.Record) bool {
		return bytes.Contains(r.Value, []byte(decision.SendNowType)) && bytes.Contains(r.Value, []byte(`"request":"r`))
	})
}

// lookedUp is a decision that recorded what it had seen.
func (f *facts) lookedUp() *stream.Record {
	return f.find(topics.Decisions, "", func(r *stream.Record) bool { l := lookupIn(r.Value); return l != nil && l.Profile != "" && !l.Partial })
}

func requestOf(r *stream.Record) string {
	_, rest, _ := strings.Cut(string(r.Value), `"request":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

// second writes a decision once more, under another id and behind.
func (f *facts) second(r *stream.Record) {
	extra := *r
	extra.Value = bytes.Replace(r.Value, []byte(idOf(r.Value)), []byte("d-second"), 1)
	extra.Headers = withSequence(r.Headers, "00000000000099999999.000")
	f.records[topics.Decisions][r.Partition] = append(f.records[topics.Decisions][r.Partition], extra)
}

// secondSend sends for a request once more, and returns the request.
func (f *facts) secondSend(call bool) string {
	r := f.ended()
	request, id := requestOf(r), idOf(r.Value)
	f.second(r)
	if i := slices.IndexFunc(f.Calls, func(c Call) bool { return c.WebhookID == id }); call && i >= 0 {
		c := f.Calls[i]
		c.WebhookID, c.Decision, c.Arrived = "d-second", "d-second", time.Now()
		f.Calls = append(f.Calls, c)
	}
	return request
}

// profile changes what is kept of a customer.
func (f *facts) profile(who string, change func(p *timing.Profile)) {
	for i := range f.kept["profiler"] {
		b := f.kept["profiler"][i].states[who]
		if b == nil {
			continue
		}
		var p timing.Profile
		if err := p.Decode(b); err != nil {
			panic(err)
		}
		change(&p)
		f.kept["profiler"][i].states[who] = p.Append(nil)
	}
}

// again counts mail of an hour in which none came.
func again(p *timing.Profile) {
	c := p.Channel("email")
	head, _ := c.Head()
	for h := head; ; h-- {
		if c.Delivered(&timing.World{Model: timing.Builtin()}, h).Result == timing.Counted {
			return
		}
	}
}

func withSequence(headers []stream.Header, sequence string) []stream.Header {
	changed := slices.Clone(headers)
	for i := range changed {
		if changed[i].Key == "sequence" {
			changed[i].Value = []byte(sequence)
		}
	}
	return changed
}
