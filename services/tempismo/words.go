package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/stream"
)

// grouped writes a number with its thousands apart.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted writes a number and what it counts, in the singular or the plural.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func total(counts map[string]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// listed writes counts by name, in order of the names.
func listed(counts map[string]int64) string {
	var names []string
	for name := range counts {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = name + " " + grouped(counts[name])
	}
	return strings.Join(names, ", ")
}

func deviationKind(e *stream.Event) (string, error) {
	var d deviation.Deviation
	if err := unmarshal(e.Data, &d); err != nil {
		return "", err
	}
	return d.Kind, nil
}

// decisionKind is the middle of the type: io.tempismo.decision.KIND.v1.
func decisionKind(e *stream.Event) (string, error) {
	kind, ok := strings.CutPrefix(e.Type, strings.TrimSuffix(decision.SendNowType, "send_now.v1"))
	if !ok {
		return "", fmt.Errorf("type %q is no decision", e.Type)
	}
	return strings.TrimSuffix(kind, ".v1"), nil
}

// runOf is a run as pkg/config checks it.
func runOf(r stream.Run) config.Run {
	if r.Simulated {
		return config.Run{ID: r.ID, Mode: "simulated"}
	}
	return config.Run{ID: r.ID, Mode: "live"}
}
