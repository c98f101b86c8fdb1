package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// topicsCmd lists and creates topics.
type topicsCmd struct {
	List   topicsList   `cmd:"" default:"withargs" help:"List the topics of a run, with partitions, records and retention."`
	Create topicsCreate `cmd:"" help:"Create the topics of a run that do not exist yet."`
}

// Help is the example.
func (*topicsCmd) Help() string {
	return "Example:\n  tempismo topics create --kafka-brokers localhost:9092 --partitions 32"
}

type topicsList struct {
	JSON bool `help:"Write a JSON list."`
	target
}

// Help is the example.
func (*topicsList) Help() string { return "Example:\n  tempismo topics list --json" }

// topicLine is one topic of a run.
type topicLine struct {
	Topic      string   `json:"topic"` // on the wire
	Kind       string   `json:"kind"`
	Exists     bool     `json:"exists"`
	Partitions int32    `json:"partitions"`
	Records    int64    `json:"records"` // retained
	Ends       []int64  `json:"ends"`    // by partition
	Retention  string   `json:"retention"`
	Writers    []string `json:"writers"`
	Readers    []string `json:"readers"`
}

// Run lists.
func (c *topicsList) Run(ctx context.Context, t terminal) (err error) {
	sys, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close()) }()
	lines, err := describe(ctx, sys)
	if err != nil {
		return err
	}
	if c.JSON {
		return t.json(lines)
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tKIND\tPARTITIONS\tRECORDS\tRETENTION\tWRITTEN BY\tREAD BY")
	for _, l := range lines {
		partitions, records := fmt.Sprint(l.Partitions), grouped(l.Records)
		if !l.Exists {
			partitions, records = "missing", ""
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Topic, l.Kind, partitions, records, l.Retention, strings.Join(l.Writers, ", "), strings.Join(l.Readers, ", "))
	}
	return w.Flush()
}

// describe lists the declared topics of a run as the broker has them.
func describe(ctx context.Context, sys *system) ([]topicLine, error) {
	var lines []topicLine
	for _, t := range topics.All {
		lines = append(lines, topicLine{Topic: sys.run.Topic(t.Name), Kind: string(t.Kind), Retention: kept(t), Writers: t.Writers, Readers: t.Readers})
		if t.DLQ {
			lines = append(lines, topicLine{Topic: sys.run.Topic(topics.DeadLetter(t.Name)), Kind: "dead letters", Retention: days(topics.DeadLetterRetention), Writers: t.LetterWriters(), Readers: []string{"operators"}})
		}
	}
	for i := range lines {
		l := &lines[i]
		info, err := sys.log.Topics(ctx, l.Topic)
		if errors.Is(err, stream.ErrUnknownTopic) {
			continue
		}
		if err != nil {
			return nil, err
		}
		from, err := kafka.Earliest(ctx, sys.log, l.Topic)
		if err != nil {
			return nil, err
		}
		to, err := kafka.Latest(ctx, sys.log, l.Topic)
		if err != nil {
			return nil, err
		}
		l.Exists, l.Partitions, l.Ends = true, info[l.Topic].Partitions, make([]int64, len(to))
		for p, end := range to {
			l.Ends[p] = end
			l.Records += end - from[p]
		}
	}
	return lines, nil
}

// kept says for how long records of a topic are kept.
func kept(t topics.Topic) string {
	if t.Kind == topics.Table {
		return "last of each key"
	}
	return days(t.Retention)
}

func days(d time.Duration) string { return fmt.Sprintf("%d days", d/(24*time.Hour)) }

type topicsCreate struct {
	Partitions int32 `default:"8" help:"Partitions of topics that do not exist yet. Keys, and with them profiles, are bound to their partition: choose it four times as large as you need today."`
	JSON       bool  `help:"Write a JSON list of the topics."`
	target
}

// Help is the example.
func (*topicsCreate) Help() string {
	return "Topics that exist are left as they are; one with another number of partitions is an error.\n\nExample:\n  tempismo topics create --kafka-brokers localhost:9092 --partitions 32"
}

// Run creates.
func (c *topicsCreate) Run(ctx context.Context, t terminal) (err error) {
	sys, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close()) }()
	if c.Partitions < 1 {
		return errors.New("--partitions: want at least 1")
	}
	if err := kafka.EnsureTopics(ctx, sys.kafka, sys.run, c.Partitions); err != nil {
		return err
	}
	lines, err := describe(ctx, sys)
	if err != nil {
		return err
	}
	if c.JSON {
		return t.json(lines)
	}
	names := make([]string, len(lines))
	for i, l := range lines {
		names[i] = fmt.Sprintf("%s with %d partitions", l.Topic, l.Partitions)
	}
	slices.Sort(names)
	fmt.Fprintln(t.out, strings.Join(names, "\n"))
	return nil
}
