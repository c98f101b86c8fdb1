package kafka

import (
	"fmt"
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kfake"
)

// EmbeddedConfig says where the embedded broker keeps its log.
type EmbeddedConfig struct {
	Dir  string // data folder, created where missing; empty: memory only
	Port int    // on the loopback interface; 0: any that is free
}

// Embedded is a broker inside this process (franz-go's kfake), for laptops and tests. It speaks Kafka's protocol on the
// loopback interface, so other processes of the machine can use it, too. What it has acknowledged survives the kill of its
// process, not a power failure, and there is one copy of it: it is no production broker.
type Embedded struct {
	cluster *kfake.Cluster
}

// StartEmbedded starts a broker on what Dir holds.
func StartEmbedded(c EmbeddedConfig) (*Embedded, error) {
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.ClusterID("tempismo-embedded"),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return net.Listen(network, net.JoinHostPort("127.0.0.1", port))
		}),
		kfake.BrokerConfigs(map[string]string{
			// Retention drops whole segments, and a start reads each one into memory: small ones for both.
			"log.segment.bytes": strconv.Itoa(16 << 20),
			// Tables are compacted whenever this has passed, whatever min.compaction.lag.ms says.
			"log.cleaner.backoff.ms": "3600000",
		}),
	}
	if c.Port != 0 {
		opts = append(opts, kfake.Ports(c.Port))
	}
	if c.Dir != "" {
		opts = append(opts, kfake.DataDir(c.Dir))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("start the embedded broker on %q: %w", c.Dir, err)
	}
	return &Embedded{cluster}, nil
}

// Addr is its address, host:port.
func (e *Embedded) Addr() string { return e.cluster.ListenAddrs()[0] }

// Config is the configuration of a client of it.
func (e *Embedded) Config() Config { return Config{Brokers: []string{e.Addr()}} }

// Close stops it, cleanly: what it holds is complete on the disk.
func (e *Embedded) Close() error {
	e.cluster.Close()
	return nil
}
