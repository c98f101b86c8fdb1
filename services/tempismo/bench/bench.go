// Package bench measures what Tempismo costs on a real Kafka and a real Redis: how fast a backlog is drained, what that takes of
// processor and memory, how late an event shows as a decision, and how near all of it is to what a bare loop reaches.
//
// What is measured are processes: the services' own programs, and the comparison jobs of this package (see Serve). It is
// no test: nothing here fails because something was slow. It fails where the count is wrong.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"

	tempredis "github.com/tempismo/tempismo/pkg/redis"
)

// System is what is measured on. Kafka and Redis are the bench's own: it writes millions of records and empties the store.
type System struct {
	KafkaConfig kafka.Config
	RedisConfig tempredis.Config
	Log         *kafka.Log
	Store       *tempredis.Store
	Run         stream.Run // simulated: months of event time pass in seconds
	Partitions  int32
	Embedded    bool      // broker and store are in this process, and not worth measuring
	Programs    string    // folder of the services' programs, and of tempismo itself
	Profiles    string    // folder for profiles of the services under load; empty: none are taken
	Say         io.Writer // progress

	broker, store int // process ids, 0 where they are not to be seen
}

// Prepare makes the topics of the run and looks for the processes behind the addresses.
func (s *System) Prepare(ctx context.Context) error {
	if err := kafka.EnsureTopics(ctx, s.KafkaConfig, s.Run, s.Partitions); err != nil {
		return err
	}
	if s.Embedded {
		return nil
	}
	s.broker, s.store = listener(s.KafkaConfig.Brokers[0]), listener(s.RedisConfig.Addr)
	if s.broker == 0 || s.store == 0 {
		s.say("the processes of Kafka and Redis are not to be seen from here: their processor time is not measured")
	}
	return nil
}

// createTopic makes a topic that is no part of the product, for outputs of comparison jobs.
func (s *System) createTopic(ctx context.Context, name string) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = kadm.NewClient(client).CreateTopic(ctx, s.Partitions, -1, nil, name)
	if err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	for { // usable once every partition has a leader
		ends, err := kadm.NewClient(client).ListEndOffsets(ctx, name)
		if err == nil && ends.Error() == nil && len(ends[name]) == int(s.Partitions) {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// client is a producer like those of others: not ours, so that what is measured reads foreign batches.
func (s *System) client(opts ...kgo.Opt) (*kgo.Client, error) {
	if s.KafkaConfig.TLS || s.KafkaConfig.SASL != "" {
		return nil, errors.New("the bench speaks plain text to Kafka: leave out KAFKA_TLS and KAFKA_SASL")
	}
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.KafkaConfig.Brokers...)}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("prepare the Kafka client: %w", err)
	}
	return c, nil
}

// events is the name on the wire of what is preloaded.
func (s *System) events() string { return s.Run.Topic(topics.Events) }

func (s *System) say(format string, args ...any) { fmt.Fprintf(s.Say, format+"\n", args...) }

// digestEvery is the event time that a digest of the profiler covers. An hour, which is the default of a simulated run, would
// hold a few hundred events of these: a live partition takes thousands for each of its digests, which cover a minute.
const digestEvery = 24 * time.Hour

// service is the command of one of the services, or under a profile the same job in a process that takes it.
func (s *System) service(name string) (*exec.Cmd, error) {
	admin, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(s.Programs, name))
	if _, err := os.Stat(cmd.Path); err != nil || s.Profiles != "" {
		cmd = exec.Command(filepath.Join(s.Programs, "tempismo"), "bench-service", name)
		if s.Profiles != "" {
			cmd.Args = append(cmd.Args, "--profile", s.Profiles)
		}
	}
	mode := "live"
	if s.Run.Simulated {
		mode = "simulated"
	}
	cmd.Env = append(os.Environ(), "KAFKA_BROKERS="+strings.Join(s.KafkaConfig.Brokers, ","), "REDIS_ADDR="+s.RedisConfig.Addr,
		"RUN_ID="+s.Run.ID, "RUN_MODE="+mode, "ADMIN_LISTEN="+admin, "LOG_LEVEL=WARN", "PIXEL_CONSENT=assumed", "DIGEST_EVERY="+digestEvery.String())
	return cmd, nil
}

// adminOf is where a service that this package started serves its metrics.
func adminOf(cmd *exec.Cmd) string {
	admin := ""
	for _, v := range cmd.Env {
		if a, ok := strings.CutPrefix(v, "ADMIN_LISTEN="); ok {
			admin = a
		}
	}
	return admin
}

// freePort is an address on the loopback interface at which nobody listens.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// redisClient speaks to Redis beside the store: for figures of memory, and to empty it.
func (s *System) redisClient() *redis.Client {
	c := &s.RedisConfig
	return redis.NewClient(&redis.Options{Addr: c.Addr, Username: c.Username, Password: string(c.Password), DB: c.DB,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
}

// memory is what Redis uses; false where it does not say.
func (s *System) memory(ctx context.Context) (int64, bool) {
	r := s.redisClient()
	defer r.Close()
	info, err := r.Info(ctx, "memory").Result()
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			n, err := strconv.ParseInt(v, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
