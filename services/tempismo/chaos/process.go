package chaos

import "time"

// Process is one instance of a service.
type Process struct {
	Name string // of the service
	N    int    // counts all instances of the rig
	Log  string // file of what it logs
}

// ID names the process in samples and logs: "profiler.3".
func (p *Process) ID() string { panic("to be written") }

// Kill ends it as a power failure would, and returns when it is gone.
func (p *Process) Kill() { panic("to be written") }

// Term asks it to stop and waits; after a minute it is killed, and the code is -1.
func (p *Process) Term() (exit time.Duration, code int) { panic("to be written") }

// Freeze stops it where it stands (SIGSTOP).
func (p *Process) Freeze() { panic("to be written") }

// Thaw lets it go on.
func (p *Process) Thaw() { panic("to be written") }

// Alive tells whether it has not ended. A frozen process is alive.
func (p *Process) Alive() bool { panic("to be written") }

// Ready tells whether /readyz says so.
func (p *Process) Ready() bool { panic("to be written") }

// Metrics is the text of /metrics; "" if it does not answer.
func (p *Process) Metrics() string { panic("to be written") }

// RSS is its resident memory in bytes; 0 if it has ended.
func (p *Process) RSS() int64 { panic("to be written") }
