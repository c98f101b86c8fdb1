package redis

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

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
	fieldPartial    = "partial"
	fieldFormat     = "format"
	broadcastPrefix = "broadcast "
)

// format is that of the meta hash, the states and the timers together: names, fields and how they are written. It goes up with a
// change that a program of before would misread. Where there is none it is 1.
const format = 1

// Answers of the scripts.
const (
	answerOurs   = 1
	answerFenced = -1
	answerOffset = -2
	answerLost   = -3
)

// KEYS are the meta hash, and after it what else the script reads. Lua can unpack some thousand values and miniredis fewer, so what is many
// goes in chunks of 500.
const (
	// claimScript: ARGV token, format. One who does not know the format claims nothing, so that he fences nobody. Without positions nothing was ever committed, or it is lost: states that may still be there
	// belong to no position, and a rebuild over them would count twice.
	claimScript = `
local f = redis.call('HGET', KEYS[1], 'format')
if f and tonumber(f) > tonumber(ARGV[2]) then return {'format', f} end
if redis.call('HEXISTS', KEYS[1], 'positions') == 0 then redis.call('UNLINK', KEYS[2], KEYS[3]) end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'format', ARGV[2])
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

	// pageScript: ARGV token, positions, cursor, about how many.
	pageScript = fence + `
if at ~= ARGV[2] then return {-2} end
local r = redis.call('HSCAN', KEYS[2], ARGV[3], 'COUNT', ARGV[4])
return {1, r[1], r[2]}`

	// dueScript: ARGV token, positions, number of timers less one.
	dueScript = fence + `
if at ~= ARGV[2] then return {-2} end
return {1, redis.call('ZRANGE', KEYS[2], 0, ARGV[3], 'WITHSCORES')}`
)

// keys are the names of what is stored of a partition: two hashes and a sorted set, in one slot of a cluster.
func keys(group string, partition int32) (meta, state, timers string) {
	tag := "{" + group + "." + strconv.Itoa(int(partition)) + "}"
	return tag + ":meta", tag + ":state", tag + ":timers"
}

// Claim implements stream.Store.
func (s *Store) Claim(ctx context.Context, group string, partition int32) (stream.Lease, error) {
	l := &lease{store: s, token: rand.Text()}
	l.metaKey, l.stateKey, l.timersKey = keys(group, partition)
	flat, err := l.script(ctx, claimScript, []string{l.metaKey, l.stateKey, l.timersKey}, l.token, format).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", l.metaKey, s.failed(ctx, err))
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
	return s.read(ctx, group, partition, names, func(tx goredis.Pipeliner, metaKey string) func() map[string]string {
		return tx.HGetAll(ctx, metaKey).Val
	})
}

// Peek implements stream.Store. Meta and values are of one moment.
func (s *Store) Peek(ctx context.Context, group string, partition int32, names []string) (stream.Snapshot, error) {
	small := []string{fieldFormat, fieldEpoch, fieldPositions, fieldPartitions, fieldRebuilding, fieldPartial}
	return s.read(ctx, group, partition, names, func(tx goredis.Pipeliner, metaKey string) func() map[string]string {
		some := tx.HMGet(ctx, metaKey, small...)
		return func() map[string]string {
			fields := map[string]string{}
			for i, v := range some.Val() {
				if text, ok := v.(string); ok {
					fields[small[i]] = text
				}
			}
			return fields
		}
	})
}

// read asks for values and for what of the meta hash look asks for.
func (s *Store) read(ctx context.Context, group string, partition int32, names []string, look func(goredis.Pipeliner, string) func() map[string]string) (stream.Snapshot, error) {
	metaKey, stateKey, _ := keys(group, partition)
	var snapshot stream.Snapshot
	node, err := s.node(ctx, metaKey)
	if err != nil {
		return snapshot, err
	}
	tx := node.TxPipeline()
	meta := look(tx, metaKey)
	var values *goredis.SliceCmd
	if len(names) > 0 {
		values = tx.HMGet(ctx, stateKey, names...)
	}
	if _, err := tx.Exec(ctx); err != nil {
		return snapshot, fmt.Errorf("read %s: %w", stateKey, s.failed(ctx, err))
	}
	if snapshot.Meta, err = parseMeta(meta()); err != nil {
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
	_, stateKey, _ := keys(group, partition)
	node, err := s.node(ctx, stateKey) // to the end: a cursor means nothing to another server
	if err != nil {
		return err
	}
	// HSCAN gives a field twice when the hash grows meanwhile.
	seen := map[string]struct{}{}
	for cursor := uint64(0); ; {
		flat, next, err := node.HScan(ctx, stateKey, cursor, "", 1000).Result()
		if err != nil {
			return fmt.Errorf("scan %s: %w", stateKey, s.failed(ctx, err))
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

// Page implements stream.Store.
func (s *Store) Page(ctx context.Context, group string, partition int32, cursor uint64, limit int) (names []string, values [][]byte, next uint64, err error) {
	_, stateKey, _ := keys(group, partition)
	node, err := s.node(ctx, stateKey)
	if err != nil {
		return nil, nil, 0, err
	}
	flat, next, err := node.HScan(ctx, stateKey, cursor, "", int64(limit)).Result()
	if err != nil {
		return nil, nil, 0, fmt.Errorf("page of %s: %w", stateKey, s.failed(ctx, err))
	}
	for i := 0; i+1 < len(flat); i += 2 {
		names, values = append(names, flat[i]), append(values, []byte(flat[i+1]))
	}
	return names, values, next, nil
}

// lease is the right that one Claim gave. Its methods may be called from several goroutines, one works at a time.
type lease struct {
	store *Store
	token string
	meta  stream.Meta

	metaKey, stateKey, timersKey string

	mu        sync.Mutex
	positions string // what the store holds as far as we know
	args      []any  // reused from commit to commit

	// Commits go over a connection of their own, on which the meta hash is being watched (see Commit).
	conn     *goredis.Conn
	watching bool // and was ours, at positions, when the watch began
}

// script runs a script on the server that holds the partition. While a slot moves, a server refuses a script that names a key
// which it has not got, so names are only those that the script needs.
func (l *lease) script(ctx context.Context, script string, names []string, args ...any) *goredis.Cmd {
	node, err := l.store.node(ctx, l.metaKey)
	if err != nil {
		none := goredis.NewCmd(ctx)
		none.SetErr(err)
		return none
	}
	return node.Eval(ctx, script, names, args...)
}

// Meta implements stream.Lease.
func (l *lease) Meta() stream.Meta { return l.meta }

// Close implements stream.Lease.
func (l *lease) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.disconnect()
	return nil
}

// disconnect gives up the connection and the watch on it.
func (l *lease) disconnect() {
	if l.conn != nil {
		l.conn.Close() // what it may complain about is that it was broken
	}
	l.conn, l.watching = nil, false
}

// Check implements stream.Lease.
func (l *lease) Check(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	answer, err := l.script(ctx, checkScript, []string{l.metaKey}, l.token, l.positions).Slice()
	if err == nil {
		err = verdict(answer)
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", l.metaKey, l.store.failed(ctx, err))
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
	answer, err := l.script(ctx, loadScript, []string{l.metaKey, l.stateKey}, args...).Slice()
	if err == nil {
		err = verdict(answer)
	}
	if err != nil {
		return fmt.Errorf("load from %s: %w", l.stateKey, l.store.failed(ctx, err))
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

// Page implements stream.Lease.
func (l *lease) Page(ctx context.Context, cursor uint64, limit int) (names []string, values [][]byte, next uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	answer, err := l.script(ctx, pageScript, []string{l.metaKey, l.stateKey}, l.token, l.positions, strconv.FormatUint(cursor, 10), limit).Slice()
	if err == nil {
		err = verdict(answer)
	}
	if err == nil {
		names, values, next, err = parsePage(answer[1:])
	}
	if err != nil {
		return nil, nil, 0, fmt.Errorf("page of %s: %w", l.stateKey, l.store.failed(ctx, err))
	}
	return names, values, next, nil
}

// parsePage reads the answer to HSCAN.
func parsePage(answer []any) (names []string, values [][]byte, next uint64, err error) {
	if len(answer) != 2 {
		return nil, nil, 0, fmt.Errorf("the script answered %v", answer)
	}
	cursor, _ := answer[0].(string)
	if next, err = strconv.ParseUint(cursor, 10, 64); err != nil {
		return nil, nil, 0, fmt.Errorf("the cursor is %v: %w", answer[0], err)
	}
	flat, _ := answer[1].([]any)
	for i := 0; i+1 < len(flat); i += 2 {
		name, _ := flat[i].(string)
		v, _ := flat[i+1].(string)
		names, values = append(names, name), append(values, []byte(v))
	}
	return names, values, next, nil
}

// Due implements stream.Lease.
func (l *lease) Due(ctx context.Context, until time.Time, limit int) (due []stream.Timer, next time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("due timers of %s: %w", l.timersKey, err)
		}
	}()
	answer, err := l.script(ctx, dueScript, []string{l.metaKey, l.timersKey}, l.token, l.positions, limit).Slice()
	if err == nil {
		err = verdict(answer)
	}
	if err != nil {
		return nil, next, l.store.failed(ctx, err)
	}
	flat, _ := answer[1].([]any)
	for i := 0; i+1 < len(flat); i += 2 {
		t, err := parseTimer(flat[i], flat[i+1])
		if err != nil {
			return nil, next, err
		}
		if t.Due.After(until) || len(due) == limit {
			next = t.Due
			break
		}
		due = append(due, t)
	}
	slices.SortFunc(due, func(a, b stream.Timer) int {
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.Key, b.Key), cmp.Compare(a.ID, b.ID))
	})
	return due, next, nil
}

// member is a timer in the sorted set: the length of its key, a colon, key and id. Its score is the due time in Unix ms.
func member(t *stream.Timer) string { return strconv.Itoa(len(t.Key)) + ":" + t.Key + t.ID }

func parseTimer(name, score any) (t stream.Timer, err error) {
	m, _ := name.(string)
	s, _ := score.(string)
	length, rest, _ := strings.Cut(m, ":")
	n, err1 := strconv.Atoi(length)
	ms, err2 := strconv.ParseFloat(s, 64)
	if err1 != nil || err2 != nil || n < 0 || n > len(rest) {
		return t, fmt.Errorf("stored timer %q with score %v is damaged", m, score)
	}
	return stream.Timer{Key: rest[:n], ID: rest[n:], Due: time.UnixMilli(int64(ms)).UTC()}, nil
}

// value lets go-redis write a []byte from a pointer, which goes into an interface without a copy on the heap.
type value []byte

// MarshalBinary implements encoding.BinaryMarshaler.
func (v *value) MarshalBinary() ([]byte, error) { return *v, nil }

// Commit implements stream.Lease.
//
// It is one round trip without a script, which costs Redis half of what a script does: a transaction that only takes place
// if the meta hash has not been touched since it was looked at, followed by the watch and the look for the next commit.
//
//	MULTI, HSET state ..., HDEL state ..., ZADD timers ..., ZREM timers ..., HSET meta ..., EXEC, WATCH meta, HMGET meta owner positions
//
// Where there is no watch (the first commit, and the one after any error) a WATCH and a look come first. That is also how
// a commit whose reply was lost finds out that it had taken place.
func (l *lease) Commit(ctx context.Context, c *stream.Commit) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.commit(ctx, c)
	if err != nil {
		l.disconnect()
		return fmt.Errorf("commit to %s: %w", l.stateKey, l.store.failed(ctx, err))
	}
	return nil
}

func (l *lease) commit(ctx context.Context, c *stream.Commit) error {
	base, next := positions(c.Base), positions(c.Next)
	already := false
	if !l.watching || l.positions != base {
		at, err := l.watch(ctx)
		switch {
		case err != nil:
			return err
		case at == base:
		case at == next:
			already = true
		default:
			return stream.ErrOffset
		}
	}
	if already {
		l.positions, l.watching = next, true
		if l.store.replicas == 0 {
			return nil
		}
		// WAIT speaks of what its own connection has written, so this one writes something.
		return l.transact(ctx, next, next, []any{"hset", l.metaKey, fieldOwner, l.token})
	}

	a := append(l.args[:0], "hset", l.metaKey, fieldPositions, next, fieldPartitions, int(c.Partitions), fieldPartition, (*value)(&c.Partition),
		fieldOutbox, (*value)(&c.Outbox), fieldRebuilding, (*value)(&c.Rebuilding), fieldPartial, c.Partial)
	for topic, v := range c.Broadcast {
		a = append(a, broadcastPrefix+topic, v)
	}
	meta := len(a)
	if len(c.Keys) > 0 {
		a = append(a, "hset", l.stateKey)
		for i := range c.Keys {
			a = append(a, &c.Keys[i], (*value)(&c.Values[i])) // a pointer goes into an interface without a copy on the heap
		}
	}
	l.args = a
	defer clear(a) // the next batch must not keep this one's memory
	var gone []any
	if len(c.Gone) > 0 {
		gone = append(make([]any, 0, 2+len(c.Gone)), "hdel", l.stateKey)
		for i := range c.Gone {
			gone = append(gone, c.Gone[i])
		}
	}
	set, reset := l.timers(c.Timers)
	return l.transact(ctx, base, next, a[meta:], gone, set, reset, a[:meta])
}

// timers are the commands that bring the sorted set up to date; one that has nothing to do is nil.
func (l *lease) timers(changed []stream.Timer) (set, reset []any) {
	for i := range changed {
		t := &changed[i]
		switch {
		case !t.Due.IsZero():
			if set == nil {
				set = []any{"zadd", l.timersKey}
			}
			set = append(set, t.Due.UnixMilli(), member(t))
		default:
			if reset == nil {
				reset = []any{"zrem", l.timersKey}
			}
			reset = append(reset, member(t))
		}
	}
	return set, reset
}

// watch begins the watch and returns the stored positions, if the partition is still ours.
func (l *lease) watch(ctx context.Context) (positions string, err error) {
	if l.conn == nil {
		node, err := l.store.node(ctx, l.metaKey)
		if err != nil {
			return "", err
		}
		// Ephemeral: a connection that watches must not go back to the pool.
		l.conn = node.EphemeralConn()
	}
	pipe := l.conn.Pipeline()
	pipe.Do(ctx, "watch", l.metaKey)
	look := pipe.HMGet(ctx, l.metaKey, fieldOwner, fieldPositions)
	if _, err := pipe.Exec(ctx); err != nil {
		return "", err
	}
	return l.ours(look)
}

// ours reads a look at the meta hash.
func (l *lease) ours(look *goredis.SliceCmd) (positions string, err error) {
	v := look.Val()
	if len(v) != 2 || v[0] == nil {
		return "", stream.ErrLost
	}
	if v[0] != l.token {
		return "", stream.ErrFenced
	}
	positions, _ = v[1].(string) // nothing, before the first commit
	return positions, nil
}

// transact sends commands that take place together, if nothing happened since the watch began, and begins the next watch.
// Empty commands are left out.
func (l *lease) transact(ctx context.Context, base, next string, commands ...[]any) error {
	pipe := l.conn.Pipeline()
	pipe.Do(ctx, "multi")
	for _, args := range commands {
		if len(args) > 0 {
			pipe.Do(ctx, args...)
		}
	}
	exec := pipe.Do(ctx, "exec")
	pipe.Do(ctx, "watch", l.metaKey)
	look := pipe.HMGet(ctx, l.metaKey, fieldOwner, fieldPositions)
	var wait *goredis.Cmd
	if l.store.replicas > 0 {
		wait = pipe.Do(ctx, "wait", l.store.replicas, l.store.patience.Milliseconds())
	}
	sent, err := pipe.Exec(ctx)
	if err != nil && len(sent) == 0 {
		return err
	}
	for _, cmd := range sent {
		if err := cmd.Err(); err != nil && !(cmd == exec && errors.Is(err, goredis.Nil)) {
			return err
		}
	}
	at, err := l.ours(look)
	if errors.Is(exec.Err(), goredis.Nil) { // the watch saw a change: nothing was written
		switch {
		case err != nil:
			return err
		case at == next && base != next: // by an earlier attempt of this very commit, which arrived late
		case at == base:
			return errors.New("the meta hash was touched meanwhile")
		default:
			return stream.ErrOffset
		}
	}
	if results, ok := exec.Val().([]any); ok {
		for _, r := range results {
			if failed, ok := r.(error); ok {
				return failed
			}
		}
	}
	if wait != nil {
		n, err := wait.Int()
		if err != nil {
			return err
		}
		if n < l.store.replicas {
			return fmt.Errorf("%d of %d replicas have it after %s", n, l.store.replicas, l.store.patience)
		}
	}
	// It is written. If somebody has claimed the partition since, the next call will say so.
	l.positions, l.watching = next, err == nil && at == next
	return nil
}

// verdict turns the first element of a script's answer into an error.
func verdict(answer []any) error {
	if len(answer) == 0 {
		return fmt.Errorf("the script answered nothing")
	}
	switch answer[0] {
	case int64(answerOurs):
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
	if f := fields[fieldFormat]; f != "" {
		if n, err := strconv.Atoi(f); err != nil || n < 1 || n > format {
			return m, fmt.Errorf("%w: version %s, this program reads version %d: run the newer one (docs/operations.md, Upgrades and rollback)", stream.ErrFormat, f, format)
		}
	}
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
	m.Partial = fields[fieldPartial] == "1"
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
