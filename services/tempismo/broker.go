package main

import (
	"context"
	"fmt"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/tempismo/local"
)

// brokerCmd runs the embedded pair alone. It is for developers, and for tests that kill a service in another process.
type brokerCmd struct {
	Data       string `required:"" type:"path" placeholder:"DIR" help:"Data folder."`
	KafkaPort  int    `default:"0" help:"Port of the broker; 0: any that is free."`
	RedisPort  int    `default:"0" help:"Port of the store; 0: any that is free."`
	Run_       string `name:"run" default:"r1" help:"Run whose topics are created."`
	Simulated  bool   `help:"The run is a simulated one."`
	Partitions int32  `default:"8" help:"Partitions of topics that do not exist yet."`
}

// Help is the example.
func (*brokerCmd) Help() string {
	return "It writes the two addresses as environment variables, one a line, and runs until it is told to stop.\n\nExample:\n  tempismo broker --data ./dev"
}

// Run runs the pair.
func (c *brokerCmd) Run(ctx context.Context, t terminal) error {
	pair, err := local.Start(c.Data, local.Ports{Kafka: c.KafkaPort, Redis: c.RedisPort})
	if err != nil {
		return err
	}
	defer pair.Close()
	run := stream.Run{ID: c.Run_, Simulated: c.Simulated}
	if err := local.Save(c.Data, local.System{Run: run.ID, Simulated: run.Simulated, Partitions: c.Partitions}); err != nil {
		return err
	}
	if err := kafka.EnsureTopics(ctx, pair.Broker.Config(), run, c.Partitions); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "KAFKA_BROKERS=%s\nREDIS_ADDR=%s\n", pair.Broker.Addr(), pair.Store.Addr())
	<-ctx.Done()
	return nil
}
