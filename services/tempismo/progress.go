package main

import (
	"io"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress draws bars for a person; where nobody watches it draws nothing.
type progress struct{ p *mpb.Progress }

func newProgress(w io.Writer) *progress {
	if !isTerminal(w) {
		return &progress{}
	}
	return &progress{mpb.New(mpb.WithOutput(w), mpb.WithWidth(60))}
}

// bar shows how far something has come.
type bar struct{ b *mpb.Bar }

// bar adds a bar; a total of 0 is not known yet.
func (p *progress) bar(name string, total int64) *bar {
	if p.p == nil {
		return &bar{}
	}
	return &bar{p.p.New(total, mpb.BarStyle().Lbound("").Rbound("").Filler("━").Tip("━").Padding("─"),
		mpb.PrependDecorators(decor.Name(name, decor.WC{W: 10, C: decor.DindentRight})),
		mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.Elapsed(decor.ET_STYLE_GO, decor.WC{W: 6})))}
}

func (b *bar) set(n int64) {
	if b.b != nil {
		b.b.SetCurrent(n)
	}
}

func (b *bar) total(n int64) {
	if b.b != nil {
		b.b.SetTotal(n, false)
	}
}

func (b *bar) done() {
	if b.b != nil {
		b.b.SetTotal(-1, true)
	}
}

// wait lets the last frame be drawn.
func (p *progress) wait() {
	if p.p != nil {
		p.p.Shutdown()
	}
}
