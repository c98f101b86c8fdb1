package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/tempismo/local"
)

// defaultPartitions is how many partitions topics get where nobody says otherwise.
const defaultPartitions = 8

// target says which system a command works on: Kafka and Redis at addresses, or a data folder.
type target struct {
	Kafka kafka.Config `embed:"" prefix:"kafka-" envprefix:"KAFKA_"`
	Redis redis.Config `embed:"" prefix:"redis-" envprefix:"REDIS_"`
	Data  string       `name:"data" type:"path" placeholder:"DIR" help:"Data folder of an embedded system, running or not. Default, where no address is given: the one that was used last."`
	Run   string       `name:"run" env:"RUN_ID" placeholder:"ID" help:"Run to work on. Default: the data folder's, otherwise r1."`
	Mode  string       `name:"run-mode" env:"RUN_MODE" enum:"auto,live,simulated" default:"auto" help:"live, simulated, or auto: whichever the run is."`
}

// addressed reports whether the command line or the environment names Kafka or Redis.
func (t *target) addressed() bool { return len(t.Kafka.Brokers) > 0 || t.Redis.Addr != "" }

// Validate names everything that is wrong.
func (t *target) Validate() error {
	if !t.addressed() {
		return nil
	}
	var errs []error
	if len(t.Kafka.Brokers) == 0 {
		errs = append(errs, errors.New("--redis-addr without --kafka-brokers: give both addresses (KAFKA_BROKERS, REDIS_ADDR), or a data folder with --data"))
	} else {
		errs = append(errs, t.Kafka.Validate())
	}
	if t.Redis.Addr != "" {
		errs = append(errs, t.Redis.Validate())
	}
	if t.Data != "" {
		errs = append(errs, errors.New("--data is for embedded systems: leave it out where --kafka-brokers is given"))
	}
	return errors.Join(errs...)
}

// system is a Kafka and a Redis that can be worked with.
type system struct {
	kafka kafka.Config
	redis redis.Config
	run   stream.Run
	dir   string // data folder; empty: there is none
	pair  *local.Pair
	log   *kafka.Log
	store *redis.Store // nil where no address of Redis is known
}

// open connects to the target. Where the folder's system is not running, the embedded pair is started on it for as long
// as the command lasts.
func (t *target) open(ctx context.Context) (*system, error) {
	s := &system{kafka: t.Kafka, redis: t.Redis, run: stream.Run{ID: t.Run, Simulated: t.Mode == "simulated"}}
	if !t.addressed() {
		s.dir = t.Data
		if s.dir == "" {
			s.dir = local.Last()
		}
		if s.dir == "" {
			return nil, errors.New("there is no system: start one with `tempismo up --demo`, or give --kafka-brokers and --redis-addr (KAFKA_BROKERS, REDIS_ADDR), or a folder with --data")
		}
		if a, ok := local.Running(s.dir); ok {
			s.at(a.Kafka, a.Redis)
		} else {
			if _, ok := local.Load(s.dir); !ok {
				return nil, fmt.Errorf("%s is no data folder: `tempismo up --data DIR` and `tempismo import FILE --data DIR` make one", s.dir)
			}
			if err := s.embed(s.dir, local.Ports{}); err != nil {
				return nil, err
			}
		}
		if held, ok := local.Load(s.dir); ok && (t.Run == "" || t.Run == held.Run) {
			s.run.ID = held.Run
			if t.Mode == "auto" {
				s.run.Simulated = held.Simulated
			}
		}
	}
	if s.run.ID == "" {
		s.run.ID = "r1"
	}
	if err := s.connect(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if t.Mode == "auto" && !s.run.Simulated {
		sim := stream.Run{ID: s.run.ID, Simulated: true}
		if _, err := s.log.Topics(ctx, sim.Topic(topics.Events)); err == nil {
			s.run = sim
		}
	}
	return s, nil
}

// at sets the addresses of an embedded pair.
func (s *system) at(kafkaAddr, redisAddr string) {
	s.kafka = kafka.Config{Brokers: []string{kafkaAddr}}
	s.redis = redis.Config{Addr: redisAddr}
}

// embed starts the pair on a folder.
func (s *system) embed(dir string, ports local.Ports) error {
	pair, err := local.Start(dir, ports)
	if err != nil {
		return err
	}
	s.dir, s.pair = dir, pair
	s.at(pair.Broker.Addr(), pair.Store.Addr())
	return local.Remember(dir)
}

func (s *system) connect(ctx context.Context) (err error) {
	if s.log, err = kafka.Open(ctx, s.kafka, kafka.Logger(slog.New(slog.DiscardHandler))); err != nil {
		return err
	}
	if s.redis.Addr != "" {
		s.store, err = redis.Open(ctx, s.redis)
	}
	return err
}

// needStore is for commands that read states.
func (s *system) needStore() error {
	if s.store == nil {
		return errors.New("where is Redis? give --redis-addr (REDIS_ADDR)")
	}
	return nil
}

// Close lets go of everything, the embedded pair last.
func (s *system) Close() error {
	var errs []error
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.pair != nil {
		errs = append(errs, s.pair.Close())
	}
	return errors.Join(errs...)
}

// partitions is the partition count of the run.
func (s *system) partitions(ctx context.Context) (int32, error) {
	name := s.run.Topic(topics.Events)
	info, err := s.log.Topics(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("run %q: `tempismo topics create` makes the topics: %w", s.run.ID, err)
	}
	return info[name].Partitions, nil
}

// topic checks a topic's name as users write it.
func topicName(name string) error {
	var names []string
	for _, t := range topics.All {
		if name == t.Name || t.DLQ && name == topics.DeadLetter(t.Name) {
			return nil
		}
		names = append(names, t.Name)
	}
	return fmt.Errorf("there is no topic %q: it is one of %s, or one of these with .dlq", name, strings.Join(names, ", "))
}

// isTerminal reports whether w shows to a person.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
