package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/services/tempismo/rows"
)

// check finds what is wrong with the flags before anything is started.
func (c *columns) check() error {
	if _, ok := rows.Find(c.Preset); c.Preset != "" && !ok {
		return fmt.Errorf("--preset=%s: there is none of that name; there are %s, and list, which shows what each expects", c.Preset, strings.Join(rows.PresetNames(), ", "))
	}
	if c.TimesIn != "" {
		if _, err := calendar.Zone(c.TimesIn); err != nil {
			return fmt.Errorf("--times-in: %w", err)
		}
	}
	return nil
}

// listPresets writes what each preset expects.
func listPresets(w io.Writer) {
	for i, p := range rows.Presets {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s\n", p.Name)
		for _, l := range p.Layouts {
			fmt.Fprintf(w, "  %s\n", l.What)
			for _, f := range l.Expects() {
				fmt.Fprintf(w, "    %-10s%s\n", f.Field, f.Columns)
			}
			fmt.Fprintf(w, "    %-10s%s\n", "see", l.Docs)
		}
	}
}
