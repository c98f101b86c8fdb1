package streamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

// StoreHarness says how the suite gets at a Store.
type StoreHarness struct {
	// Open returns a client of the one store that all of a test's clients share.
	Open func(t *testing.T) stream.Store
	// Lose deletes everything that is stored of a partition, behind the owner's back.
	Lose func(t *testing.T, group string, partition int32)
	// Snapshot remembers what is stored of a partition; the returned function puts it back, token and all, as a failover
	// to a stale replica does. nil: those tests are skipped.
	Snapshot func(t *testing.T, group string, partition int32) (restore func())
}

// TestStore is what every stream.Store must pass. It uses groups with random names and leaves them behind.
func TestStore(t *testing.T, h StoreHarness) {
	type fixture struct {
		*testing.T
		stream.Store
		ctx   context.Context
		group string
	}
	claim := func(f fixture) stream.Lease {
		f.Helper()
		l, err := f.Claim(f.ctx, f.group, 3)
		if err != nil {
			f.Fatalf("claim: %v", err)
		}
		f.Cleanup(func() { l.Close() })
		return l
	}
	commit := func(f fixture, l stream.Lease, c stream.Commit) {
		f.Helper()
		if err := l.Commit(f.ctx, &c); err != nil {
			f.Fatalf("commit %v to %v: %v", c.Base, c.Next, err)
		}
	}
	load := func(f fixture, l stream.Lease, keys ...string) [][]byte {
		f.Helper()
		values := make([][]byte, len(keys))
		if err := l.Load(f.ctx, keys, values); err != nil {
			f.Fatalf("load: %v", err)
		}
		return values
	}
	expect := func(f fixture, what string, got, want error) {
		f.Helper()
		if !errors.Is(got, want) {
			f.Errorf("%s: got error %v, want %v", what, got, want)
		}
	}
	at := func(n int64) map[string]int64 { return map[string]int64{"in": n} }
	clock := func(second int) time.Time { return time.UnixMilli(1_790_000_000_001 + int64(second)*1000).UTC() }
	timer := func(key, id string, due int) stream.Timer { return stream.Timer{Key: key, ID: id, Due: clock(due)} }
	due := func(f fixture, l stream.Lease, until, limit int, want []string, wantNext int) {
		f.Helper()
		timers, next, err := l.Due(f.ctx, clock(until), limit)
		if err != nil {
			f.Fatalf("due: %v", err)
		}
		var got []string
		for _, t := range timers {
			got = append(got, fmt.Sprintf("%s/%s@%d", t.Key, t.ID, int(t.Due.Sub(clock(0)).Seconds())))
		}
		if !slices.Equal(got, want) || wantNext == 0 && !next.IsZero() || wantNext != 0 && !next.Equal(clock(wantNext)) {
			f.Errorf("due at %d, at most %d: %q, next %v; want %q, next %d", until, limit, got, next, want, wantNext)
		}
	}
	first := func() stream.Commit {
		return stream.Commit{
			Next: map[string]int64{"in": 5, "models": 1}, Keys: []string{"ann", "bob"}, Values: [][]byte{[]byte("a\x00\xff\r\n"), {}},
			Partition: []byte("part\x00"), Broadcast: map[string][]byte{"models": []byte("m1")}, Outbox: []byte("out\x00box"), Partitions: 8, Rebuilding: []byte("in=9"), Partial: true,
		}
	}

	for _, c := range []struct {
		name string
		run  func(f fixture)
	}{
		{"a claim of what was never stored is lost, and so is the next one until something is committed", func(f fixture) {
			a := claim(f)
			if m := a.Meta(); !m.Lost || m.Epoch != 1 || len(m.Positions) != 0 {
				f.Errorf("first claim: %+v", m)
			}
			b := claim(f)
			if m := b.Meta(); !m.Lost || m.Epoch != 2 {
				f.Errorf("second claim: %+v", m)
			}
			expect(f, "commit of the first", a.Commit(f.ctx, &stream.Commit{Next: at(1)}), stream.ErrFenced)
			expect(f, "check of the first", a.Check(f.ctx), stream.ErrFenced)
			if v := load(f, b, "ann"); v[0] != nil {
				f.Errorf("a state out of nothing: %q", v[0])
			}
		}},
		{"what one owner committed the next one finds, byte for byte", func(f fixture) {
			c := first()
			commit(f, claim(f), c)
			l := claim(f)
			m := l.Meta()
			if m.Lost || !m.Partial || m.Epoch != 2 || m.Partitions != 8 || !maps.Equal(m.Positions, c.Next) || !bytes.Equal(m.Partition, c.Partition) ||
				!bytes.Equal(m.Outbox, c.Outbox) || !bytes.Equal(m.Rebuilding, c.Rebuilding) || !bytes.Equal(m.Broadcast["models"], []byte("m1")) {
				f.Errorf("meta: %+v", m)
			}
			if v := load(f, l, "nobody", "ann", "bob"); v[0] != nil || !bytes.Equal(v[1], c.Values[0]) || len(v[2]) != 0 {
				f.Errorf("values: %q", v)
			}
		}},
		{"a commit replaces outbox, rebuilding and partition state, but keeps the broadcast values that did not change", func(f fixture) {
			l := claim(f)
			commit(f, l, first())
			next := map[string]int64{"in": 6, "models": 1}
			commit(f, l, stream.Commit{Base: first().Next, Next: next, Partition: []byte("p2"), Partitions: 8, Broadcast: map[string][]byte{"policies": []byte("p1")}})
			m := claim(f).Meta()
			if len(m.Outbox) != 0 || len(m.Rebuilding) != 0 || m.Partial || string(m.Partition) != "p2" || string(m.Broadcast["models"]) != "m1" || string(m.Broadcast["policies"]) != "p1" {
				f.Errorf("meta: %+v", m)
			}
		}},
		{"a commit that moves no position still takes effect: it clears the outbox at shutdown", func(f fixture) {
			l := claim(f)
			commit(f, l, first())
			commit(f, l, stream.Commit{Base: first().Next, Next: first().Next, Partition: []byte("part\x00"), Partitions: 8})
			if m := claim(f).Meta(); len(m.Outbox) != 0 || len(m.Rebuilding) != 0 || !maps.Equal(m.Positions, first().Next) {
				f.Errorf("meta: %+v", m)
			}
		}},
		{"a repeated commit is answered as done, and the owner goes on", func(f fixture) {
			l := claim(f)
			c := first()
			commit(f, l, c)
			commit(f, l, c)
			next := map[string]int64{"in": 7, "models": 1}
			c2 := stream.Commit{Base: c.Next, Next: next, Keys: []string{"ann"}, Values: [][]byte{[]byte("2")}, Partitions: 8}
			commit(f, l, c2)
			commit(f, l, c2)
			if err := l.Check(f.ctx); err != nil {
				f.Errorf("check: %v", err)
			}
			if v := load(f, l, "ann"); string(v[0]) != "2" {
				f.Errorf("value %q", v[0])
			}
		}},
		{"a zombie is fenced at commit, load and check, and changes nothing", func(f fixture) {
			old := claim(f)
			commit(f, old, first())
			l := claim(f)
			c := stream.Commit{Base: first().Next, Next: map[string]int64{"in": 8, "models": 1}, Keys: []string{"ann"}, Values: [][]byte{[]byte("zombie")}, Partitions: 8}
			expect(f, "commit", old.Commit(f.ctx, &c), stream.ErrFenced)
			expect(f, "load", old.Load(f.ctx, []string{"ann"}, make([][]byte, 1)), stream.ErrFenced)
			expect(f, "check", old.Check(f.ctx), stream.ErrFenced)
			if v := load(f, l, "ann"); string(v[0]) != string(first().Values[0]) {
				f.Errorf("value %q", v[0])
			}
			c.Values[0] = []byte("heir")
			commit(f, l, c)
			expect(f, "commit of what the heir committed too", old.Commit(f.ctx, &c), stream.ErrFenced)
		}},
		{"a commit from positions that are not the stored ones is refused", func(f fixture) {
			l := claim(f)
			commit(f, l, first())
			expect(f, "commit", l.Commit(f.ctx, &stream.Commit{Base: at(4), Next: at(6), Partitions: 8}), stream.ErrOffset)
			expect(f, "commit from nothing", l.Commit(f.ctx, &stream.Commit{Next: at(6), Partitions: 8}), stream.ErrOffset)
		}},
		{"a new input joins the positions", func(f fixture) {
			l := claim(f)
			commit(f, l, stream.Commit{Next: at(5), Partitions: 8})
			both := map[string]int64{"in": 5, "more": 2}
			commit(f, l, stream.Commit{Base: at(5), Next: both, Partitions: 8})
			if m := claim(f).Meta(); !maps.Equal(m.Positions, both) {
				f.Errorf("positions %v", m.Positions)
			}
		}},
		{"an owner whose partition vanished is told that it is lost", func(f fixture) {
			l := claim(f)
			commit(f, l, first())
			h.Lose(f.T, f.group, 3)
			expect(f, "check", l.Check(f.ctx), stream.ErrLost)
			expect(f, "load", l.Load(f.ctx, []string{"ann"}, make([][]byte, 1)), stream.ErrLost)
			expect(f, "commit", l.Commit(f.ctx, &stream.Commit{Base: first().Next, Next: map[string]int64{"in": 9, "models": 1}, Partitions: 8}), stream.ErrLost)
			if m := claim(f).Meta(); !m.Lost || len(m.Positions) != 0 || len(m.Outbox) != 0 || len(m.Broadcast) != 0 {
				f.Errorf("meta %+v", m)
			}
			if v := load(f, claim(f), "ann"); v[0] != nil {
				f.Errorf("a lost state came back: %q", v[0])
			}
		}},
		{"after a rollback to the same owner the positions differ", func(f fixture) {
			if h.Snapshot == nil {
				f.Skip("this store cannot be rolled back")
			}
			l := claim(f)
			commit(f, l, first())
			restore := h.Snapshot(f.T, f.group, 3)
			next := map[string]int64{"in": 9, "models": 1}
			commit(f, l, stream.Commit{Base: first().Next, Next: next, Keys: []string{"ann"}, Values: [][]byte{[]byte("late")}, Partitions: 8})
			restore()
			expect(f, "check", l.Check(f.ctx), stream.ErrOffset)
			expect(f, "load", l.Load(f.ctx, []string{"ann"}, make([][]byte, 1)), stream.ErrOffset)
			expect(f, "commit", l.Commit(f.ctx, &stream.Commit{Base: next, Next: map[string]int64{"in": 10, "models": 1}, Partitions: 8}), stream.ErrOffset)
			heir := claim(f)
			if m := heir.Meta(); !maps.Equal(m.Positions, first().Next) || string(m.Outbox) != string(first().Outbox) {
				f.Errorf("meta %+v", m)
			}
			if v := load(f, heir, "ann"); string(v[0]) != string(first().Values[0]) {
				f.Errorf("value %q", v[0])
			}
		}},
		{"after a rollback to an earlier owner the later one is fenced, whatever the number of claims", func(f fixture) {
			if h.Snapshot == nil {
				f.Skip("this store cannot be rolled back")
			}
			commit(f, claim(f), first())
			restore := h.Snapshot(f.T, f.group, 3)
			late := claim(f) // epoch 2
			restore()
			heir := claim(f) // epoch 2 again, another token
			expect(f, "check", late.Check(f.ctx), stream.ErrFenced)
			expect(f, "commit", late.Commit(f.ctx, &stream.Commit{Base: first().Next, Next: map[string]int64{"in": 9, "models": 1}, Partitions: 8}), stream.ErrFenced)
			if err := heir.Check(f.ctx); err != nil {
				f.Errorf("the heir: %v", err)
			}
		}},
		{"five thousand states and a large outbox go in one commit and come back in one load", func(f fixture) {
			l := claim(f)
			r := rand.New(rand.NewPCG(1, 2))
			c := stream.Commit{Next: at(5000), Partitions: 8, Outbox: make([]byte, 3<<20)}
			for i := range c.Outbox {
				c.Outbox[i] = byte(r.Uint32())
			}
			for i := range 5000 {
				v := make([]byte, 100+r.IntN(200))
				for j := range v {
					v[j] = byte(r.Uint32())
				}
				c.Keys, c.Values = append(c.Keys, fmt.Sprintf("customer-%d", i)), append(c.Values, v)
			}
			commit(f, l, c)
			commit(f, l, c)
			for i, v := range load(f, l, c.Keys...) {
				if !bytes.Equal(v, c.Values[i]) {
					f.Fatalf("key %s differs", c.Keys[i])
				}
			}
			heir := claim(f)
			if !bytes.Equal(heir.Meta().Outbox, c.Outbox) {
				f.Error("the outbox differs")
			}
			seen := 0
			if err := f.Scan(f.ctx, f.group, 3, func(key string, value []byte) bool {
				seen++
				return true
			}); err != nil || seen != 5000 {
				f.Errorf("scan saw %d keys, error %v", seen, err)
			}
		}},
		{"a reader that is not the owner sees values, meta and every key, and disturbs nobody", func(f fixture) {
			if s, err := f.Read(f.ctx, f.group, 3, []string{"ann"}); err != nil || !s.Lost || len(s.Values) != 1 || s.Values[0] != nil {
				f.Errorf("read of nothing: %+v, %v", s, err)
			}
			if s, err := f.Peek(f.ctx, f.group, 3, nil); err != nil || !s.Lost {
				f.Errorf("peek at nothing: %+v, %v", s, err)
			}
			l := claim(f)
			commit(f, l, first())
			s, err := f.Read(f.ctx, f.group, 3, []string{"ann", "nobody"})
			if err != nil || s.Lost || !maps.Equal(s.Positions, first().Next) || string(s.Rebuilding) != "in=9" || string(s.Values[0]) != string(first().Values[0]) || s.Values[1] != nil {
				f.Errorf("read: %+v, %v", s, err)
			}
			s, err = f.Peek(f.ctx, f.group, 3, []string{"ann", "nobody"})
			if err != nil || s.Lost || !s.Partial || s.Partitions != 8 || s.Epoch != 1 || !maps.Equal(s.Positions, first().Next) || string(s.Rebuilding) != "in=9" || string(s.Values[0]) != string(first().Values[0]) || s.Values[1] != nil {
				f.Errorf("peek: %+v, %v", s, err)
			}
			if s.Partition != nil || s.Outbox != nil || s.Broadcast != nil {
				f.Errorf("peek is large: %+v", s)
			}
			got := map[string]string{}
			if err := f.Scan(f.ctx, f.group, 3, func(k string, v []byte) bool { got[k] = string(v); return true }); err != nil ||
				!maps.Equal(got, map[string]string{"ann": string(first().Values[0]), "bob": ""}) {
				f.Errorf("scan: %q, %v", got, err)
			}
			n := 0
			if err := f.Scan(f.ctx, f.group, 3, func(string, []byte) bool { n++; return false }); err != nil || n != 1 {
				f.Errorf("a scan that was told to stop went on: %d keys, %v", n, err)
			}
			if err := l.Check(f.ctx); err != nil {
				f.Errorf("the owner: %v", err)
			}
		}},
		{"partitions and groups do not see each other", func(f fixture) {
			commit(f, claim(f), first())
			for _, where := range []struct {
				group     string
				partition int32
			}{{f.group, 30}, {f.group + "x", 3}} {
				s, err := f.Read(f.ctx, where.group, where.partition, []string{"ann"})
				if err != nil || !s.Lost || s.Values[0] != nil {
					f.Errorf("%v: %+v, %v", where, s, err)
				}
			}
		}},
		{"a commit deletes states, and a repeated one as well", func(f fixture) {
			l := claim(f)
			commit(f, l, first())
			next := map[string]int64{"in": 6, "models": 1}
			c := stream.Commit{Base: first().Next, Next: next, Keys: []string{"eve"}, Values: [][]byte{[]byte("e")}, Gone: []string{"ann", "nobody"}, Partitions: 8}
			commit(f, l, c)
			commit(f, l, c)
			if v := load(f, claim(f), "ann", "bob", "eve"); v[0] != nil || len(v[1]) != 0 || string(v[2]) != "e" {
				f.Errorf("values: %q", v)
			}
		}},
		{"a commit that is not applied deletes nothing", func(f fixture) {
			old := claim(f)
			commit(f, old, first())
			l := claim(f)
			c := stream.Commit{Base: first().Next, Next: map[string]int64{"in": 6, "models": 1}, Gone: []string{"ann"}, Partitions: 8}
			expect(f, "commit of a zombie", old.Commit(f.ctx, &c), stream.ErrFenced)
			c.Base = at(3)
			expect(f, "commit from elsewhere", l.Commit(f.ctx, &c), stream.ErrOffset)
			if v := load(f, l, "ann"); string(v[0]) != string(first().Values[0]) {
				f.Errorf("value %q", v[0])
			}
		}},
		{"pages show every state that stays, also while others come and go", func(f fixture) {
			l := claim(f)
			if names, _, next, err := l.Page(f.ctx, 0, 10); err != nil || len(names) != 0 || next != 0 {
				f.Errorf("page of nothing: %q, next %d, %v", names, next, err)
			}
			c := stream.Commit{Next: at(1), Partitions: 8}
			for i := range 3000 {
				c.Keys, c.Values = append(c.Keys, fmt.Sprintf("stays-%d", i)), append(c.Values, fmt.Append(nil, i))
			}
			commit(f, l, c)
			seen := map[string]string{}
			pages, cursor, position := 0, uint64(0), int64(1)
			for {
				names, values, next, err := l.Page(f.ctx, cursor, 100)
				if err != nil {
					f.Fatal(err)
				}
				for i, name := range names {
					seen[name] = string(values[i])
				}
				pages++
				if cursor = next; cursor == 0 {
					break
				}
				churn := stream.Commit{Base: at(position), Next: at(position + 1), Partitions: 8, Keys: []string{fmt.Sprintf("comes-%d", position)}, Values: [][]byte{{1}}}
				if position > 1 {
					churn.Gone = []string{fmt.Sprintf("comes-%d", position-1)}
				}
				commit(f, l, churn)
				position++
			}
			for i, name := range c.Keys {
				if seen[name] != fmt.Sprint(i) {
					f.Fatalf("%s was seen as %q in %d pages", name, seen[name], pages)
				}
			}
		}},
		{"pages show every state to a reader that is not the owner, and disturb nobody", func(f fixture) {
			if names, _, next, err := f.Page(f.ctx, f.group, 3, 0, 10); err != nil || len(names) != 0 || next != 0 {
				f.Errorf("page of nothing: %q, next %d, %v", names, next, err)
			}
			l := claim(f)
			c := stream.Commit{Next: at(1), Partitions: 8}
			for i := range 3000 {
				c.Keys, c.Values = append(c.Keys, fmt.Sprintf("customer-%d", i)), append(c.Values, fmt.Append(nil, i))
			}
			commit(f, l, c)
			seen, pages := map[string]string{}, 0
			for cursor := uint64(0); ; {
				names, values, next, err := f.Page(f.ctx, f.group, 3, cursor, 100)
				if err != nil {
					f.Fatal(err)
				}
				for i, name := range names {
					seen[name] = string(values[i])
				}
				pages++
				if cursor = next; cursor == 0 {
					break
				}
			}
			for i, name := range c.Keys {
				if seen[name] != fmt.Sprint(i) {
					f.Fatalf("%s was seen as %q in %d pages", name, seen[name], pages)
				}
			}
			if len(seen) != len(c.Keys) {
				f.Errorf("%d states in %d pages", len(seen), pages)
			}
			if err := l.Check(f.ctx); err != nil {
				f.Errorf("the owner: %v", err)
			}
		}},
		{"pages are shown to nobody but the owner who knows where he stands", func(f fixture) {
			l := claim(f)
			commit(f, l, first())
			heir := claim(f)
			_, _, _, err := l.Page(f.ctx, 0, 10)
			expect(f, "a zombie asks", err, stream.ErrFenced)
			if h.Snapshot != nil {
				restore := h.Snapshot(f.T, f.group, 3)
				commit(f, heir, stream.Commit{Base: first().Next, Next: map[string]int64{"in": 6, "models": 1}, Partitions: 8})
				restore()
				_, _, _, err = heir.Page(f.ctx, 0, 10)
				expect(f, "after a rollback", err, stream.ErrOffset)
			}
			h.Lose(f.T, f.group, 3)
			_, _, _, err = heir.Page(f.ctx, 0, 10)
			expect(f, "after a loss", err, stream.ErrLost)
		}},
		{"timers come back by due time, and say when the next is due", func(f fixture) {
			l := claim(f)
			commit(f, l, stream.Commit{Next: at(1), Partitions: 8, Timers: []stream.Timer{timer("bob", "r2", 7), timer("ann", "r1", 5), timer("ann:1", "r\x001", 9)}})
			due(f, l, 4, 10, nil, 5)
			due(f, l, 5, 10, []string{"ann/r1@5"}, 7)
			due(f, l, 8, 10, []string{"ann/r1@5", "bob/r2@7"}, 9)
			due(f, l, 9, 10, []string{"ann/r1@5", "bob/r2@7", "ann:1/r\x001@9"}, 0)
			due(f, l, 9, 2, []string{"ann/r1@5", "bob/r2@7"}, 9)
			due(f, l, 9, 0, nil, 5)
		}},
		{"a commit sets timers, sets them anew and takes them away", func(f fixture) {
			l := claim(f)
			commit(f, l, stream.Commit{Next: at(1), Partitions: 8, Timers: []stream.Timer{timer("ann", "r1", 5), timer("ann", "r2", 6), timer("bob", "r1", 7)}})
			commit(f, l, stream.Commit{Base: at(1), Next: at(2), Partitions: 8, Timers: []stream.Timer{timer("ann", "r1", 8), {Key: "ann", ID: "r2"}, {Key: "bob", ID: "never"}}})
			due(f, claim(f), 9, 10, []string{"bob/r1@7", "ann/r1@8"}, 0)
		}},
		{"a commit that is not applied leaves the timers alone", func(f fixture) {
			old := claim(f)
			commit(f, old, stream.Commit{Next: at(1), Partitions: 8, Timers: []stream.Timer{timer("ann", "r1", 5)}})
			l := claim(f)
			c := stream.Commit{Base: at(1), Next: at(2), Partitions: 8, Timers: []stream.Timer{{Key: "ann", ID: "r1"}, timer("bob", "r1", 6)}}
			expect(f, "commit of a zombie", old.Commit(f.ctx, &c), stream.ErrFenced)
			c.Base = at(3)
			expect(f, "commit from elsewhere", l.Commit(f.ctx, &c), stream.ErrOffset)
			due(f, l, 9, 10, []string{"ann/r1@5"}, 0)
		}},
		{"timers are shown to nobody but the owner who knows where he stands", func(f fixture) {
			l := claim(f)
			commit(f, l, stream.Commit{Next: at(1), Partitions: 8, Timers: []stream.Timer{timer("ann", "r1", 5)}})
			heir := claim(f)
			_, _, err := l.Due(f.ctx, clock(9), 10)
			expect(f, "a zombie asks", err, stream.ErrFenced)
			if h.Snapshot != nil {
				restore := h.Snapshot(f.T, f.group, 3)
				commit(f, heir, stream.Commit{Base: at(1), Next: at(2), Partitions: 8, Timers: []stream.Timer{{Key: "ann", ID: "r1"}, timer("bob", "r1", 6)}})
				restore()
				_, _, err = heir.Due(f.ctx, clock(9), 10)
				expect(f, "after a rollback", err, stream.ErrOffset)
				due(f, claim(f), 9, 10, []string{"ann/r1@5"}, 0)
			}
			h.Lose(f.T, f.group, 3)
			_, _, err = heir.Due(f.ctx, clock(9), 10)
			expect(f, "after a loss", err, stream.ErrLost)
			due(f, claim(f), 9, 10, nil, 0)
		}},
		{"twenty thousand timers go in one commit", func(f fixture) {
			l := claim(f)
			c := stream.Commit{Next: at(1), Partitions: 8}
			for i := range 20_000 {
				c.Timers = append(c.Timers, stream.Timer{Key: fmt.Sprintf("customer-%d", i), ID: "r", Due: clock(1 + i%100)})
			}
			commit(f, l, c)
			all, next, err := l.Due(f.ctx, clock(50), 15_000)
			if err != nil || len(all) != 10_000 || !next.Equal(clock(51)) {
				f.Errorf("%d timers, next %v, error %v", len(all), next, err)
			}
		}},
		{"a context that has ended ends the call", func(f fixture) {
			l := claim(f)
			commit(f, l, first())
			ctx, cancel := context.WithCancel(f.ctx)
			cancel()
			err := l.Commit(ctx, &stream.Commit{Base: first().Next, Next: map[string]int64{"in": 6, "models": 1}, Partitions: 8})
			if err != nil && (errors.Is(err, stream.ErrFenced) || errors.Is(err, stream.ErrLost) || errors.Is(err, stream.ErrOffset)) {
				f.Errorf("the end of a context looks like %v: the owner would claim again for nothing", err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			t.Cleanup(cancel)
			c.run(fixture{t, h.Open(t), ctx, fmt.Sprintf("test.%x", rand.Uint64())})
		})
	}
}
