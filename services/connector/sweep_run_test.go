package connector

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

func TestContactsOnTheEmbeddedPair(t *testing.T) {
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	store, err := redis.StartEmbedded(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	testContacts(t, strings.Join(broker.Config().Brokers, ","), store.Addr(), "r1")
}

func TestRealContacts(t *testing.T) {
	if os.Getenv("TEMPISMO_REAL") != "1" {
		t.Skip("TEMPISMO_REAL is not set: run it with scripts/real")
	}
	testContacts(t, os.Getenv("KAFKA_BROKERS"), os.Getenv("REDIS_ADDR"), fmt.Sprintf("contacts-%d", time.Now().UnixNano()))
}

// testContacts goes from the environment to the properties of a CRM's contacts, over two lives of the service.
func testContacts(t *testing.T, brokers, addr, id string) {
	const customers, partitions = 60, 2
	ctx, run := t.Context(), stream.Run{ID: id, Simulated: true}
	fake := sandbox.HubSpot("token")
	server := httptest.NewServer(fake)
	defer server.Close()
	env := map[string]string{
		"CONNECTOR_TARGET": "hubspot", "HUBSPOT_TOKEN": "token", "HUBSPOT_EMAIL_ID": "7", "HUBSPOT_SIMULATED_TARGET": server.URL, "CONNECTOR_ATTRIBUTES": "true",
		"KAFKA_BROKERS": brokers, "REDIS_ADDR": addr, "RUN_ID": id, "RUN_MODE": "simulated",
	}
	var c Config
	if err := config.Parse(&c, "connector", nil, func(name string) (string, bool) { v, ok := env[name]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	if err := kafka.EnsureTopics(ctx, c.Kafka, run, partitions); err != nil {
		t.Fatal(err)
	}
	store, err := redis.Open(ctx, c.Redis)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	learn := func(version int64, hour int, who ...string) {
		t.Helper()
		by := map[int32][]string{}
		for p := range int32(partitions) {
			by[p] = nil
		}
		for _, name := range who {
			p := stream.Partition([]byte(name), partitions)
			by[p] = append(by[p], name)
		}
		for p, names := range by {
			lease, err := store.Claim(ctx, run.Group(profilerService), p)
			if err != nil {
				t.Fatal(err)
			}
			commit := &stream.Commit{Base: lease.Meta().Positions, Next: map[string]int64{topics.Events: version}, Partitions: partitions}
			for _, name := range names {
				commit.Keys, commit.Values = append(commit.Keys, name), append(commit.Values, reads(t, hour, 60).Append(nil))
			}
			if err := lease.Commit(ctx, commit); err != nil {
				t.Fatal(err)
			}
			lease.Close()
		}
	}
	live := func(until func() bool) {
		t.Helper()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		health := &app.Health{}
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, c, app.Settings{Health: health}) }()
		for range 1200 {
			if until() {
				break
			}
			select {
			case err := <-ended:
				t.Fatalf("ended by itself: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
		}
		if ready, components := health.State(); !ready {
			t.Errorf("not ready: %v", components)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	var all []string
	for i := range customers {
		all = append(all, address(i))
	}
	over := func(n int64) func() bool { // so many passes of both partitions are over
		return func() bool {
			for p := range int32(partitions) {
				seen, err := store.Read(ctx, run.Group(Sweep), p, nil)
				var at stage
				if err != nil || seen.Positions[topics.Events] < n || at.decode(seen.Partition) != nil || at.Phase != resting {
					return false
				}
			}
			return true
		}
	}
	learn(1, 10, all...)
	live(over(1))
	if got, writes := fake.Contacts(), len(fakeWrites(fake)); len(got) != customers || writes != customers || got[address(3)]["tempismo_zone"] != "Europe/Rome" {
		t.Fatalf("%d contacts after %d writes, such as %v", len(got), writes, got[address(3)])
	}
	learn(2, 20, all[:3]...)
	for p := range int32(partitions) { // the next pass is due
		lease, err := store.Claim(ctx, run.Group(Sweep), p)
		if err != nil {
			t.Fatal(err)
		}
		at := lease.Meta().Positions
		if err := lease.Commit(ctx, &stream.Commit{Base: at, Next: map[string]int64{topics.Events: at[topics.Events] + 1}, Partitions: partitions}); err != nil {
			t.Fatal(err)
		}
		lease.Close()
	}
	live(func() bool { return len(fakeWrites(fake)) >= customers+3 })
	if writes := len(fakeWrites(fake)); writes != customers+3 {
		t.Errorf("%d writes after three of %d have changed", writes, customers)
	}
}

func fakeWrites(f *sandbox.Fake) []sandbox.Written {
	all, _ := f.Written()
	return all
}
