package stream

// entry is a key's state in memory. Between batches every entry equals what is stored.
type entry[S any] struct {
	key    string
	state  S
	dirty  bool    // changed by the batch at hand
	timers []alarm // pending in state, by id
}

// cache holds states by key, at most about limit of them: two generations, of which the older is forgotten when the
// younger is half full. What is used moves to the younger one.
type cache[S any] struct {
	limit      int
	young, old map[string]*entry[S]
}

func newCache[S any](limit int) cache[S] {
	return cache[S]{limit: limit, young: map[string]*entry[S]{}}
}

// get returns the entry of key, nil if it is not held.
func (c *cache[S]) get(key []byte) *entry[S] {
	if e := c.young[string(key)]; e != nil {
		return e
	}
	e := c.old[string(key)]
	if e != nil {
		c.young[e.key] = e
	}
	return e
}

// add makes an entry with the zero state.
func (c *cache[S]) add(key []byte) *entry[S] {
	e := &entry[S]{key: string(key)}
	c.young[e.key] = e
	return e
}

// trim forgets old entries. It may be called only when no entry is dirty.
func (c *cache[S]) trim() {
	if len(c.young) > c.limit/2 {
		c.old, c.young = c.young, make(map[string]*entry[S], len(c.young))
	}
}
