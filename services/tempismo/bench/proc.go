package bench

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Usage is what a process has used of the machine so far, as Linux counts it.
type Usage struct {
	CPU  float64 // seconds, user and system
	RSS  int64   // bytes, now
	Peak int64   // bytes, the most so far
}

// ticks is USER_HZ, which is 100 on every Linux that Go runs on.
const ticks = 100

// usage reads /proc; everything is zero where there is no such process, or no /proc.
func usage(pid int) (u Usage) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // what comes before may hold blanks
	if len(f) > 12 {
		user, _ := strconv.ParseFloat(f[11], 64) // of the kernel
		system, _ := strconv.ParseFloat(f[12], 64)
		u.CPU = (user + system) / ticks
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		kb, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			u.RSS = kb << 10
		case "VmHWM:":
			u.Peak = kb << 10
		}
	}
	return u
}

// idleTime is for how many seconds the processors of this machine have had nothing to do so far, all together; 0 where there is no /proc.
func idleTime() float64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	f := strings.Fields(first) // cpu, user, nice, system, idle, waiting for disks, ...
	if len(f) < 6 {
		return 0
	}
	idle, _ := strconv.ParseFloat(f[4], 64) // of the kernel
	waiting, _ := strconv.ParseFloat(f[5], 64)
	return (idle + waiting) / ticks
}

// listener is the process that listens on a port of this machine; 0 where it is not to be seen.
func listener(address string) int {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	sockets := listening(port)
	if len(sockets) == 0 {
		return 0
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is well-formed
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && slices.Contains(sockets, to) {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
			return pid
		}
	}
	return 0
}

// listening names the sockets that listen on a port, as links in /proc do.
func listening(port int) (sockets []string) {
	want := strings.ToUpper(hex.EncodeToString([]byte{byte(port >> 8), byte(port)}))
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line) // slot, local address, remote address, state (0A: listening), ..., inode
			if len(f) > 9 && strings.HasSuffix(f[1], ":"+want) && f[3] == "0A" {
				sockets = append(sockets, "socket:["+f[9]+"]")
			}
		}
	}
	return sockets
}
