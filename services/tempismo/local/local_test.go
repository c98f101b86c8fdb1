package local

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOneProcessForAFolder(t *testing.T) {
	dir := t.TempDir()
	p, err := Start(dir, Ports{})
	if err != nil {
		t.Fatal(err)
	}
	a, ok := Running(dir)
	if !ok || a.Kafka != p.Broker.Addr() || a.Redis != p.Store.Addr() || a.PID != os.Getpid() {
		t.Errorf("the folder tells %+v, %v", a, ok)
	}
	var used *InUseError
	if _, err := Start(dir, Ports{}); !errors.As(err, &used) || used.Address != a {
		t.Errorf("a second start answers %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if a, ok := Running(dir); ok {
		t.Errorf("after the end the folder still tells %+v", a)
	}
	p, err = Start(dir, Ports{})
	if err != nil {
		t.Fatalf("the folder is not free after a clean end: %v", err)
	}
	p.Close()
}

func TestTheAddressOfAKilledProcessIsNone(t *testing.T) {
	dir := t.TempDir()
	if err := write(filepath.Join(dir, addressFile), Address{"127.0.0.1:1", "127.0.0.1:2", 3}); err != nil {
		t.Fatal(err)
	}
	if a, ok := Running(dir); ok {
		t.Errorf("told %+v although nobody holds the lock", a)
	}
}

func TestRemembersTheLastFolder(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	if got := Last(); got != "" {
		t.Errorf("last folder is %q before there was one", got)
	}
	dir := t.TempDir()
	if err := Remember(dir); err != nil {
		t.Fatal(err)
	}
	if got := Last(); got != dir {
		t.Errorf("last folder is %q, want %q", got, dir)
	}
	want := System{"demo-1", true, 8}
	if err := Save(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, ok := Load(dir); !ok || got != want {
		t.Errorf("the folder holds %+v, %v", got, ok)
	}
}
