package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Peer is the light job on another engine: the faster of its setups, and each of them.
type Peer struct {
	Setup string `json:"setup"`
	*Drain
	Setups map[string]*Drain `json:"setups"`
}

// engines are the other engines, and what they are set up to promise (see scripts/peers).
var engines = []struct{ key, name, promise string }{
	{"kafka_streams", "kafka-streams", "exactly once (v2)"},
	{"flink", "flink", "exactly once"},
}

// Engines is the program that knows the other engines: scripts/peers/peers.
type Engines string

// peers runs every setup of the other engines on the same events, and compares what they emit with what ours did, or where
// that was not run, with each other.
func (s *System) peers(ctx context.Context, program Engines, pre *Preloaded, light bool) (map[string]*Peer, error) {
	list, err := exec.CommandContext(ctx, string(program), "list").Output()
	if err != nil {
		return nil, fmt.Errorf("list the other engines: %s list: %w", program, err)
	}
	var want map[string]int
	whose := "light"
	if light {
		if want, err = s.emitted(ctx, s.Run.Topic(LightTopic)); err != nil {
			return nil, err
		}
	}
	peers := map[string]*Peer{}
	for setup := range strings.FieldsSeq(string(list)) {
		i := slices.IndexFunc(engines, func(e struct{ key, name, promise string }) bool { return strings.HasPrefix(setup, e.name+"-") })
		if i < 0 {
			return nil, fmt.Errorf("%s list names %q, which is a setup of no engine known here", program, setup)
		}
		d, got, err := s.peer(ctx, program, setup, pre)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", setup, err)
		}
		if want == nil {
			want, whose = got, setup
		}
		if err := sameOutputs(want, got); err != nil {
			return nil, fmt.Errorf("%s does not emit what %s does: %w", setup, whose, err)
		}
		p := peers[engines[i].key]
		if p == nil {
			p = &Peer{Setups: map[string]*Drain{}}
			peers[engines[i].key] = p
		}
		p.Setups[setup] = d
		if p.Drain == nil || d.PerSecond > p.PerSecond {
			p.Setup, p.Drain = setup, d
		}
	}
	for _, e := range engines {
		if peers[e.key] == nil {
			return nil, fmt.Errorf("%s list names no setup of %s", program, e.name)
		}
	}
	s.say("the outputs agree: %d of every engine", len(want))
	return peers, nil
}

// peer is one run. Its topics are deleted afterwards, so that the broker's cleaner does not work on changelogs meanwhile.
func (s *System) peer(ctx context.Context, program Engines, setup string, pre *Preloaded) (d *Drain, got map[string]int, err error) {
	app := s.Run.Group(setup)
	out := app + ".out"
	if err := s.createTopic(ctx, out); err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "tempismo-bench-"+setup+"-")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir), s.deleteTopics(ctx, app)) }()
	cmd := exec.Command(string(program), "run", setup, "brokers="+strings.Join(s.KafkaConfig.Brokers, ","), "in="+s.events(), "out="+out, "app="+app, "dir="+dir)
	p, d, err := s.drain(ctx, cmd, &watch{topic: out, sizes: pre.Sizes, mark: byEvent(pre.Events)})
	if err != nil {
		return nil, nil, err
	}
	p.stop()
	s.tell(setup, d)
	got, err = s.emitted(ctx, out)
	return d, got, err
}

// emitted is what the light job has emitted on some engine, as a set that counts: event, customer, kind, and the day's count.
func (s *System) emitted(ctx context.Context, topic string) (map[string]int, error) {
	m := map[string]int{}
	err := kafka.Range(ctx, s.Log, topic, kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		data := r.Value
		if !bytes.HasPrefix(data, []byte(`{"event":`)) { // ours has an envelope around it
			e, err := stream.ParseEvent(data)
			if err != nil {
				return fmt.Errorf("%s: partition %d, offset %d: %w", topic, r.Partition, r.Offset, err)
			}
			data = e.Data
		}
		what, _, ok := bytes.Cut(data, []byte(`,"mean":`))
		if !ok {
			return fmt.Errorf("%s: partition %d, offset %d: no output of the light job: %s", topic, r.Partition, r.Offset, data)
		}
		m[string(what)]++
		return nil
	})
	return m, err
}

// sameOutputs says how two sets differ, with an example of each way.
func sameOutputs(want, got map[string]int) error {
	var errs []error
	differ := func(how string, a, b map[string]int) {
		n, example := 0, ""
		for _, k := range slices.Sorted(maps.Keys(a)) {
			if a[k] > b[k] {
				n++
				example = k
			}
		}
		if n > 0 {
			errs = append(errs, fmt.Errorf("%d %s, such as %s}", n, how, example))
		}
	}
	differ("are missing", want, got)
	differ("are too many", got, want)
	return errors.Join(errs...)
}

// deleteTopics deletes an application's topics: its output, and what the engine made for itself.
func (s *System) deleteTopics(ctx context.Context, app string) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	all, err := admin.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	var names []string
	for _, name := range all.Names() {
		if strings.HasPrefix(name, app+"-") || strings.HasPrefix(name, app+".") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if _, err = admin.DeleteTopics(ctx, names...); err != nil {
		return fmt.Errorf("delete topics of %s: %w", app, err)
	}
	return nil
}

// printPeers sets what was measured on the same events side by side: rates in thousands a second, processor seconds for a
// million events, all warm but for the column that says otherwise.
func (f *Figures) printPeers(w io.Writer) {
	if len(f.Peers) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "engine\tguarantee\twall k/s\twarm k/s\tCPU-s/M engine\tbroker\tRedis\tpeak MB\tx Kafka Streams\tx Flink")
	row := func(name, promise string, d *Drain) {
		if d == nil {
			return
		}
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%d", name, promise, d.Wall/1000, d.PerSecond/1000, d.CPU.Service, d.CPU.Broker, d.CPU.Redis, d.PeakRSS>>20)
		for _, e := range engines {
			fmt.Fprintf(t, "\t%.2f", d.PerSecond/f.Peers[e.key].PerSecond)
		}
		fmt.Fprintln(t)
	}
	row("bare loop", "none", f.Limit)
	row("tempismo, light job", "effectively once", f.Light)
	row("tempismo, profiler", "effectively once", f.Profile)
	for _, e := range engines {
		for _, setup := range slices.Sorted(maps.Keys(f.Peers[e.key].Setups)) {
			row(setup+", light job", e.promise, f.Peers[e.key].Setups[setup])
		}
	}
	_ = t.Flush() // to where everything is written
}
