package chaos

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/profiler"
)

// output is what a Step wrote: where, and its bytes.
type output struct {
	topic     string // declared name
	partition int32
	source    string
	sequence  string
	value     []byte
}

// place is where an output stands among those of its source. It is what our consumers drop repetitions by.
type place struct {
	topic     string
	partition int32
	source    string
	sequence  string
}

func (o *output) place() place { return place{o.topic, o.partition, o.source, o.sequence} }

// id names an output in a violation.
func (o *output) id() string {
	if e, err := stream.ParseEvent(o.value); err == nil {
		return e.ID
	}
	return fmt.Sprintf("%s %d %s", o.topic, o.partition, o.sequence)
}

func headerOf(headers []stream.Header, key string) string {
	for i := range headers {
		if headers[i].Key == key {
			return string(headers[i].Value)
		}
	}
	return ""
}

// profiles folds the profiler's inputs. It returns what must be known of customers at positions that decisions name.
func (f *facts) profiles(v *verdict) (map[string][]byte, error) {
	var c profiler.Config
	if err := f.configure(&c); err != nil {
		return nil, err
	}
	c.Run.ID = f.Run.ID
	if f.Run.Simulated {
		c.Run.Mode = "simulated"
	}
	c.Pixels.Consent = "assumed" // as the rig sets it
	job, err := profiler.Job(c)
	if err != nil {
		return nil, err
	}
	looked := f.looked()
	found := map[string][]byte{}
	at := func(fold *stream.Fold[profiler.Input, timing.Profile, profiler.Partition], r *stream.Record) {
		if f.Run.Base(r.Topic) != topics.Events {
			return
		}
		position := positionOf(topics.Events, r.Partition, r.Offset)
		for _, customer := range looked[position] {
			if p := fold.State(customer); p != nil {
				found[position+" "+customer] = p.Append(nil)
			}
		}
	}
	return found, refold(f, v, job, at)
}

func positionOf(topic string, partition int32, offset int64) string {
	return topic + ":" + strconv.Itoa(int(partition)) + ":" + strconv.FormatInt(offset, 10)
}

// deviations folds the detector's inputs.
func (f *facts) deviations(v *verdict) error {
	var c detector.Config
	if err := f.configure(&c); err != nil {
		return err
	}
	c.Run.ID = f.Run.ID
	if f.Run.Simulated {
		c.Run.Mode = "simulated"
	}
	return refold(f, v, detector.Job(c, noop.Int64Counter{}), nil)
}

// configure reads a service's Config from the environment that the services had.
func (f *facts) configure(c any) error {
	return config.Parse(c, "check", nil, func(name string) (string, bool) {
		switch name {
		case "RUN_ID":
			return f.Run.ID, true
		case "KAFKA_BROKERS", "REDIS_ADDR":
			return "", false
		}
		value, ok := f.Env[name]
		return value, ok
	})
}

// refold applies a Job to its inputs as they stand on the topics, and holds against it what the service kept and published.
// after is told every record that was applied; it may be nil.
func refold[I, S, P any](f *facts, v *verdict, job stream.Job[I, S, P], after func(*stream.Fold[I, S, P], *stream.Record)) error {
	service := job.Service
	var expected []output
	letters := map[string]bool{}
	var states, parts []string
	for p := range f.Partitions {
		fold, err := stream.NewFold(job, f.Run, p, f.Partitions)
		if err != nil {
			return err
		}
		k := &f.kept[service][p]
		for _, r := range f.inputs(job.Inputs, p, k.meta.Positions) {
			out, err := fold.Apply(r)
			if err != nil {
				return fmt.Errorf("fold of %s: %w", service, err)
			}
			for i := range out {
				o := &out[i]
				if topic, ok := strings.CutSuffix(o.Topic, ".dlq"); ok {
					letters[positionOf(topic, r.Partition, r.Offset)] = true
					continue
				}
				expected = append(expected, output{o.Topic, o.Partition, headerOf(o.Headers, "source"), headerOf(o.Headers, "sequence"), o.Value})
			}
			if after != nil {
				after(fold, r)
			}
		}
		for _, key := range fold.Keys() {
			v.count("states of "+service, 1)
			if !bytes.Equal(job.State.Append(nil, fold.State(key)), k.states[key]) {
				states = append(states, key)
			}
		}
		for key := range k.states {
			if fold.State(key) == nil {
				states = append(states, key)
			}
		}
		own, err := k.meta.JobPartition()
		if err != nil {
			return err
		}
		if job.Partition.Append != nil && !bytes.Equal(own, job.Partition.Append(nil, fold.Partition())) {
			parts = append(parts, strconv.Itoa(int(p)))
		}
	}
	slices.Sort(states)
	if !slices.Contains(f.Renewed, service) { // what a state is depends on where exactly the model changed; the count of our own does not
		v.broken("L", "the state that "+service+" keeps is not what a fold of the log makes of these customers", states)
		v.broken("L", "what "+service+" keeps of whole partitions is not what a fold of the log makes of them", parts)
	}
	f.published(v, service, job.Outputs, expected, f.letters(v, service, job.Inputs, letters))
	return nil
}

// inputs are the records of a partition that a service has taken, in the order of the runtime: record time, topic, offset.
func (f *facts) inputs(inputs []stream.Input, partition int32, taken map[string]int64) []*stream.Record {
	var all []*stream.Record
	for _, in := range inputs {
		records := f.records[in.Topic][partition]
		for i := range records {
			if records[i].Offset < taken[in.Topic] {
				all = append(all, &records[i])
			}
		}
	}
	return inOrder(all)
}

