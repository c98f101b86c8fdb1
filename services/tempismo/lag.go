package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector"
	"github.com/tempismo/tempismo/services/ingest"
)

// lagCmd shows how far behind the services are.
type lagCmd struct {
	Sources string `name:"sources" env:"SOURCES" type:"path" placeholder:"FILE" help:"As ingest has it: the topics of others that are read (docs/sources.md)."`
	JSON    bool   `help:"Write a JSON list, one entry for each service, topic and partition."`
	target
}

// Help is the example.
func (*lagCmd) Help() string { return "Example:\n  tempismo lag --kafka-brokers localhost:9092" }

// Run shows the lag.
func (c *lagCmd) Run(ctx context.Context, t terminal) (err error) {
	sys, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close()) }()
	readers, err := ingest.Readers(runOf(sys.run), c.Sources)
	if err != nil {
		return fmt.Errorf("%w: %w", config.ErrUsage, err)
	}
	lag, err := backlog(ctx, sys, append(working[:len(working):len(working)], connector.Service))
	if err != nil {
		return err
	}
	var unknown error // a topic of others that is not there yet is no reason to say nothing of the rest
	for _, r := range readers {
		of, err := sys.log.GroupLag(ctx, r.Group, r.Topic)
		if err != nil {
			unknown = errors.Join(unknown, fmt.Errorf("lag of %s: %w", r.Service, err))
		}
		for i := range of {
			of[i].Service = r.Service
		}
		lag = append(lag, of...)
	}
	if c.JSON {
		if lag == nil {
			lag = []kafka.PartitionLag{}
		}
		return errors.Join(unknown, t.json(lag))
	}
	return errors.Join(unknown, printLag(t, lag))
}

// backlog is the lag in the topics that services follow through their consumer group. Models are left out, which change
// once a day and which a service with a pinned model does not read, and all that the connector looks up by itself: it follows decisions.
func backlog(ctx context.Context, sys *system, services []string) ([]kafka.PartitionLag, error) {
	all, err := sys.log.Lag(ctx, sys.run, services)
	return slices.DeleteFunc(all, func(l kafka.PartitionLag) bool {
		return l.Topic == topics.Models || l.Topic != topics.Decisions && l.Service == connector.Service
	}), err
}

// printLag adds the partitions up.
func printLag(t terminal, lag []kafka.PartitionLag) error {
	type sum struct {
		service, topic     string
		partitions, unread int64
		behind             time.Duration
		never              bool
	}
	var sums []*sum
	for _, l := range lag {
		var s *sum
		for _, have := range sums {
			if have.service == l.Service && have.topic == l.Topic {
				s = have
			}
		}
		if s == nil {
			s = &sum{service: l.Service, topic: l.Topic, never: true}
			sums = append(sums, s)
		}
		s.partitions++
		s.unread += l.Records
		s.behind = max(s.behind, l.Behind)
		s.never = s.never && l.Offset < 0
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tTOPIC\tPARTITIONS\tUNREAD\tBEHIND")
	for _, s := range sums {
		behind := s.behind.Round(time.Second).String()
		if s.never && s.unread > 0 {
			behind += " (nothing read yet)"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", s.service, s.topic, s.partitions, grouped(s.unread), behind)
	}
	return w.Flush()
}
