package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tempismo/tempismo/pkg/stream"
)

// Fields of the meta hash. broadcastPrefix goes before the topic's name.
const (
	fieldOwner      = "owner"
	fieldEpoch      = "epoch"
	fieldPositions  = "positions"
	fieldPartitions = "partitions"
	fieldPartition  = "partition"
	fieldOutbox     = "outbox"
	fieldRebuilding = "rebuilding"
	broadcastPrefix = "broadcast "
)

// Answers of the scripts.
const (
	answerApplied = 1
	answerAlready = 0
	answerFenced  = -1
	answerOffset  = -2
	answerLost    = -3
)

// KEYS are always the meta and the state hash. Lua can unpack some thousand values and miniredis fewer, so what is many
// goes in chunks of 500.
const (
	// claimScript: ARGV token. Without positions nothing was ever committed, or it is lost: states that may still be there
	// belong to no position, and a rebuild over them would count twice.
	claimScript = `
if redis.call('HEXISTS', KEYS[1], 'positions') == 0 then redis.call('UNLINK', KEYS[2]) end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
return redis.call('HGETALL', KEYS[1])`

	// fence: ARGV token, positions.
	fence = `
local m = redis.call('HMGET', KEYS[1], 'owner', 'positions')
if not m[1] then return {-3} end
if m[1] ~= ARGV[1] then return {-1} end
local at = m[2] or ''
`
	checkScript = fence + `
if at ~= ARGV[2] then return {-2} end
return {1}`

	// loadScript: ARGV token, positions, key...
	loadScript = fence + `
if at ~= ARGV[2] then return {-2} end
local r = {1}
for i = 3, #ARGV, 500 do r[#r+1] = redis.call('HMGET', KEYS[2], unpack(ARGV, i, math.min(i+499, #ARGV))) end
return r`

	// commitScript: ARGV token, base, next, number of meta values, (field, value)..., (key, state)... A commit that moves
	// no position (one that clears the outbox) is applied again when it is repeated, which changes nothing. The owner is
	// written on a repeat, too, so that a WAIT on this connection has something to wait for.
	commitScript = fence + `
if at ~= ARGV[2] then
  if at ~= ARGV[3] then return {-2} end
  redis.call('HSET', KEYS[1], 'owner', ARGV[1])
  return {0}
end
local from = 5 + tonumber(ARGV[4])
redis.call('HSET', KEYS[1], unpack(ARGV, 5, from - 1))
for i = from, #ARGV, 1000 do redis.call('HSET', KEYS[2], unpack(ARGV, i, math.min(i+999, #ARGV))) end
return {1}`
)

// keys are the names of the two hashes of a partition.
func keys(group string, partition int32) (meta, state string) {
	tag := "{" + group + "." + strconv.Itoa(int(partition)) + "}"
	return tag + ":meta", tag + ":state"
}

// Claim implements stream.Store.
func (s *Store) Claim(ctx context.Context, group string, partition int32) (stream.Lease, error) {
	l := &lease{store: s, token: rand.Text()}
	l.metaKey, l.stateKey = keys(group, partition)
	flat, err := s.client.Eval(ctx, claimScript, []string{l.metaKey, l.stateKey}, l.token).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", l.metaKey, err)
	}
	fields := make(map[string]string, len(flat)/2)
	for i := 0; i+1 < len(flat); i += 2 {
		fields[flat[i]] = flat[i+1]
	}
	if l.meta, err = parseMeta(fields); err != nil {
		return nil, fmt.Errorf("claim %s: %w", l.metaKey, err)
	}
	l.positions = fields[fieldPositions]
	return l, nil
}

// Read implements stream.Store. Meta and values are of one moment.
func (s *Store) Read(ctx context.Context, group string, partition int32, names []string) (stream.Snapshot, error) {
	metaKey, stateKey := keys(group, partition)
	var snapshot stream.Snapshot
	tx := s.client.TxPipeline()
	meta := tx.HGetAll(ctx, metaKey)
	var values *goredis.SliceCmd
	if len(names) > 0 {
		values = tx.HMGet(ctx, stateKey, names...)
	}
	if _, err := tx.Exec(ctx); err != nil {
		return snapshot, fmt.Errorf("read %s: %w", stateKey, err)
	}
	var err error
	if snapshot.Meta, err = parseMeta(meta.Val()); err != nil {
		return snapshot, fmt.Errorf("read %s: %w", metaKey, err)
	}
	if values != nil {
		snapshot.Values = make([][]byte, len(names))
		fill(snapshot.Values, values.Val())
	}
	return snapshot, nil
}

