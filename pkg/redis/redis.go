// Package redis keeps the state of the services in Redis: it implements stream.Store.
//
// For each (group, partition number) there are two hashes and a sorted set, {<group>.<partition>}:meta (owner, epoch, positions,
// partition state, broadcast values, outbox), {<group>.<partition>}:state (key to state) and {<group>.<partition>}:timers
// (pending timers by due time). The hash tag keeps them in one slot.
// A change is one transaction, so that states, positions and outbox move together or not at all, and it takes place only
// if the caller still owns the partition and knows where it stands; so does a load, which is a script.
//
// It is not a cache and not a general client: nothing expires, nothing is retried here (stream owns back-off, and a retry
// below it could apply a commit twice unseen), no redirection of a cluster is followed, and reads go to the primary. A Redis
// that may evict is refused.
package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/tempismo/tempismo/pkg/config"
)

// Config is set by operators.
type Config struct {
	Addr     string        `name:"addr" env:"ADDR" default:"localhost:6379" placeholder:"HOST:PORT" help:"Redis primary. Several nodes of a Redis Cluster, with commas between, tell of the others."`
	Cluster  bool          `name:"cluster" env:"CLUSTER" help:"The address is of a Redis Cluster, also where it is only one."`
	Username string        `name:"username" env:"USERNAME" help:"ACL user."`
	Password config.Secret `name:"password" env:"PASSWORD" help:"Password of the ACL user."`
	DB       int           `name:"db" env:"DB" default:"0" help:"Database number."`
	TLS      bool          `name:"tls" env:"TLS" help:"Connect with TLS."`
	CAFile   string        `name:"ca-file" env:"CA_FILE" placeholder:"FILE" help:"PEM file of the authorities that sign the server's certificate. Empty: the system's."`
	Durable  string        `name:"durable" env:"DURABLE" placeholder:"replicas:N" help:"Wait until N replicas have a commit before its outputs are published. Empty: do not wait."`
}

// Validate reports every unusable setting; it contacts nobody.
func (c Config) Validate() error {
	var problems []error
	for _, addr := range c.addrs() {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			problems = append(problems, fmt.Errorf("REDIS_ADDR: %w: give host:port", err))
		}
	}
	switch {
	case c.DB < 0:
		problems = append(problems, fmt.Errorf("REDIS_DB: %d: give a number from 0 on", c.DB))
	case c.DB > 0 && c.clustered():
		problems = append(problems, fmt.Errorf("REDIS_DB: %d: a Redis Cluster has database 0 only: leave it out", c.DB))
	}
	if c.CAFile != "" && !c.TLS {
		problems = append(problems, errors.New("REDIS_CA_FILE is set but REDIS_TLS is not: set REDIS_TLS=true or take the file away"))
	}
	if c.Username != "" && c.Password == "" {
		problems = append(problems, errors.New("REDIS_USERNAME is set but REDIS_PASSWORD is not: set both or neither"))
	}
	if _, err := c.replicas(); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// addrs are the addresses given.
func (c Config) addrs() []string { return strings.Split(c.Addr, ",") }

// clustered reports whether they are of a Redis Cluster.
func (c Config) clustered() bool { return c.Cluster || strings.Contains(c.Addr, ",") }

// replicas is the N of DURABLE=replicas:N, 0 if it is not set.
func (c Config) replicas() (int, error) {
	if c.Durable == "" {
		return 0, nil
	}
	after, ok := strings.CutPrefix(c.Durable, "replicas:")
	n, err := strconv.Atoi(after)
	if !ok || err != nil || n < 1 {
		return 0, fmt.Errorf("REDIS_DURABLE: %q: give replicas:N with N from 1 on", c.Durable)
	}
	return n, nil
}

// Store implements stream.Store on one Redis primary, or on the primaries of a Redis Cluster.
type Store struct {
	single    *goredis.Client        // nil: it is a cluster
	cluster   *goredis.ClusterClient // nil: it is one server
	replicas  int
	patience  time.Duration // of a commit that waits for replicas
	unchecked []string
}

const (
	// ioTimeout bounds one reply. A commit of thousands of profiles takes a tenth of a second on a loaded machine.
	ioTimeout = 10 * time.Second
	// waitTimeout bounds how long a commit waits for its replicas; then it counts as failed and is repeated.
	waitTimeout = 5 * time.Second
	// bufferSize of a connection: commits and loads are large, and few connections are open.
	bufferSize = 256 << 10
	// maxConnections is beyond what one process owns partitions of.
	maxConnections = 1024
)

