package streamtest

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/tempismo/tempismo/pkg/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryLog(t *testing.T) {
	l := NewLog()
	TestLog(t, LogHarness{
		Open:     func(*testing.T) stream.Log { return l },
		Create:   func(_ *testing.T, topic string, info stream.TopicInfo) { l.Create(topic, info) },
		Truncate: func(_ *testing.T, topic string, p int32, start int64) { l.Truncate(topic, p, start) },
	})
}

func TestMemoryStore(t *testing.T) {
	s := NewStore()
	TestStore(t, StoreHarness{
		Open:     func(*testing.T) stream.Store { return s },
		Lose:     func(_ *testing.T, group string, p int32) { s.Lose(group, p) },
		Snapshot: func(_ *testing.T, group string, p int32) func() { return s.Snapshot(group, p) },
	})
}
