package console

import (
	"context"
	"html/template"
	"log/slog"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/chart"
	"github.com/tempismo/tempismo/services/console/say"
)

// storyView is one of the three stories that a simulated run shows to those who see Tempismo for the first time.
type storyView struct {
	rowView
	Clock template.HTML
}

// dials are the customers' attention by hour of the day, by the id of the story's deviation.
type dials map[string][timing.Day]float64

// tell puts the most telling deviations into words and small clocks. One without a customer says that there is none yet.
func (v *nowView) tell(b *board.Board, d dials) {
	for i, row := range b.Stories() {
		kind := board.StoryKinds[i]
		if row.Deviation == nil {
			v.Stories = append(v.Stories, storyView{
				rowView{Name: say.Named(v.L, "kind.", kind), Glyph: chart.Glyph(kind), Text: v.L.T("story.none." + kind)}, chart.Mini([timing.Day]float64{}, kind, nil),
			})
			continue
		}
		r := sayRow(v.L, row, b.Clock(), b.Zone())
		r.Date = v.L.Date(row.Time.In(b.Zone()))
		v.Stories = append(v.Stories, storyView{r, chart.Mini(d[row.ID], kind, say.MovedBy(row.Deviation))})
	}
}

// picture looks up the profiles behind the stories, so that each has its clock. One that cannot be read is drawn without.
func (s *server) picture(ctx context.Context) {
	s.state.mu.Lock()
	rows, clock := s.state.board.Stories(), s.state.board.Clock()
	s.state.mu.Unlock()
	fresh := dials{}
	ctx, cancel := context.WithTimeout(ctx, vitalsWithin)
	defer cancel()
	for _, row := range rows {
		if row.Deviation == nil {
			continue
		}
		k, err := s.lookup(ctx, row.Customer)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.log.WarnContext(ctx, "a story's profile is not read", slog.Any("error", err))
		case k.found:
			view := k.view(row.Deviation.Channel, clock, s.zone)
			fresh[row.ID] = say.ByHour(&view)
		}
	}
	s.state.mu.Lock()
	s.state.dials = fresh
	s.state.mu.Unlock()
}

// view is what the model makes of a profile at a moment; fallback is the zone where the customer's is not known.
func (k *known) view(channel string, clock time.Time, fallback *time.Location) timing.View {
	zone, err := calendar.Zone(k.profile.Zone)
	if err != nil {
		zone = fallback
	}
	now, _ := calendar.LocalHour(clock, zone)
	return k.profile.View(k.model, channel, now)
}
