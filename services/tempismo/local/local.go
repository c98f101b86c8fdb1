// Package local is a data folder: the embedded broker and store on one folder, which no second process may use at the same
// time, and the address under which the process that does can be reached.
//
// It starts no service and knows no topic. It is for laptops: one copy on one disk.
package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
)

// Names of the files in a data folder.
const (
	lockFile    = "lock"
	addressFile = "address.json" // while a process runs on the folder
	systemFile  = "system.json"  // for as long as the folder lives
	lastFile    = "last"         // in the state folder: the data folder that was used last
)

// System is what a data folder holds.
type System struct {
	Run        string `json:"run"`
	Simulated  bool   `json:"simulated"`
	Partitions int32  `json:"partitions"`
}

// Address is where the process that runs on a folder can be reached.
type Address struct {
	Kafka string `json:"kafka"`
	Redis string `json:"redis"`
	PID   int    `json:"pid"`
}

// InUseError says that another process runs on the folder.
type InUseError struct {
	Dir     string
	Address Address // zero if it has not said yet
}

// Error says what to do.
func (e *InUseError) Error() string {
	who := "another process"
	if e.Address.PID != 0 {
		who = fmt.Sprintf("process %d", e.Address.PID)
	}
	return fmt.Sprintf("%s works in %s: stop it, or choose another folder with --data", who, e.Dir)
}

// Pair is an embedded broker and store.
type Pair struct {
	Broker *kafka.Embedded
	Store  *redis.Embedded
	dir    string
	lock   *os.File
}

// Ports are the loopback ports of a pair; 0 is any that is free.
type Ports struct{ Kafka, Redis int }

// Start starts the pair on what dir holds. An *InUseError says that another process has the folder.
func Start(dir string, ports Ports) (p *Pair, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	lock, err := take(filepath.Join(dir, lockFile))
	if err != nil {
		a, _ := Running(dir)
		return nil, &InUseError{dir, a}
	}
	p = &Pair{dir: dir, lock: lock}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.Broker, err = kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: filepath.Join(dir, "kafka"), Port: ports.Kafka}); err != nil {
		return nil, err
	}
	if p.Store, err = redis.StartEmbedded(filepath.Join(dir, "redis"), ports.Redis); err != nil {
		return nil, err
	}
	err = write(filepath.Join(dir, addressFile), Address{p.Broker.Addr(), p.Store.Addr(), os.Getpid()})
	return p, err
}

// Close stops the pair and frees the folder. The services must have stopped before.
func (p *Pair) Close() error {
	var errs []error
	if p.Store != nil {
		errs = append(errs, p.Store.Close())
	}
	if p.Broker != nil {
		errs = append(errs, p.Broker.Close())
	}
	if err := os.Remove(filepath.Join(p.dir, addressFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	errs = append(errs, p.lock.Close())
	return errors.Join(errs...)
}

// Running returns the address of the process that runs on dir; false if none does, as far as the folder tells, or dir is empty.
func Running(dir string) (Address, bool) {
	if dir == "" {
		return Address{}, false
	}
	lock, err := take(filepath.Join(dir, lockFile))
	if err == nil { // nobody holds it, so an address in the folder is that of a process that was killed
		lock.Close()
		return Address{}, false
	}
	var a Address
	if !read(filepath.Join(dir, addressFile), &a) {
		return Address{}, false
	}
	return a, true
}

// Load returns what the folder holds; false if it has not been written to.
func Load(dir string) (System, bool) {
	var s System
	ok := read(filepath.Join(dir, systemFile), &s)
	return s, ok
}

// Save notes what the folder holds.
func Save(dir string, s System) error { return write(filepath.Join(dir, systemFile), s) }

// State is the folder for data that nobody has named another place for.
func State() string {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "tempismo")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), fmt.Sprintf("tempismo-%d", os.Getuid()))
	}
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		if dir, err := os.UserConfigDir(); err == nil {
			return filepath.Join(dir, "tempismo")
		}
	}
	return filepath.Join(home, ".local", "state", "tempismo")
}

// Remember notes that dir was used last.
func Remember(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(State(), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(State(), lastFile), []byte(abs+"\n"), 0o600)
}

// Last returns the data folder that was used last; empty if there is none.
func Last() string {
	b, err := os.ReadFile(filepath.Join(State(), lastFile))
	if err != nil || len(b) == 0 {
		return ""
	}
	dir := string(b[:len(b)-1])
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	return dir
}

func read(path string, v any) bool {
	b, err := os.ReadFile(path)
	return err == nil && json.Unmarshal(b, v) == nil
}

// write replaces the file at once, so that a reader sees the old or the new one.
func write(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
