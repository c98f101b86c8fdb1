package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// usurper is the owner token of somebody who is no service.
const usurper = "usurper"

// usurp claims every partition of a service, as whoever takes it over does, and does nothing with it. The service, which
// does not know, must not commit under its old token: it has to find out and claim anew. A zombie is in the same position,
// but for the moment at which it finds out; here it is always under load.
func (r *Rig) usurp(ctx context.Context, service string) error {
	r.Note("claims of all partitions of the " + service + " by somebody else")
	var all sync.WaitGroup
	errs := make([]error, r.Partitions)
	for p := range r.Partitions {
		all.Go(func() {
			id, err := rival(ctx, r.Redis.Client(), fmt.Sprintf("{%s.%d}:meta", r.Run.Group(service), p))
			if err != nil {
				errs[p] = fmt.Errorf("claim partition %d of the %s: %w", p, service, err)
			}
			if id != "" {
				r.Found(Violation{Invariant: "L", What: service + " has committed to a partition that somebody else has claimed", IDs: []string{id}})
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// rival claims what stands at a key. It returns the positions that were committed before the owner had claimed it back.
func rival(ctx context.Context, client *goredis.Client, key string) (committed string, err error) {
	var before *goredis.StringCmd
	_, err = client.TxPipelined(ctx, func(tx goredis.Pipeliner) error {
		tx.HIncrBy(ctx, key, "epoch", 1)
		tx.HSet(ctx, key, "owner", usurper)
		before = tx.HGet(ctx, key, "positions")
		return nil
	})
	if err != nil {
		return "", err
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		now, err := client.HMGet(ctx, key, "owner", "positions").Result()
		if err != nil {
			return "", err
		}
		if now[0] != usurper {
			return "", nil
		}
		if positions, _ := now[1].(string); positions != before.Val() {
			return fmt.Sprintf("%s from %q to %q", key, before.Val(), positions), nil
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return "", err
		}
	}
	return "", nil
}
