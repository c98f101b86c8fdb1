package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/topics"
)

// enforce puts a policy into force whose calendars have every kind.
func (w *town) enforce(version string) {
	w.t.Helper()
	day := func(month time.Month, d int) calendar.Day { return calendar.Day{Year: 2026, Month: month, Day: d} }
	it, milano := calendar.Place{Country: "IT"}, calendar.Place{Country: "IT", Comune: "Milano"}
	rules := []calendar.Rule{
		{Name: "Immacolata Concezione", Kind: calendar.National, In: "Italy", Places: []calendar.Place{it}, Days: []calendar.Day{day(12, 8)}},
		{Name: "Natale", Kind: calendar.National, In: "Italy", Places: []calendar.Place{it}, Days: []calendar.Day{day(12, 25)}},
		{Name: "Sant'Ambrogio", Kind: calendar.Municipal, In: "Milano", Places: []calendar.Place{milano}, Days: []calendar.Day{day(12, 7)}},
		{Name: "Lunedì di Pentecoste", Kind: calendar.Regional, In: "Bolzano", Places: []calendar.Place{{Country: "IT", Province: "BZ"}}, Days: []calendar.Day{day(5, 25)}},
		{Name: "summer & rest", Kind: calendar.Custom},
		{Name: "weekend", Kind: calendar.Bank, In: "T2"},
	}
	for d := range 12 {
		rules[4].Days = append(rules[4].Days, day(8, 10+d))
	}
	for d := day(1, 3); d.Year == 2026; d = d.Add(7) {
		rules[5].Days = append(rules[5].Days, d)
	}
	book, err := calendar.NewBook("IT-2026", "IT", 2025, 2027, rules)
	if err != nil {
		w.t.Fatal(err)
	}
	p := decision.Default()
	p.Version, p.Closed = version, book
	w.emit(topics.Policies, decision.PolicyType, "po-"+version, "", w.now, json.RawMessage(p.Append(nil)))
}

func TestTheCalendarShowsTheYearOfThePolicyInForce(t *testing.T) {
	w := newTown(t, Config{})
	h := w.s.handler()
	page := func(query string) string { return body(t, get(t, h, "/calendar?"+query)) }
	says := func(page string, want ...string) {
		t.Helper()
		for _, s := range want {
			if !strings.Contains(page, s) {
				t.Errorf("the page does not say %q", s)
			}
		}
	}
	says(page("lang=en&year=2026"), "Where no place is known: nothing is sent on 13 days of 2026", "No policy has been put into force yet", "Policy "+decision.Default().Version, "Calendar "+calendar.Italy.Name)
	w.history(1)
	w.enforce("3")
	milano := page("lang=en&place=milano")
	says(milano, "milano: nothing is sent on", " days of 2026", "Policy 3", "Calendar IT-2026.",
		"The next closed day is Sat 5 Dec: weekend.",
		`<td class="k-municipal" title="Sant&#39;Ambrogio, Patron saint, Milano">7</td>`,
		`<td class="k-national" title="Immacolata Concezione, Nation, Italy">8</td>`,
		`<td class="k-closure" title="summer &amp; rest, Closure">10</td>`,
		`<tbody><tr><td></td><td>1</td><td>2</td><td class=" today">3</td><td>4</td><td class="k-bank" title="weekend, Bank, T2">5</td><td>6</td></tr>`,
		`<th scope="row">Mon 7 Dec</th><td class="l">Sant&#39;Ambrogio</td><td class="l">Patron saint</td><td class="l">Milano</td>`,
		`<th scope="row">Mon 10 Aug to Fri 21 Aug</th><td class="l">summer &amp; rest</td>`,
		`<td class="l">weekend</td><td class="l">Bank</td><td class="l">T2</td>`,
		`<option value="Milano">`, `<option value="BZ">`,
		`href="/calendar?place=milano&amp;year=2025"`, `href="/calendar?place=milano&amp;year=2027"`)
	if strings.Contains(milano, "Pentecoste") || strings.Contains(milano, "has no days of its own") || strings.Contains(milano, "No policy has been") {
		t.Error("Milano keeps Bolzano's day, or none of its own, or those of no policy")
	}
	if n := strings.Count(milano, `<table class="mo">`); n != 12 {
		t.Errorf("%d months", n)
	}
	if n := strings.Count(milano, `"k-`); n < 60 {
		t.Errorf("%d closed days are marked", n)
	}
	says(page("lang=en&place=BZ"), "Lunedì di Pentecoste", "BZ: nothing is sent on")
	says(page("lang=en&place=Milnao"), "Milnao has no days of its own here")
	says(page("lang=en&place=Milano&year=2025"), "Milano: every day of 2025 is open")
	if first := page("lang=en&year=2025"); strings.Contains(first, "year=2024") || !strings.Contains(first, "year=2026") {
		t.Error("the page leads to a year of which nothing is known, or not to the next")
	}
	if unknown := page("lang=en&year=2031"); !strings.Contains(unknown, "The days of this policy are known from 2025 to 2027.") || strings.Contains(unknown, "is open") {
		t.Error("a year of which nothing is known is shown as open")
	}
	says(page("lang=it&place=Milano"), "Milano: nessun invio in", "giorni del 2026", "Il prossimo giorno chiuso è sab 5 dic", "da lun 10 ago a ven 21 ago", "Santo patrono", "dicembre", "dom")
	for _, odd := range []string{"year=0", "year=x", "year=-1", "year=99999", "place=" + strings.Repeat("x", 100), "place=" + url.QueryEscape(`"><script>`), "place=%ff"} {
		r := get(t, h, "/calendar?lang=en&"+odd)
		if text := body(t, r); r.StatusCode != http.StatusOK || !strings.Contains(text, "days of 2026") || strings.Contains(text, "<script>") || strings.Contains(text, `value="xxx`) {
			t.Errorf("%s: %s", odd, r.Status)
		}
	}
}

