// Package sorting sorts more than fits into memory: an external merge sort of byte strings by a number, stable, in bounded
// memory and a temporary folder.
//
// It is made for one pass: add everything, then read everything. It is not an index, and it keeps nothing.
package sorting

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Sorter takes items in any order and gives them back by key, and those of equal keys as they came.
type Sorter struct {
	limit int
	items []item
	held  int // bytes
	runs  []*os.File
	dir   string
}

type item struct {
	key   int64
	value []byte
}

// overhead is what an item costs in memory beside its bytes.
const overhead = 40

// New returns a Sorter that holds about limit bytes in memory and spills the rest into files under dir (empty: the
// system's folder for temporary files).
func New(dir string, limit int) *Sorter { return &Sorter{limit: limit, dir: dir} }

// Add takes a copy of value.
func (s *Sorter) Add(key int64, value []byte) error {
	s.items = append(s.items, item{key, slices.Clone(value)})
	if s.held += len(value) + overhead; s.held < s.limit {
		return nil
	}
	return s.spill()
}

func (s *Sorter) sort() {
	slices.SortStableFunc(s.items, func(a, b item) int {
		switch {
		case a.key < b.key:
			return -1
		case a.key > b.key:
			return 1
		}
		return 0
	})
}

// spill writes what is held, sorted, as one run.
func (s *Sorter) spill() error {
	s.sort()
	f, err := os.CreateTemp(s.dir, "tempismo-sort-")
	if err != nil {
		return fmt.Errorf("sort: %w", err)
	}
	s.runs = append(s.runs, f)
	// Nobody else needs the name, and so a killed process leaves nothing behind.
	_ = os.Remove(f.Name())
	w := bufio.NewWriterSize(f, 1<<20)
	var head []byte
	for _, it := range s.items {
		head = binary.AppendVarint(head[:0], it.key)
		head = binary.AppendUvarint(head, uint64(len(it.value)))
		_, _ = w.Write(head) // bufio keeps the first error for Flush
		_, _ = w.Write(it.value)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("sort: write a run: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("sort: %w", err)
	}
	s.items, s.held = s.items[:0], 0
	return nil
}

// Each calls fn with everything in order. value lives until fn returns. It stops at the first error, which it returns.
func (s *Sorter) Each(fn func(key int64, value []byte) error) error {
	s.sort()
	if len(s.runs) == 0 {
		for _, it := range s.items {
			if err := fn(it.key, it.value); err != nil {
				return err
			}
		}
		return nil
	}
	// Runs were filled one after the other, so of equal keys those of an earlier run came first; what is still in memory
	// came last.
	var h sources
	for i, f := range s.runs {
		src := &source{order: i, run: bufio.NewReaderSize(f, 256<<10)}
		if ok, err := src.advance(); err != nil {
			return err
		} else if ok {
			h = append(h, src)
		}
	}
	last := &source{order: len(s.runs), rest: s.items}
	if ok, _ := last.advance(); ok {
		h = append(h, last)
	}
	heap.Init(&h)
	for len(h) > 0 {
		src := h[0]
		if err := fn(src.key, src.value); err != nil {
			return err
		}
		ok, err := src.advance()
		if err != nil {
			return err
		}
		if ok {
			heap.Fix(&h, 0)
		} else {
			heap.Pop(&h)
		}
	}
	return nil
}

// Close removes what was spilled.
func (s *Sorter) Close() error {
	var errs []error
	for _, f := range s.runs {
		errs = append(errs, f.Close())
	}
	s.runs, s.items = nil, nil
	return errors.Join(errs...)
}

// source is one sorted run with its first unread item.
type source struct {
	order int
	item
	run  *bufio.Reader // nil: rest
	rest []item
}

func (s *source) advance() (bool, error) {
	if s.run == nil {
		if len(s.rest) == 0 {
			return false, nil
		}
		s.item, s.rest = s.rest[0], s.rest[1:]
		return true, nil
	}
	key, err := binary.ReadVarint(s.run)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	n, err2 := binary.ReadUvarint(s.run)
	if err := errors.Join(err, err2); err != nil {
		return false, fmt.Errorf("sort: read a run: %w", err)
	}
	s.key = key
	s.value = slices.Grow(s.value[:0], int(n))[:n]
	if _, err := io.ReadFull(s.run, s.value); err != nil {
		return false, fmt.Errorf("sort: read a run: %w", err)
	}
	return true, nil
}

type sources []*source

func (h sources) Len() int { return len(h) }
func (h sources) Less(i, j int) bool {
	return h[i].key < h[j].key || h[i].key == h[j].key && h[i].order < h[j].order
}
func (h sources) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *sources) Push(x any)   { *h = append(*h, x.(*source)) }
func (h *sources) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
