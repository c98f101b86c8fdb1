package redis

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/alicebob/miniredis/v2"
)

// snapshotName is the file in the data directory that a clean Close leaves.
const snapshotName = "store.snapshot"

// Embedded is a Redis in this process, for laptops and tests: miniredis, on loopback.
//
// It keeps everything in memory. A clean Close writes a snapshot, which the next start reads and removes; so after a kill
// there is none, and the services find their state lost and rebuild it from the log. That is as slow as the log is long,
// and right, where an old snapshot would only look right.
type Embedded struct {
	server *miniredis.Miniredis
	dir    string
	close  sync.Once
	err    error
}

// StartEmbedded starts the server on a loopback port (0: any) with what the last clean Close left in dir. With an empty
// dir it begins empty and leaves nothing.
func StartEmbedded(dir string, port int) (*Embedded, error) {
	e := &Embedded{server: miniredis.NewMiniRedis(), dir: dir}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("embedded store: %w", err)
		}
		if err := e.load(); err != nil {
			return nil, fmt.Errorf("embedded store: read %s: %w: remove it, and the state is rebuilt from the log", e.path(), err)
		}
	}
	if err := e.server.StartAddr(net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err != nil {
		return nil, fmt.Errorf("embedded store: listen on port %d: %w", port, err)
	}
	return e, nil
}

// Addr is where it listens, for Config.Addr.
func (e *Embedded) Addr() string { return e.server.Addr() }

// Close stops the server and writes the snapshot. The services must have stopped before.
func (e *Embedded) Close() error {
	e.close.Do(func() {
		e.server.Close()
		if e.dir != "" {
			e.err = e.save()
		}
	})
	return e.err
}

func (e *Embedded) path() string { return filepath.Join(e.dir, snapshotName) }

// entry is one record of the snapshot; the last one has no name, so that a file that ends early shows.
type entry struct {
	Name   string
	Fields []string           // of a hash: field, value, ...
	Scores map[string]float64 // of a sorted set
}

// save writes everything into a new file and renames it into place when it is complete and on disk.
func (e *Embedded) save() (err error) {
	f, err := os.CreateTemp(e.dir, snapshotName+".*")
	if err != nil {
		return fmt.Errorf("snapshot of the embedded store: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("snapshot of the embedded store: %w", errors.Join(err, f.Close(), os.Remove(f.Name())))
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	enc := gob.NewEncoder(w)
	for _, name := range e.server.Keys() {
		kept, err := e.read(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := enc.Encode(kept); err != nil {
			return err
		}
	}
	if err := enc.Encode(entry{}); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), e.path())
}

func (e *Embedded) read(name string) (kept entry, err error) {
	kept.Name = name
	if e.server.Type(name) == "zset" {
		kept.Scores, err = e.server.SortedSet(name)
		return kept, err
	}
	fields, err := e.server.HKeys(name)
	kept.Fields = make([]string, 0, 2*len(fields))
	for _, field := range fields {
		kept.Fields = append(kept.Fields, field, e.server.HGet(name, field))
	}
	return kept, err
}

// load reads the snapshot, if there is one, and removes it.
func (e *Embedded) load() error {
	f, err := os.Open(e.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	dec := gob.NewDecoder(bufio.NewReaderSize(f, 1<<20))
	for {
		var kept entry
		if err := dec.Decode(&kept); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if kept.Name == "" {
			return os.Remove(e.path())
		}
		if len(kept.Fields) > 0 {
			e.server.HSet(kept.Name, kept.Fields...)
		}
		for member, score := range kept.Scores {
			if _, err := e.server.ZAdd(kept.Name, score, member); err != nil {
				return err
			}
		}
	}
}