func TestBrowserShowsTheCalendar(t *testing.T) {
	w := newTown(t, Config{Embedded: true, Pace: 60})
	w.history(9)
	w.enforce("3")
	b := browse(t, w)
	for _, form := range []struct {
		name, lang, scheme string
		width              int64
	}{{"calendar.light", "en", "light", 1440}, {"calendar.dark", "it", "dark", 1440}, {"calendar.tablet", "en", "light", 1024}, {"calendar.mobile", "it", "light", 390}} {
		b.size(form.width, 1000, form.scheme)
		b.open("/calendar?place=Milano&lang=" + form.lang)
		b.picture(form.name)
		if over := eval[int](b, fmt.Sprintf(`document.documentElement.scrollWidth - %d`, form.width)); over > 0 {
			t.Errorf("%s scrolls sideways by %d px", form.name, over)
		}
		if n := eval[int](b, `[...document.querySelectorAll('.mo td[class]')].filter(c => c.getBoundingClientRect().width > 18).length`); n < 60 {
			t.Errorf("%s: %d closed days are wide enough to be read", form.name, n)
		}
		// A number on its ground is read at 4.5:1 (WCAG 2.2, 1.4.3).
		if faint := eval[[]string](b, contrast); len(faint) > 0 {
			t.Errorf("%s: too faint: %v", form.name, faint)
		}
	}
	b.size(1440, 1000, "light")
	b.open("/calendar?lang=en")
	eval[bool](b, `(() => { document.querySelector('input[name=place]').value = 'BZ'; document.querySelector('form.find button').click(); return true; })()`)
	b.wait("the place is in the address", `location.search.includes('place=BZ') && document.readyState === 'complete'`)
	if h1 := eval[string](b, `document.querySelector('h1').textContent`); !strings.HasPrefix(h1, "BZ: ") {
		t.Errorf("the heading says %q", h1)
	}
}

// contrast lists the kinds of closed days whose number is too faint on its ground.
const contrast = `(() => {
  const rgb = s => s.match(/[\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const page = rgb(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll('.mo td[class^=k]')].filter(c => {
    const style = getComputedStyle(c), ground = rgb(style.backgroundColor);
    const [a, b] = [light(rgb(style.color)), light(ground[3] === 0 ? page : ground)].sort((x, y) => y - x);
    return (a + .05) / (b + .05) < 4.5;
  }).map(c => c.className);
})()`