// Open connects and checks that the server will keep what it is given. It fails if the server does not answer.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	replicas, err := c.replicas()
	if err != nil {
		return nil, err
	}
	options := &goredis.UniversalOptions{
		Addrs: c.addrs(), Username: c.Username, Password: string(c.Password), DB: c.DB,
		// A second execution hidden inside the client would look like another owner's commit.
		MaxRetries:            -1,
		ContextTimeoutEnabled: true,
		ReadTimeout:           ioTimeout, WriteTimeout: ioTimeout,
		ReadBufferSize: bufferSize, WriteBufferSize: bufferSize,
		// Every owned partition holds a connection for its commits; the rest come and go.
		PoolSize: maxConnections, PipelinePoolSize: -1,
		// It is a protocol of a hosted product: others answer it with an error on every connection.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if options.TLSConfig, err = c.tls(); err != nil {
		return nil, err
	}
	s := &Store{replicas: replicas, patience: waitTimeout}
	if c.clustered() {
		s.cluster = goredis.NewClusterClient(options.Cluster())
	} else {
		s.single = goredis.NewClient(options.Simple())
	}
	if err := s.check(ctx); err != nil {
		switch {
		case !c.TLS && errors.Is(err, io.EOF):
			err = fmt.Errorf("%w: if it speaks TLS, set REDIS_TLS=true", err)
		case c.TLS && errors.As(err, new(tls.RecordHeaderError)):
			err = fmt.Errorf("%w: it does not speak TLS: leave REDIS_TLS out, or give its TLS port", err)
		}
		return nil, errors.Join(fmt.Errorf("redis at %s: %w", c.Addr, err), s.Close())
	}
	return s, nil
}

// tls is how to speak TLS; nil where it is not to be spoken.
func (c Config) tls() (*tls.Config, error) {
	if !c.TLS {
		return nil, nil
	}
	// Without a name: each server of a cluster must prove to be the one that was dialled.
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("REDIS_CA_FILE: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("REDIS_CA_FILE: %s holds no certificate in PEM format", c.CAFile)
		}
	}
	return t, nil
}

// check refuses servers that will not do.
func (s *Store) check(ctx context.Context) error {
	if s.cluster != nil {
		switch _, err := s.cluster.MasterForKey(ctx, ""); { // reads the map
		case err == nil:
		case strings.Contains(err.Error(), "cluster support disabled"):
			return fmt.Errorf("%w: it is no Redis Cluster: give one address and leave REDIS_CLUSTER out", err)
		default:
			return fmt.Errorf("cluster slots: %w: is it running, reachable from here, and may the user say cluster slots?", err)
		}
	}
	return s.primaries(ctx, func(r *goredis.Client) error { return s.checkServer(ctx, r) })
}

// checkServer refuses a server that evicts keys when its memory is full: a profile would be forgotten without a word.
func (s *Store) checkServer(ctx context.Context, r *goredis.Client) error {
	if err := r.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping: %w: is it running, and reachable from here?", err)
	}
	// A user who may not say MULTI would write what follows it, unfenced.
	if _, err := r.TxPipelined(ctx, func(p goredis.Pipeliner) error { return p.Ping(ctx).Err() }); err != nil {
		return fmt.Errorf("transactions: %w: allow the user multi, exec and watch", err)
	}
	if s.cluster == nil && strings.Contains(r.Info(ctx, "cluster").Val(), "cluster_enabled:1") {
		return errors.New("it is a node of a Redis Cluster: set REDIS_CLUSTER=true")
	}
	policy, err := r.ConfigGet(ctx, "maxmemory-policy").Result()
	switch p := policy["maxmemory-policy"]; {
	case err != nil || p == "":
		if unknown := "maxmemory-policy: CONFIG is not answered; make sure that it is noeviction"; !slices.Contains(s.unchecked, unknown) {
			s.unchecked = append(s.unchecked, unknown)
		}
	case p != "noeviction":
		return fmt.Errorf("maxmemory-policy is %s: set it to noeviction, or profiles are forgotten when memory is full", p)
	}
	return nil
}

// Ping asks whether the server, or every primary of the cluster, answers.
func (s *Store) Ping(ctx context.Context) error {
	err := s.primaries(ctx, func(r *goredis.Client) error { return r.Ping(ctx).Err() })
	if err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	return nil
}

// Unchecked lists what Open could not check, because the server does not answer the question, each with what to do.
func (s *Store) Unchecked() []string { return s.unchecked }

// Close closes the connections.
func (s *Store) Close() error {
	if s.cluster != nil {
		return s.cluster.Close()
	}
	return s.single.Close()
}
