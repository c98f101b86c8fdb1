package stream

import (
	"sync/atomic"
	"unsafe"
)

// entry is a key's state in memory. Between batches every entry equals what is stored.
type entry[S any] struct {
	key    string
	state  S
	dirty  bool    // changed by the batch at hand
	timers []alarm // pending in state, by id
	bytes  int     // of memory, about, as the cache counts them
}

// cache holds states by key, in two generations, of which the older is forgotten when the younger has its half of what may
// be held. What is used moves to the younger one.
type cache[S any] struct {
	size       func(*S) int // of what a state refers to
	young, old map[string]*entry[S]
	bytes      int // of the young
}

func newCache[S any](size func(*S) int) cache[S] {
	if size == nil {
		size = func(*S) int { return 0 }
	}
	return cache[S]{size: size, young: map[string]*entry[S]{}}
}

// get returns the entry of key, nil if it is not held.
func (c *cache[S]) get(key []byte) *entry[S] {
	if e := c.young[string(key)]; e != nil {
		return e
	}
	e := c.old[string(key)]
	if e != nil {
		c.young[e.key] = e
		c.bytes += e.bytes
	}
	return e
}

// peek is get without using the entry.
func (c *cache[S]) peek(key string) *entry[S] {
	if e := c.young[key]; e != nil {
		return e
	}
	return c.old[key]
}

// forget drops the entry of key, which is not dirty.
func (c *cache[S]) forget(key string) {
	if e := c.young[key]; e != nil {
		c.bytes -= e.bytes
	}
	delete(c.young, key)
	delete(c.old, key)
}

// add makes an entry with the zero state.
func (c *cache[S]) add(key []byte) *entry[S] {
	e := &entry[S]{key: string(key)}
	c.young[e.key] = e
	c.weigh(e)
	return e
}

// mapSlot is what a place in a map takes, with its share of those that are empty.
const mapSlot = 36

// weigh counts the bytes of a young entry anew.
func (c *cache[S]) weigh(e *entry[S]) {
	n := int(unsafe.Sizeof(*e)) + mapSlot + len(e.key) + cap(e.timers)*int(unsafe.Sizeof(alarm{})) + c.size(&e.state)
	c.bytes += n - e.bytes
	e.bytes = n
}

// trim forgets old entries where more than limit bytes may be held. It may be called only when no entry is dirty.
func (c *cache[S]) trim(limit int) {
	if c.bytes > limit/2 {
		c.old, c.young, c.bytes = c.young, make(map[string]*entry[S], len(c.young)), 0
	}
}

// budget is what the caches of all partitions that are owned may hold together: each the same share of it.
type budget struct {
	bytes int
	owned atomic.Int32
}

func (b *budget) share() int { return b.bytes / int(max(1, b.owned.Load())) }
