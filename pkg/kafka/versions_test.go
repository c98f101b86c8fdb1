package kafka

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// minima are the oldest versions of requests that Kafka 4.0 knows (KIP-896), where that is not 0. The embedded broker knows
// older ones, so only this table notices. Kafka 4.1 took JoinGroup back to 0.
var minima = map[kmsg.Key]int16{
	kmsg.Produce: 3, kmsg.Fetch: 4, kmsg.ListOffsets: 1, kmsg.OffsetCommit: 2, kmsg.OffsetFetch: 1, kmsg.JoinGroup: 2,
	kmsg.CreateTopics: 2, kmsg.DeleteTopics: 1, kmsg.DeleteRecords: 0, kmsg.OffsetForLeaderEpoch: 2, kmsg.WriteTxnMarkers: 1,
	kmsg.DescribeACLs: 1, kmsg.CreateACLs: 1, kmsg.DeleteACLs: 1, kmsg.DescribeConfigs: 1, kmsg.AlterReplicaLogDirs: 1,
	kmsg.DescribeLogDirs: 1, kmsg.CreateDelegationToken: 1, kmsg.RenewDelegationToken: 1, kmsg.ExpireDelegationToken: 1,
	kmsg.DescribeDelegationToken: 1,
}

// sent are the requests that Tempismo sends, each of which the test must have seen.
var sent = []kmsg.Key{
	kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.FindCoordinator, kmsg.JoinGroup,
	kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.SyncGroup, kmsg.DescribeGroups, kmsg.SASLHandshake, kmsg.ApiVersions, kmsg.CreateTopics,
	kmsg.DeleteTopics, kmsg.InitProducerID, kmsg.DescribeConfigs, kmsg.SASLAuthenticate,
}

// Everything that both client libraries and the cursor send, to a broker of Kafka 4.0 and to one that knows newer requests,
// is of a version that Kafka 4.0 knows. It goes through SASL, because that is said in requests, too.
func TestEveryRequestIsOneThatKafka4Knows(t *testing.T) {
	for name, newest := range map[string]*kversion.Versions{"4.0": kversion.V4_0_0(), "newest": kversion.Stable()} {
		for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
			t.Run(name+"/"+mechanism, func(t *testing.T) {
				c, config := cluster(t, kfake.MaxVersions(newest), kfake.EnableSASL(), kfake.Superuser(mechanism, "anna", "secret"))
				config.SASL, config.Username, config.Password = strings.ToLower(mechanism), "anna", "secret"
				seen := watch(c)
				everything(t, config)
				judge(t, seen(), newest)
			})
		}
	}
}

// watch notes the versions of all requests that a cluster gets.
func watch(c *kfake.Cluster) (seen func() map[kmsg.Key][]int16) {
	var mu sync.Mutex
	all := map[kmsg.Key][]int16{}
	c.Control(func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		if k, v := kmsg.Key(r.Key()), r.GetVersion(); !slices.Contains(all[k], v) {
			all[k] = append(all[k], v)
		}
		return nil, nil, false
	})
	return func() map[kmsg.Key][]int16 {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(all)
	}
}

// everything does with a cluster what the services and the command do.
func everything(t *testing.T, config Config) {
	t.Helper()
	streamtest.TestLog(t, harness(t, config))
	ctx, run := within(t, time.Minute), stream.Run{ID: "r1"}
	if err := EnsureTopics(ctx, config, run, 2); err != nil {
		t.Fatal(err)
	}
	l := open(t, config)
	w := writer(t, l, run)
	if err := w.Write(ctx, topics.Events, []byte("anna"), []byte("{}"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Broadcast(ctx, topics.Models, []byte("{}"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	for _, from := range []Position{Earliest, Since(time.Now().Add(-time.Hour)), Last(1)} {
		if err := Range(ctx, l, topics.Events, from, Latest, func(*stream.Record) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Lag(ctx, run, []string{"profiler"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Describe(ctx, run, Names(run)...); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Versions(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Groups(ctx, run.Group("profiler")); err != nil {
		t.Fatal(err)
	}
	if err := l.SetGroupOffsets(ctx, run.Group("connector"), map[string]map[int32]int64{topics.Decisions: {0: 0}}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Clock(ctx); !errors.Is(err, ErrNoClock) { // the embedded broker answers as far as it can
		t.Fatal(err)
	}
}

func judge(t *testing.T, seen map[kmsg.Key][]int16, newest *kversion.Versions) {
	t.Helper()
	for _, k := range sent {
		if len(seen[k]) == 0 {
			t.Errorf("%s was never sent: the test sees less than there is", k.Name())
		}
	}
	var table []string
	for k, versions := range seen {
		most, ok := newest.LookupMaxKeyVersion(int16(k))
		for _, v := range versions {
			// Clients ask for a broker's versions in a version of their own choice, and go down if it is refused.
			if k != kmsg.ApiVersions && (!ok || v < minima[k] || v > most) {
				t.Errorf("%s is sent in version %d; Kafka knows %d to %d", k.Name(), v, minima[k], most)
			}
		}
		slices.Sort(versions)
		table = append(table, fmt.Sprintf("%s %v, from %d on", k.Name(), versions, minima[k]))
	}
	slices.Sort(table)
	t.Log(strings.Join(table, "\n"))
}
