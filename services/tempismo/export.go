package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/tempismo/rows"
)

// columns says which column of a file holds what.
type columns struct {
	Preset string `placeholder:"NAME" help:"Read the exports of a vendor: hubspot, salesforce, mailchimp, mautic. \"tempismo import --preset list\" shows what each expects. What is given beside it, goes before it."`

	Customer string `placeholder:"COLUMN" help:"Column of the customer's id. Without it, and without --preset, lines are engagement events as they stand on the topic."`
	Time     string `placeholder:"COLUMN" help:"Column of the time: RFC 3339, 2006-01-02 15:04:05 UTC, unix seconds or milliseconds."`
	Kind     string `placeholder:"COLUMN|KIND" help:"Column of the kind of event, or the kind of all of them."`
	Zone     string `placeholder:"COLUMN|ZONE" help:"Column of the customer's time zone (a name such as Europe/Rome, or an offset such as +0200, also that of the time itself), or the zone of all of them."`
	Channel  string `placeholder:"COLUMN|CHANNEL" default:"email" help:"Column of the channel, or the channel of all of them."`
	Message  string `placeholder:"COLUMN" help:"Column of the message's id."`
	Campaign string `placeholder:"COLUMN" help:"Column of the campaign."`

	TimesIn    string `placeholder:"ZONE" help:"Zone of times that name none, such as Europe/Rome; otherwise UTC, or what the preset knows."`
	TimeFormat string `placeholder:"FORMAT" help:"How times are written, by the example of 2 January 2006, 3:04:05 in the afternoon: 02/01/2006 15:04:05, or 1/2/2006 3:04:05 PM."`
}

func (c *columns) mapping() rows.Mapping {
	return rows.Mapping{Customer: c.Customer, Time: c.Time, Kind: c.Kind, Zone: c.Zone, Channel: c.Channel, Message: c.Message, Campaign: c.Campaign,
		Clock: c.TimesIn, Format: c.TimeFormat, Preset: c.Preset}
}

// counts is what a file has.
type counts struct {
	events   int64
	rejected int64 // lines that are no event
	ignored  int64 // lines that a preset knows to be none
}

// each is read for whoever does not ask how many lines were ignored.
func (c *columns) each(ctx context.Context, file string, t terminal, bars *progress, fn func(e *engagement.Event, line int64) error) (events, rejected int64, err error) {
	n, err := c.read(ctx, file, t, bars, fn)
	return n.events, n.rejected, err
}

// read calls fn with the events of an export (- is standard input) and the lines that they stand on, and counts them. Lines that
// are no events are counted, and the first of them named in the end, when no bar is in the way.
func (c *columns) read(ctx context.Context, file string, t terminal, bars *progress, fn func(e *engagement.Event, line int64) error) (n counts, err error) {
	var in io.Reader = os.Stdin
	var size int64
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return n, err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil {
			size = info.Size()
		}
		in = f
	}
	counted := &countReader{r: in}
	r, err := rows.Open(counted, filepath.Base(file), c.mapping())
	if err != nil {
		return n, fmt.Errorf("%s: %w", file, err)
	}
	bar := bars.bar("reading", size)
	defer bar.done()
	var named []string
	for i := 0; ; i++ {
		if i%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return n, err
			}
			bar.set(counted.n.Load())
		}
		e, line, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if bad := new(rows.LineError); errors.As(err, &bad) {
			if n.rejected++; n.rejected <= maxNamed {
				named = append(named, bad.Error())
			}
			continue
		}
		if err != nil {
			return n, fmt.Errorf("%s: %w", file, err)
		}
		n.events++
		if err := fn(e, line); err != nil {
			return n, err
		}
	}
	n.ignored = r.Ignored
	for _, bad := range named {
		fmt.Fprintln(t.err, "rejected:", bad)
	}
	if more := n.rejected - int64(len(named)); more > 0 {
		fmt.Fprintf(t.err, "rejected: and %d more\n", more)
	}
	return n, nil
}

// countReader counts what is read, for the bar.
type countReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}
