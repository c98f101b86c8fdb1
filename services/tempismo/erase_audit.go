package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"time"
)

// audit says who uses a person's right, and where that is noted for those who have to account for it.
type audit struct {
	By   string `placeholder:"NAME" help:"Who does this; it is noted. Default: the user of the operating system."`
	File string `name:"audit" env:"AUDIT_FILE" type:"path" placeholder:"FILE" help:"Append one JSON line to this file as well, which says who did what, when and why. Without it, the line goes to standard error only."`
}

// audited is one line: what is about to be done or, where Failed is set, what did not come to its end.
type audited struct {
	Time      time.Time `json:"time"`
	Action    string    `json:"action"` // erase or export
	Customer  string    `json:"customer"`
	Run       string    `json:"run"`
	Simulated bool      `json:"simulated,omitempty"`
	By        string    `json:"by"`
	Reason    string    `json:"reason,omitempty"`
	Detail    string    `json:"detail,omitempty"` // what is erased, or where the export goes
	Failed    string    `json:"failed,omitempty"`
}

// who is the name that is noted.
func (a *audit) who() string {
	if a.By != "" {
		return a.By
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "uid " + strconv.Itoa(os.Getuid())
}

// around notes an action, and then does it: what cannot be noted is not done, and a process that is killed has left its line. Where
// do fails, a second line says so.
func (a *audit) around(t terminal, what audited, do func() error) error {
	what.Time, what.By = time.Now().UTC().Truncate(time.Millisecond), a.who()
	if err := a.note(t, what); err != nil {
		return fmt.Errorf("note the %s: %w; nothing was done", what.Action, err)
	}
	err := do()
	if err == nil {
		return nil
	}
	what.Time, what.Failed = time.Now().UTC().Truncate(time.Millisecond), err.Error()
	return errors.Join(err, a.note(t, what))
}

func (a *audit) note(t terminal, what audited) error {
	line, err := json.Marshal(what)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if a.File != "" {
		f, err := os.OpenFile(a.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) // it names customers
		if err != nil {
			return err
		}
		if _, err = f.Write(line); err == nil {
			err = f.Sync()
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	_, err = t.err.Write(line)
	return err
}
