package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/profiler"
)

// rebuild takes the profiler's state away, as a Redis without its data would, starts the profiler and waits until every
// partition is whole again.
func (s *System) rebuild(ctx context.Context, pre *Preloaded, f *Figures) error {
	if err := s.forget(ctx, s.Run.Group(profiler.Service)); err != nil {
		return err
	}
	ends := make([]int64, s.Partitions)
	var total int64
	for p := range s.Partitions {
		_, end, err := s.Log.Bounds(ctx, s.events(), p)
		if err != nil {
			return err
		}
		ends[p] = end
		total += end
	}
	cmd, err := s.service(profiler.Service)
	if err != nil {
		return err
	}
	began := time.Now()
	proc, err := start(cmd)
	if err != nil {
		return err
	}
	defer proc.stop()
	for p := range s.Partitions {
		for {
			m, err := s.Store.Peek(ctx, s.Run.Group(profiler.Service), p, nil)
			if err != nil {
				return err
			}
			if m.Positions[topics.Events] >= ends[p] && len(m.Rebuilding) == 0 {
				break
			}
			select {
			case <-proc.dead:
				return proc.ended()
			default:
			}
			if err := sleep(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
	f.RebuildSeconds = time.Since(began).Seconds()
	s.say("rebuilt the profiles of %d events in %.1f s", total, f.RebuildSeconds)
	proc.stop()
	if total == pre.records() {
		_, _, err = s.verifyProfiles(ctx, pre)
	}
	return err
}

// forget deletes what the store holds of a group.
func (s *System) forget(ctx context.Context, group string) error {
	r := s.redisClient()
	defer r.Close()
	keys := r.Scan(ctx, 0, "{"+group+".*", 1000).Iterator()
	n := 0
	for keys.Next(ctx) {
		if err := r.Unlink(ctx, keys.Val()).Err(); err != nil {
			return fmt.Errorf("empty the store: %w", err)
		}
		n++
	}
	if err := keys.Err(); err != nil {
		return fmt.Errorf("empty the store: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("the store holds nothing of %s: take the part %s, too", group, Profile)
	}
	return nil
}
