package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tempismo/tempismo/pkg/stream"
)

// node is the server that holds a key: the only one that there is, or the primary of the key's slot.
//
// In a cluster every request goes to that one server and nowhere else. A client that follows a redirection, or tries again,
// does so unseen: a claim or a commit could take place twice, and a scan would go on where its cursor means nothing. So a
// server that has not got the slot (any more) is an error, after which the map of the cluster is read anew, and whoever asked
// tries again. While a slot moves from one server to another, its partition waits.
func (s *Store) node(ctx context.Context, key string) (*goredis.Client, error) {
	if s.cluster == nil {
		return s.single, nil
	}
	node, err := s.cluster.MasterForKey(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("find the server of %s in the cluster: %w", key, err)
	}
	return node, nil
}

// failed notes that a request failed, which in a cluster may mean that its map is out of date, and returns the error.
func (s *Store) failed(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, stream.ErrFenced), errors.Is(err, stream.ErrOffset), errors.Is(err, stream.ErrLost): // an answer
	case s.cluster != nil:
		s.cluster.ReloadState(ctx) // in the background, and not more often than is good
	case strings.HasPrefix(err.Error(), "MOVED "):
		return fmt.Errorf("%w: this is a Redis Cluster: set REDIS_CLUSTER=true", err)
	}
	return err
}

// primaries calls each for every server that takes writes, one after the other.
func (s *Store) primaries(ctx context.Context, each func(*goredis.Client) error) error {
	if s.cluster == nil {
		return each(s.single)
	}
	var one sync.Mutex
	return s.cluster.ForEachMaster(ctx, func(_ context.Context, node *goredis.Client) error {
		one.Lock()
		defer one.Unlock()
		if err := each(node); err != nil {
			return fmt.Errorf("%s: %w", node.Options().Addr, err)
		}
		return nil
	})
}

// Server is what a server says of itself, for those who look after it. What it does not answer is missing.
type Server struct {
	Addr     string
	Info     map[string]string // INFO: value by field
	Settings map[string]string // CONFIG GET: value by name
	Ahead    time.Duration     // its clock less ours, to about a round trip
	Clock    bool              // whether it told the time
}

// Servers asks every server that takes writes about itself and for some settings.
func (s *Store) Servers(ctx context.Context, settings ...string) ([]Server, error) {
	var found []Server
	err := s.primaries(ctx, func(r *goredis.Client) error {
		if err := r.Ping(ctx).Err(); err != nil {
			return fmt.Errorf("ping redis: %w", err)
		}
		one := Server{Addr: r.Options().Addr, Info: map[string]string{}, Settings: map[string]string{}}
		before := time.Now()
		if there, err := r.Time(ctx).Result(); err == nil {
			one.Ahead, one.Clock = there.Sub(before.Add(time.Since(before)/2)), true
		}
		for line := range strings.Lines(r.Info(ctx).Val()) {
			if field, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				one.Info[field] = value
			}
		}
		for _, name := range settings {
			if value, ok := r.ConfigGet(ctx, name).Val()[name]; ok {
				one.Settings[name] = value
			}
		}
		found = append(found, one)
		return nil
	})
	return found, err
}
