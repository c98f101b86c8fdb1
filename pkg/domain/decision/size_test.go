package decision

import (
	"fmt"
	"runtime"
	"testing"
)

// TestSize holds the estimate to what the allocator says of many states.
func TestSize(t *testing.T) {
	s, _ := filled(t)
	many := *s
	for i := range MaxPending - len(s.pending) {
		p := s.pending[0]
		p.id = fmt.Sprint("a request of its own ", i)
		many.pending = append(many.pending, p)
	}
	for _, c := range []struct {
		name   string
		stored []byte
		read   bool
	}{
		{"nothing", new(State).Append(nil), false},
		{"a few requests", s.Append(nil), false},
		{"a few requests, and attributes that were asked for", s.Append(nil), true},
		{"many requests", many.Append(nil), false},
	} {
		held := make([]State, 2000)
		claimed, before := 0, heap()
		for i := range held {
			if err := held[i].Decode(c.stored); err != nil {
				t.Fatal(err)
			}
			if c.read {
				held[i].known()
			}
			claimed += held[i].Size()
		}
		real := int(heap()-before) / len(held)
		claimed /= len(held)
		if claimed > real+real*2/5+64 || claimed < real-real*2/5-64 {
			t.Errorf("%s: %d bytes by Size, %d by the allocator", c.name, claimed, real)
		}
		runtime.KeepAlive(held)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
