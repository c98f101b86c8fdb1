package stream

import (
	"fmt"
	"runtime"
	"testing"
)

// blob is a state that is large beside its place.
type blob struct{ b []byte }

func weighed(limit, keys, size int) (c cache[blob], held int) {
	c = newCache(func(s *blob) int { return cap(s.b) })
	for i := range keys {
		key := fmt.Appendf(nil, "customer-%06d", i)
		e := c.get(key)
		if e == nil {
			e = c.add(key)
		}
		e.state.b = make([]byte, size)
		c.weigh(e)
		c.trim(limit)
	}
	return c, len(c.young) + len(c.old)
}

// TestCacheHoldsWhatItMay: whatever the size of states, what the cache holds is what it may, by the allocator's word.
func TestCacheHoldsWhatItMay(t *testing.T) {
	const limit = 16 << 20
	for _, size := range []int{16, 1 << 10, 64 << 10} {
		before := heapInUse()
		c, held := weighed(limit, 4*limit/(size+150), size)
		used := int(heapInUse() - before)
		if used > limit*5/4 || used < limit/3 {
			t.Errorf("states of %d bytes: %d bytes in memory, %d entries; it may hold %d", size, used, held, limit)
		}
		runtime.KeepAlive(c)
	}
}

// TestCacheForgetsTheLeastUsed: what is used stays, however much else comes by.
func TestCacheForgetsTheLeastUsed(t *testing.T) {
	c := newCache(func(s *blob) int { return len(s.b) })
	hot := c.add([]byte("hot"))
	for i := range 100_000 {
		c.add(fmt.Appendf(nil, "C-%d", i))
		if i%100 == 0 && c.get([]byte("hot")) != hot {
			t.Fatalf("after %d others it was forgotten", i)
		}
		c.trim(1 << 20)
	}
	if c.get([]byte("C-1")) != nil {
		t.Error("nothing was forgotten")
	}
}

// TestCacheCountsOnce: what moves between generations, shrinks and grows is counted as it is.
func TestCacheCountsOnce(t *testing.T) {
	c := newCache(func(s *blob) int { return len(s.b) })
	e := c.add([]byte("a"))
	empty := c.bytes
	e.state.b = make([]byte, 1000)
	c.weigh(e)
	if c.bytes != empty+1000 {
		t.Errorf("%d bytes, want %d", c.bytes, empty+1000)
	}
	c.trim(1)
	if c.bytes != 0 || c.get([]byte("a")) != e || c.bytes != empty+1000 || c.get([]byte("a")) != e || c.bytes != empty+1000 {
		t.Errorf("taken out of the older generation it counts %d bytes, want %d", c.bytes, empty+1000)
	}
	e.state.b = nil
	c.weigh(e)
	if c.bytes != empty {
		t.Errorf("%d bytes, want %d", c.bytes, empty)
	}
}

// TestBudgetIsShared: a partition that comes to be owned leaves the others less.
func TestBudgetIsShared(t *testing.T) {
	b := budget{bytes: 1200}
	for owned, want := range []int{1200, 1200, 600, 400} {
		b.owned.Store(int32(owned))
		if got := b.share(); got != want {
			t.Errorf("of %d partitions each may hold %d, want %d", owned, got, want)
		}
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
