package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// watchCmd follows a topic in words.
type watchCmd struct {
	What          string `arg:"" enum:"deviations,decisions" help:"deviations or decisions."`
	FromBeginning bool   `help:"Begin with what is there already."`
	Count         int    `default:"0" help:"Stop after so many; 0: never."`
	JSON          bool   `help:"Write each record as it stands on the topic, one a line."`
	target
}

// Help is the example.
func (*watchCmd) Help() string {
	return "This is what an alert consumer sees. Repeats, which a crash can leave on a topic, are left out.\n\nExample:\n  tempismo watch deviations --from-beginning --count 10"
}

var errEnough = errors.New("enough")

// Run watches.
func (c *watchCmd) Run(ctx context.Context, t terminal) (err error) {
	sys, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close()) }()
	topic, tell := topics.Deviations, tellDeviation
	if c.What == "decisions" {
		topic, tell = topics.Decisions, tellDecision
	}
	from := kafka.Position(kafka.Latest)
	if c.FromBeginning {
		from = kafka.Earliest
	}
	n := 0
	passed := map[int32]string{}
	err = kafka.Tail(ctx, sys.log, sys.run.Topic(topic), from, func(r *stream.Record) error {
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			fmt.Fprintf(t.err, "%s:%d:%d cannot be read: %v\n", topic, r.Partition, r.Offset, err)
			return nil
		}
		// Whoever takes a partition over publishes its last outputs again: the source position tells (docs/guarantees.md).
		if e.Sequence != "" && e.Sequence <= passed[r.Partition] {
			return nil
		}
		passed[r.Partition] = e.Sequence
		if c.JSON {
			fmt.Fprintf(t.out, "%s\n", r.Value)
		} else if line, err := tell(&e); err != nil {
			fmt.Fprintf(t.err, "%s:%d:%d cannot be read: %v\n", topic, r.Partition, r.Offset, err)
			return nil
		} else {
			fmt.Fprintln(t.out, line)
		}
		if n++; n == c.Count {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// unmarshal reads the data of a record.
func unmarshal(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	return nil
}

// tellDeviation is a deviation as one line.
func tellDeviation(e *stream.Event) (string, error) {
	var d deviation.Deviation
	if err := unmarshal(e.Data, &d); err != nil {
		return "", err
	}
	act := ""
	if d.Actionable {
		act = ", actionable"
	}
	return fmt.Sprintf("%s  %-9s %-12s %+.1f sigma  %s (1 in %s%s)", moment(e.Time, d.Zone), e.Subject, d.Kind, d.Z, d.Summary, grouped(d.OneIn), act), nil
}

// tellDecision is a decision as one line.
func tellDecision(e *stream.Event) (string, error) {
	var d decision.Decision
	if err := d.Parse(e.Type, e.Data); err != nil {
		return "", err
	}
	kind, err := decisionKind(e)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s  %-9s %-12s score %d, best %d  %s (%s)", moment(e.Time, d.Zone), e.Subject, strings.ReplaceAll(kind, "_", " "), d.Score.Now, d.Score.Best, d.Summary, d.Reason), nil
}

// moment is a time on the customer's wall clock.
func moment(at time.Time, zone string) string {
	if loc, err := calendar.Zone(zone); err == nil {
		at = at.In(loc)
	}
	return at.Format("Mon 2 Jan 2006 15:04")
}

// localHour writes a local hour as 2026-11-24 15h.
func localHour(h int64) string {
	return calendar.Instant(h, time.UTC).Format("2006-01-02 15h")
}

// style colours words for people; what is piped elsewhere stays plain.
type style struct{ strong, faint, accent, warm lipgloss.Style }

func styleFor(w io.Writer) style {
	r := lipgloss.NewRenderer(w)
	return style{
		strong: r.NewStyle().Bold(true),
		faint:  r.NewStyle().Foreground(lipgloss.AdaptiveColor{Light: "#5F6B76", Dark: "#8C97A0"}),
		accent: r.NewStyle().Foreground(lipgloss.AdaptiveColor{Light: "#0B6470", Dark: "#6CC5CB"}),
		warm:   r.NewStyle().Foreground(lipgloss.AdaptiveColor{Light: "#8A4B08", Dark: "#F0B765"}),
	}
}

// shade is a block whose fullness tells a score from 0 to 100.
func shade(score uint8) string {
	blocks := []string{"·", "░", "▒", "▓", "█"}
	return blocks[int(math.Min(float64(score)/20, 4))]
}