// inOrder merges records of several topics without changing the order within one: like the runtime, it takes the earliest
// of the heads.
func inOrder(all []*stream.Record) []*stream.Record {
	by := map[string][]*stream.Record{}
	var names []string
	for _, r := range all {
		if by[r.Topic] == nil {
			names = append(names, r.Topic)
		}
		by[r.Topic] = append(by[r.Topic], r)
	}
	slices.Sort(names)
	merged := all[:0:0]
	for range all {
		first := ""
		for _, n := range names {
			if len(by[n]) > 0 && (first == "" || by[n][0].Time.Before(by[first][0].Time)) {
				first = n
			}
		}
		merged, by[first] = append(merged, by[first][0]), by[first][1:]
	}
	return merged
}

// letters holds the dead letters of a service's inputs against those that a fold writes. It returns for which positions an
// output became a dead letter because it did not fit.
func (f *facts) letters(v *verdict, service string, inputs []stream.Input, expected map[string]bool) (large map[string]bool) {
	large = map[string]bool{}
	stand := map[string]bool{}
	var invented, missing []string
	for _, in := range inputs {
		for _, records := range f.records[topics.DeadLetter(in.Topic)] {
			for i := range records {
				h := records[i].Headers
				if strings.HasPrefix(headerOf(h, "__connect.errors.stage"), "ingest:") { // it came over HTTP and never was a record
					continue
				}
				position := in.Topic + ":" + headerOf(h, "__connect.errors.partition") + ":" + headerOf(h, "__connect.errors.offset")
				if headerOf(h, "__connect.errors.stage") == "output" {
					large[position] = true
					continue
				}
				stand[position] = true
				if !expected[position] && len(f.readers(in.Topic)) == 1 {
					invented = append(invented, position)
				}
			}
		}
	}
	for position := range expected {
		if !stand[position] {
			missing = append(missing, position)
		}
	}
	slices.Sort(missing)
	v.count("dead letters of "+service, len(expected))
	v.count("outputs that did not fit", len(large))
	v.broken("L", service+" must have set these records aside, and they stand on no dead-letter topic", missing)
	v.broken("L", service+" has set these records aside without a reason", invented)
	return large
}

// readers are the services that may have set a record of a topic aside.
func (f *facts) readers(topic string) []string {
	for _, t := range topics.All {
		if t.Name == topic {
			return slices.DeleteFunc(slices.Clone(t.Readers), func(s string) bool {
				return s == "trainer" || s == "console" || s == "alert consumers" || s == "connector" && topic != topics.Decisions // which only listens
			})
		}
	}
	return nil
}

// published holds what a service has published against what a fold emits. large are positions of inputs whose outputs did
// not fit.
func (f *facts) published(v *verdict, service string, written []string, expected []output, large map[string]bool) {
	actual, repeated := f.outputs(service, written)
	v.count("repeated outputs of "+service, repeated)
	v.count("outputs of "+service, len(actual))
	stand := make(map[place]*output, len(actual))
	for i := range actual {
		stand[actual[i].place()] = &actual[i]
	}
	var lost, other, invented []string
	for i := range expected {
		o := &expected[i]
		switch got := stand[o.place()]; {
		case got == nil && large[o.cause()]:
		case got == nil:
			lost = append(lost, o.id())
		case !bytes.Equal(got.value, o.value):
			other = append(other, o.id())
		}
		delete(stand, o.place())
	}
	for _, o := range stand {
		invented = append(invented, o.id())
	}
	slices.Sort(invented)
	f.overtaken(v, service, written)
	if slices.Contains(f.Renewed, service) {
		return
	}
	v.broken("L", "outputs that "+service+" owes for what it has taken were never published", lost)
	v.broken("L", service+" has published other bytes than what it has taken leads to", other)
	v.broken("L", service+" has published what nothing that it has taken leads to", invented)
}

// cause is the position of the record that an output was made from.
func (o *output) cause() string {
	parts := strings.Split(o.source, "/") // "", tempismo, service, run, topic, partition
	digits, _, _ := strings.Cut(o.sequence, ".")
	offset, _ := strconv.ParseInt(digits, 10, 64)
	if len(parts) != 6 {
		return ""
	}
	return parts[4] + ":" + parts[5] + ":" + strconv.FormatInt(offset, 10)
}

// outputs are what a service has published, each once, in the order in which it stands first.
func (f *facts) outputs(service string, written []string) (list []output, repeated int) {
	seen := map[place]bool{}
	prefix := "/tempismo/" + service + "/" + f.Run.ID + "/"
	for _, topic := range written {
		for p, records := range f.records[topic] {
			for i := range records {
				o := output{topic, int32(p), headerOf(records[i].Headers, "source"), headerOf(records[i].Headers, "sequence"), records[i].Value}
				if !strings.HasPrefix(o.source, prefix) {
					continue
				}
				if seen[o.place()] {
					repeated++
					continue
				}
				seen[o.place()] = true
				list = append(list, o)
			}
		}
	}
	return list, repeated
}

// overtaken finds outputs that stand for the first time after a later one of their source: whoever drops what is not above
// the highest position seen has lost them.
func (f *facts) overtaken(v *verdict, service string, written []string) {
	var ids []string
	highest := map[place]string{}
	list, _ := f.outputs(service, written)
	for i := range list {
		lane := list[i].place()
		lane.sequence = ""
		if list[i].sequence < highest[lane] {
			ids = append(ids, list[i].id())
		}
		highest[lane] = max(highest[lane], list[i].sequence)
	}
	v.broken("O", service+" published these after later ones of the same source: consumers have dropped them", ids)
}
