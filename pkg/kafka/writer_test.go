package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func writer(t *testing.T, l *Log, run stream.Run) *Writer {
	t.Helper()
	w, err := NewWriter(t.Context(), l, run)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestWriter(t *testing.T)     { testWriter(t, embedded(t)) }
func TestRealWriter(t *testing.T) { testWriter(t, realBroker(t)) }

func testWriter(t *testing.T, config Config) {
	ctx, run := within(t, time.Minute), aRun(true)
	if err := EnsureTopics(ctx, config, run, 4); err != nil {
		t.Fatal(err)
	}
	l := open(t, config)
	w := writer(t, l, run)
	at := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	var all sync.WaitGroup
	for customer := range 20 {
		all.Go(func() {
			for i := range 25 {
				if err := w.Write(ctx, topics.Events, fmt.Append(nil, "C-", customer), strconv.AppendInt(nil, int64(i), 10), at); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	var batch []stream.Message
	for i := range 500 {
		batch = append(batch, stream.Message{Key: fmt.Append(nil, "C-", i%20), Value: strconv.AppendInt(nil, int64(25+i/20), 10)})
	}
	if err := w.WriteAll(ctx, topics.Events, batch); err != nil {
		t.Fatal(err)
	}
	next := map[string]int{}
	err := Range(ctx, l, run.Topic(topics.Events), Earliest, Latest, func(r *stream.Record) error {
		k, v := string(r.Key), string(r.Value)
		if r.Partition != stream.Partition(r.Key, 4) || v != strconv.Itoa(next[k]) {
			return fmt.Errorf("%s in partition %d: %s after %d", k, r.Partition, v, next[k]-1)
		}
		if next[k] < 25 && (!r.Time.Equal(at) || len(r.Headers) != 1 || r.Headers[0].Key != "content-type" || string(r.Headers[0].Value) != "application/cloudevents+json") {
			return fmt.Errorf("%v %v", r.Time, r.Headers)
		}
		next[k]++
		return nil
	})
	if err != nil || len(next) != 20 {
		t.Fatalf("%d customers, %v", len(next), err)
	}
	for k, n := range next {
		if n != 50 {
			t.Errorf("%s has %d records", k, n)
		}
	}

	if err := w.Broadcast(ctx, topics.Models, []byte("model"), at); err != nil {
		t.Fatal(err)
	}
	var partitions []int32
	err = Range(ctx, l, run.Topic(topics.Models), Earliest, Latest, func(r *stream.Record) error {
		if r.Key != nil || string(r.Value) != "model" {
			return fmt.Errorf("%q %q", r.Key, r.Value)
		}
		partitions = append(partitions, r.Partition)
		return nil
	})
	if slices.Sort(partitions); err != nil || !slices.Equal(partitions, []int32{0, 1, 2, 3}) {
		t.Errorf("broadcast into %v, %v", partitions, err)
	}

	big := bytes.Repeat([]byte("x"), 1<<20)
	if err := w.Write(ctx, topics.Scored, nil, big, at); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a record of more than a megabyte: %v", err)
	}
	if err := w.Write(ctx, topics.Scored, nil, big[:1<<20-500], at); err != nil {
		t.Errorf("a record of almost a megabyte: %v", err)
	}
	if err := w.Write(ctx, "missing", nil, nil, at); !errors.Is(err, stream.ErrUnknownTopic) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a topic that is not there: %v", err)
	}
}

func TestAWriterGoesOnAfterAnErrorAndEndsAtClose(t *testing.T) {
	c, config := cluster(t)
	l := open(t, config)
	topic := create(t, l, "", 1)
	w := writer(t, l, stream.Run{ID: "r1"})
	ctx := within(t, time.Minute)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed})
	if err := w.Write(ctx, topic, nil, []byte("refused"), time.Time{}); err == nil {
		t.Error("no error")
	}
	if err := w.Write(ctx, topic, nil, []byte("next"), time.Time{}); err != nil {
		t.Error(err)
	}
	// A broker that cannot take it keeps a Write waiting until its context ends, and the Writer until Close.
	fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	defer fault.Remove()
	short, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Write(short, topic, nil, []byte("stuck"), time.Time{}) }()
	fault.Wait(ctx, 2)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a Write whose context ends: %v", err)
	}
	go func() { done <- w.Write(ctx, topic, nil, []byte("stuck, too"), time.Time{}) }()
	fault.Wait(ctx, 4)
	w.Close()
	if err := <-done; !errors.Is(err, errWriterClosed) {
		t.Errorf("a Write at Close: %v", err)
	}
	if err := w.Write(ctx, topic, nil, nil, time.Time{}); !errors.Is(err, errWriterClosed) {
		t.Errorf("a Write after Close: %v", err)
	}
}
