package timing

import (
	"runtime"
	"testing"
	"time"
)

// TestSize holds the estimate to what the allocator says of many profiles.
func TestSize(t *testing.T) {
	for channels := range 4 {
		var one Profile
		one.Zone = "Europe/Rome"
		one.Erase(time.UnixMilli(1))
		for c := range channels {
			one.Channel([]string{"email", "sms", "a channel of the operator's own"}[c]).Engaged(&World{Model: Builtin()}, Hour(500_000+c), 7)
		}
		stored := one.Append(nil)
		held := make([]Profile, 4000)
		claimed, before := 0, heap()
		for i := range held {
			if err := held[i].Decode(stored); err != nil {
				t.Fatal(err)
			}
			claimed += held[i].Size()
		}
		real := int(heap()-before) / len(held)
		claimed /= len(held)
		if claimed > real+real/4+32 || claimed < real-real/4-32 {
			t.Errorf("%d channels: %d bytes by Size, %d by the allocator", channels, claimed, real)
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
