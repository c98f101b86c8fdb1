package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// brokerJVM has a broker start in half of the time: it never lives long enough for more.
const brokerJVM = "-XX:TieredStopAtLevel=1"

// brokerHeap is enough for some thousand records a second, and lets three brokers live beside the services.
const brokerHeap = "320m"

// Brokers are real Kafka brokers, each behind a proxy of its own. Ids count from 1.
type Brokers struct {
	script  string
	dir     string
	direct  []string
	proxies []*KafkaProxy
}

// StartBrokers starts one broker, or three with RF 3 and min ISR 2, with their data in dir/kafka.
func StartBrokers(ctx context.Context, dir string, n int) (*Brokers, error) {
	script, err := brokersScript()
	if err != nil {
		return nil, err
	}
	b := &Brokers{script: script, dir: filepath.Join(dir, "kafka")}
	port, err := freePorts(n)
	if err != nil {
		return nil, err
	}
	ports := make([]string, n)
	for i := range n {
		k, err := NewKafkaProxy(net.JoinHostPort("127.0.0.1", strconv.Itoa(port+10*i+2)))
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.proxies = append(b.proxies, k)
		_, ports[i], err = net.SplitHostPort(k.Addr())
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	out, err := b.run(ctx, []string{"KAFKA_PROXIES=" + strings.Join(ports, ",")}, "up", b.dir, strconv.Itoa(n), strconv.Itoa(port))
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	b.direct = strings.Split(strings.TrimSpace(out), ",")
	return b, nil
}

// brokersScript is found from the folder of this package upwards.
func brokersScript() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		script := filepath.Join(dir, "deployments", "kafka", "brokers")
		if _, err := os.Stat(script); err == nil {
			return script, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("deployments/kafka/brokers is not found: run the harness inside of the repository")
		}
		dir = parent
	}
}

// given are the ports that this process has given out: one after the other from a random one on, so that no two of its
// servers are told the same, whenever they begin to listen.
var given struct {
	sync.Mutex
	next int
}

// Below the range from which the system takes ports for connections: such a port could be taken before its server listens.
const (
	firstPort = 15000
	lastPort  = 31900
)

// freePorts finds a port for the first of n servers. The others are 10, 20 above, and each may take the two ports above
// its own, too.
func freePorts(n int) (int, error) {
	given.Lock()
	defer given.Unlock()
	for range 1000 {
		switch {
		case given.next == 0:
			given.next = firstPort + rand.IntN(lastPort-firstPort-10*n)
		case given.next > lastPort-10*n:
			given.next = firstPort
		}
		port := given.next
		given.next += 10 * n
		free := true
		for i := range n {
			for j := range 3 {
				l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+10*i+j)))
				if err != nil {
					free = false
					continue
				}
				l.Close()
			}
		}
		if free {
			return port, nil
		}
	}
	return 0, errors.New("find free ports: all that were tried are taken")
}

func (b *Brokers) run(ctx context.Context, env []string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, b.script, args...)
	c.Env = append(append(os.Environ(), "KAFKA_HEAP="+brokerHeap, "JAVA_TOOL_OPTIONS="+brokerJVM), env...)
	var problem strings.Builder
	c.Stderr = &problem
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("brokers %s: %w: %s", args[0], err, problem.String())
	}
	return string(out), nil
}

// Direct is where the brokers are, past their proxies.
func (b *Brokers) Direct() []string { return b.direct }

// Addrs is where the services find them.
func (b *Brokers) Addrs() []string {
	addrs := make([]string, len(b.proxies))
	for i, p := range b.proxies {
		addrs[i] = p.Addr()
	}
	return addrs
}

// Proxy is the one before broker id.
func (b *Brokers) Proxy(id int) *KafkaProxy { return b.proxies[id-1] }

// Proxies are all of them.
func (b *Brokers) Proxies() []*KafkaProxy { return b.proxies }

// OnProduce sets the hook before every broker; nil takes it away.
func (b *Brokers) OnProduce(h ProduceHook) {
	for _, p := range b.proxies {
		p.OnProduce(h)
	}
}

// Kill ends broker id as a power failure would.
func (b *Brokers) Kill(id int) error { return b.signal(id, syscall.SIGKILL) }

// Stop freezes broker id where it stands.
func (b *Brokers) Stop(id int) error { return b.signal(id, syscall.SIGSTOP) }

// Cont lets broker id go on.
func (b *Brokers) Cont(id int) error { return b.signal(id, syscall.SIGCONT) }

func (b *Brokers) signal(id int, s syscall.Signal) error {
	text, err := os.ReadFile(filepath.Join(b.dir, strconv.Itoa(id), "pid"))
	if err != nil {
		return fmt.Errorf("broker %d: %w", id, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("broker %d: %w", id, err)
	}
	if err := syscall.Kill(pid, s); err != nil {
		return fmt.Errorf("broker %d: %w", id, err)
	}
	return nil
}

// Start starts broker id again, and waits until it answers.
func (b *Brokers) Start(ctx context.Context, id int) error {
	_, err := b.run(ctx, nil, "start", b.dir, strconv.Itoa(id))
	return err
}

// Leader is the broker that leads a partition; topic is the name on the wire.
func (b *Brokers) Leader(ctx context.Context, topic string, partition int32) (int, error) {
	admin, err := b.admin()
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	m, err := admin.Metadata(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("find the leader of %s[%d]: %w", topic, partition, err)
	}
	p, ok := m.Topics[topic].Partitions[partition]
	if !ok || p.Leader < 0 {
		return 0, fmt.Errorf("find the leader of %s[%d]: it has none", topic, partition)
	}
	return int(p.Leader), nil
}

// admin leads past the proxies.
func (b *Brokers) admin() (*kadm.Client, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(b.direct...))
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(c), nil
}

// Close stops everything. What was frozen goes on first, so that it can end.
func (b *Brokers) Close() error {
	var problems []error
	for id := range b.proxies {
		b.Cont(id + 1) //nolint:errcheck // it may be dead, or never have lived
	}
	if _, err := os.Stat(b.dir); err == nil {
		_, err := b.run(context.Background(), nil, "down", b.dir)
		problems = append(problems, err)
	}
	for _, p := range b.proxies {
		problems = append(problems, p.Close())
	}
	return errors.Join(problems...)
}