// Scan implements stream.Store. A state that changes meanwhile is seen as it was or as it is.
func (s *Store) Scan(ctx context.Context, group string, partition int32, each func(key string, value []byte) bool) error {
	_, stateKey := keys(group, partition)
	// HSCAN gives a field twice when the hash grows meanwhile.
	seen := map[string]struct{}{}
	for cursor := uint64(0); ; {
		flat, next, err := s.client.HScan(ctx, stateKey, cursor, "", 1000).Result()
		if err != nil {
			return fmt.Errorf("scan %s: %w", stateKey, err)
		}
		for i := 0; i+1 < len(flat); i += 2 {
			if _, again := seen[flat[i]]; again {
				continue
			}
			seen[flat[i]] = struct{}{}
			if !each(flat[i], []byte(flat[i+1])) {
				return nil
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// lease is the right that one Claim gave. Its methods may be called from several goroutines, one works at a time.
type lease struct {
	store             *Store
	metaKey, stateKey string
	token             string
	meta              stream.Meta

	mu        sync.Mutex
	positions string // what the store holds as far as we know
	args      []any  // reused from commit to commit
}

// Meta implements stream.Lease.
func (l *lease) Meta() stream.Meta { return l.meta }

// Close implements stream.Lease: a lease holds no connection.
func (l *lease) Close() error { return nil }

// Check implements stream.Lease.
func (l *lease) Check(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	answer, err := l.store.client.Eval(ctx, checkScript, []string{l.metaKey, l.stateKey}, l.token, l.positions).Slice()
	if err == nil {
		err = verdict(answer)
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", l.metaKey, err)
	}
	return nil
}

// Load implements stream.Lease.
func (l *lease) Load(ctx context.Context, names []string, values [][]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	args := make([]any, 2, 2+len(names))
	args[0], args[1] = l.token, l.positions
	for i := range names {
		args = append(args, &names[i]) // a pointer goes into an interface without a copy on the heap
	}
	answer, err := l.store.client.Eval(ctx, loadScript, []string{l.metaKey, l.stateKey}, args...).Slice()
	if err == nil {
		err = verdict(answer)
	}
	if err != nil {
		return fmt.Errorf("load from %s: %w", l.stateKey, err)
	}
	at := 0
	for _, chunk := range answer[1:] {
		part, ok := chunk.([]any)
		if !ok || at+len(part) > len(values) {
			return fmt.Errorf("load from %s: the script answered %T", l.stateKey, chunk)
		}
		fill(values[at:], part)
		at += len(part)
	}
	if at != len(names) {
		return fmt.Errorf("load from %s: asked for %d states, got %d", l.stateKey, len(names), at)
	}
	return nil
}

// value lets go-redis write a []byte from a pointer, which goes into an interface without a copy on the heap.
type value []byte

// MarshalBinary implements encoding.BinaryMarshaler.
func (v *value) MarshalBinary() ([]byte, error) { return *v, nil }

// Commit implements stream.Lease.
func (l *lease) Commit(ctx context.Context, c *stream.Commit) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	base, next := positions(c.Base), positions(c.Next)
	a := append(l.args[:0], "eval", commitScript, 2, l.metaKey, l.stateKey, l.token, base, next, 0)
	count := len(a) - 1
	a = append(a, fieldPositions, next, fieldPartitions, int(c.Partitions), fieldPartition, (*value)(&c.Partition),
		fieldOutbox, (*value)(&c.Outbox), fieldRebuilding, (*value)(&c.Rebuilding))
	for topic, v := range c.Broadcast {
		a = append(a, broadcastPrefix+topic, v)
	}
	a[count] = len(a) - 1 - count
	for i := range c.Keys {
		a = append(a, &c.Keys[i], (*value)(&c.Values[i]))
	}
	l.args = a
	defer clear(a) // the next batch must not keep this one's memory

	cmd := goredis.NewCmd(ctx, a...)
	err := l.run(ctx, cmd)
	if err == nil {
		var answer []any
		if answer, err = cmd.Slice(); err == nil {
			err = verdict(answer)
		}
	}
	if err != nil {
		return fmt.Errorf("commit to %s: %w", l.stateKey, err)
	}
	l.positions = next
	return nil
}

// run sends the commit and, where it has to be on replicas, waits on the same connection: WAIT speaks of what its own
// connection has written.
func (l *lease) run(ctx context.Context, cmd *goredis.Cmd) error {
	if l.store.replicas == 0 {
		return l.store.client.Process(ctx, cmd)
	}
	pipe := l.store.client.Pipeline()
	if err := pipe.Process(ctx, cmd); err != nil {
		return err
	}
	wait := pipe.Do(ctx, "wait", l.store.replicas, l.store.patience.Milliseconds())
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	answer, err := cmd.Slice()
	if err != nil {
		return err
	}
	// Who is fenced has written nothing and need not hear about replicas.
	if err := verdict(answer); err != nil {
		return err
	}
	n, err := wait.Int()
	if err != nil {
		return err
	}
	if n < l.store.replicas {
		return fmt.Errorf("%d of %d replicas have it after %s", n, l.store.replicas, l.store.patience)
	}
	return nil
}

// verdict turns the first element of a script's answer into an error.
func verdict(answer []any) error {
	if len(answer) == 0 {
		return fmt.Errorf("the script answered nothing")
	}
	switch answer[0] {
	case int64(answerApplied), int64(answerAlready):
		return nil
	case int64(answerFenced):
		return stream.ErrFenced
	case int64(answerOffset):
		return stream.ErrOffset
	case int64(answerLost):
		return stream.ErrLost
	}
	return fmt.Errorf("the script answered %v", answer[0])
}

// fill copies what Redis answered, nil where there was nothing.
func fill(dst [][]byte, src []any) {
	for i, v := range src {
		dst[i] = nil
		if s, ok := v.(string); ok {
			dst[i] = []byte(s)
		}
	}
}

// positions writes positions in one canonical form, so that comparing texts compares positions: "topic=offset", sorted.
// It is empty where there are none.
func positions(m map[string]int64) string {
	var b []byte
	for _, topic := range slices.Sorted(maps.Keys(m)) {
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(b, topic...)
		b = append(b, '=')
		b = strconv.AppendInt(b, m[topic], 10)
	}
	return string(b)
}

// parseMeta reads the meta hash.
func parseMeta(fields map[string]string) (stream.Meta, error) {
	var m stream.Meta
	var err error
	if e := fields[fieldEpoch]; e != "" {
		if m.Epoch, err = strconv.ParseInt(e, 10, 64); err != nil {
			return m, fmt.Errorf("stored epoch: %w", err)
		}
	}
	stored, ok := fields[fieldPositions]
	if !ok {
		m.Lost = true
		return m, nil
	}
	m.Positions = map[string]int64{}
	for _, p := range strings.Fields(stored) {
		topic, offset, _ := strings.Cut(p, "=")
		if m.Positions[topic], err = strconv.ParseInt(offset, 10, 64); err != nil {
			return m, fmt.Errorf("stored position %q: %w", p, err)
		}
	}
	n, err := strconv.ParseInt(fields[fieldPartitions], 10, 32)
	if err != nil {
		return m, fmt.Errorf("stored partition count: %w", err)
	}
	m.Partitions = int32(n)
	m.Partition = bytesOf(fields[fieldPartition])
	m.Outbox = bytesOf(fields[fieldOutbox])
	m.Rebuilding = bytesOf(fields[fieldRebuilding])
	for name, v := range fields {
		if topic, ok := strings.CutPrefix(name, broadcastPrefix); ok {
			if m.Broadcast == nil {
				m.Broadcast = map[string][]byte{}
			}
			m.Broadcast[topic] = []byte(v)
		}
	}
	return m, nil
}

func bytesOf(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}
