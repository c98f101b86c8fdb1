// The console's only script: it moves the cursor over a map, switches the view, and takes what the server sends. Every
// text and drawing comes finished from the server; without this script the page is whole and stands still.

const lang = document.documentElement.lang;
const main = document.getElementById('main');
const num = (v, d = 0, sign) => Number(v)
  .toLocaleString(lang, {minimumFractionDigits: d, maximumFractionDigits: d, useGrouping: 'always', signDisplay: sign ? 'always' : 'auto'})
  .replace('-', '−');
const fill = (text, values) => text.replace(/{(\d)}/g, (_, i) => values[i]);

// ---- maps: one tab stop; arrows or the pointer move a cursor, and a sentence below reads the cell.

const data = JSON.parse(document.getElementById('cells')?.textContent ?? 'null');
const week = document.getElementById('week');
const scores = document.getElementById('scores');

// A week's cell is [day, engaged, expected, model, z, state]: state 1 is little evidence, 2 is not over yet.
function sayWeek(i) {
  const [day, engaged, expected, model, z, state] = data.cells[i], h = i % 24;
  const at = [data.days[day], `${String(h).padStart(2, '0')}–${String((h + 1) % 24).padStart(2, '0')}`];
  if (state & 2) return fill(week.dataset.filling, [...at, num(engaged)]);
  if (!expected && !engaged) return fill(week.dataset.empty, at);
  const say = fill(week.dataset.say, [...at, num(engaged), num(expected, expected < 20 ? 1 : 0), expected ? num(engaged / expected, 2) : '–', num(model, model < 20 ? 1 : 0), num(z, 1, true)]);
  return state & 1 ? say + ' ' + week.dataset.weak : say;
}

function sayScore(i) {
  const [score, attention] = data.cells[i];
  return fill(scores.dataset.say, [data.days[i < data.from ? 7 : Math.floor(i / 24)], `${String(i % 24).padStart(2, '0')}:00`, score, num(attention, 1)]);
}

// What the cell under the cursor says may change by itself; then it is not read aloud.
const read = document.getElementById('read');
const quietly = say => {
  if (read.textContent === say) return;
  read.setAttribute('aria-live', 'off');
  read.textContent = say;
};
let reread = () => { const map = document.querySelector('svg.hm[tabindex]'); if (map && week) quietly(sayWeek(+map.dataset.at)); };
for (const map of document.querySelectorAll('svg.hm[tabindex]')) {
  const [x0, y0, cw, ch] = map.dataset.g.split(' ').map(Number);
  const tall = map.classList.contains('tall'), cur = map.querySelector('.cur');
  let at = +map.dataset.at;
  const show = i => {
    at = i;
    const day = Math.floor(i / 24), hour = i % 24;
    cur.setAttribute('x', x0 + (tall ? day : hour) * cw - 1);
    cur.setAttribute('y', y0 + (tall ? hour : day) * ch - 1);
    read.setAttribute('aria-live', 'polite');
    read.textContent = week ? sayWeek(i) : sayScore(i);
    reread = () => quietly(week ? sayWeek(at) : sayScore(at));
  };
  map.addEventListener('pointermove', e => {
    const box = map.getBoundingClientRect(), scale = map.viewBox.baseVal.width / box.width;
    const col = Math.floor(((e.clientX - box.left) * scale - x0) / cw), row = Math.floor(((e.clientY - box.top) * scale - y0) / ch);
    const [day, hour] = tall ? [col, row] : [row, col];
    if (day < 0 || day > 6 || hour < 0 || hour > 23) return map.classList.remove('hov');
    map.classList.add('hov');
    if (day * 24 + hour !== at || cur.getAttribute('x') < 0) show(day * 24 + hour);
  });
  map.addEventListener('pointerleave', () => map.classList.remove('hov'));
  map.addEventListener('keydown', e => {
    const step = {ArrowRight: tall ? 24 : 1, ArrowLeft: tall ? -24 : -1, ArrowDown: tall ? 1 : 24, ArrowUp: tall ? -1 : -24}[e.key];
    if (!step || e.altKey || e.ctrlKey || e.metaKey) return;
    e.preventDefault();
    show((at + step + 168) % 168);
  });
  map.addEventListener('focus', () => show(at));
}

// ---- controls: the view is a class; filters are a new page, so that they live in the URL.

for (const link of document.querySelectorAll('[data-view]')) link.addEventListener('click', e => {
  if (e.ctrlKey || e.metaKey || e.shiftKey) return;
  e.preventDefault();
  week.className = 'v-' + link.dataset.view;
  document.querySelector('input[name=view]').value = link.dataset.view;
  for (const other of document.querySelectorAll('[data-view]')) other.toggleAttribute('aria-current', false);
  link.setAttribute('aria-current', 'true');
  history.replaceState(null, '', link.href);
});
document.getElementById('filters')?.addEventListener('change', e => e.currentTarget.submit());

// ---- live: one stream of named events.

const set = (id, html) => { const e = document.getElementById(id); if (e && e.innerHTML !== html) e.innerHTML = html; };
const kept = 50;

// A feed has a fixed number of slots of a fixed height, whose contents move down. Nothing changes its place in the
// layout, whatever arrives; and nothing arrives while somebody reads, that is points at it, is in it or has scrolled.
class Feed {
  constructor(section) {
    this.list = section.querySelector('ol');
    this.rows = [...this.list.children].map(li => ({id: li.dataset.id, html: li.innerHTML}));
    this.waiting = [];
    this.button = section.querySelector('button');
    if (this.button) {
      this.button.hidden = false;
      this.button.addEventListener('click', () => {
        this.paused = !this.paused;
        this.button.setAttribute('aria-pressed', !!this.paused);
        this.flush();
      });
    }
    for (const type of ['pointerenter', 'pointerleave', 'focusin', 'focusout']) this.list.addEventListener(type, e => {
      if (type.startsWith('pointer')) this.pointed = type === 'pointerenter' && e.pointerType === 'mouse';
      else this.focused = type === 'focusin';
      this.flush();
    });
    this.list.addEventListener('scroll', () => this.flush(), {passive: true});
  }
  get held() { return this.paused || this.pointed || this.focused || this.list.scrollTop > 4; }
  add(row) {
    if (this.rows.some(r => r.id === row.id) || this.waiting.some(r => r.id === row.id)) return;
    this.waiting.push(row);
    if (this.waiting.length > kept) this.waiting.shift();
    this.flush();
  }
  update(row) {
    const i = this.rows.findIndex(r => r.id === row.id);
    if (i < 0 || this.rows[i].html === row.html) return;
    this.rows[i].html = row.html;
    const li = this.list.children[i];
    if (li && !li.contains(document.activeElement)) li.innerHTML = row.html;
  }
  flush() {
    if (!this.held && this.waiting.length) {
      const fresh = this.waiting.length;
      this.rows = [...this.waiting.reverse(), ...this.rows].slice(0, kept);
      this.waiting = [];
      while (this.list.children.length < this.rows.length) this.list.append(document.createElement('li'));
      this.rows.forEach((row, i) => {
        const li = this.list.children[i];
        li.dataset.id = row.id;
        li.innerHTML = row.html;
        li.className = i < fresh ? 'row new' : 'row';
      });
    }
    if (this.button) {
      const b = this.button.dataset;
      this.button.textContent = this.paused ? (this.waiting.length ? fill(b.paused, [num(this.waiting.length)]) : b.resume) : b.pause;
    }
  }
}

if (main?.dataset.stream) {
  const feeds = {};
  for (const s of document.querySelectorAll('[data-feed]')) feeds[s.dataset.feed] = new Feed(s);
  const live = document.getElementById('live'), say = live.querySelector('.say');
  let clock = '';
  const source = new EventSource(main.dataset.stream);
  const on = (name, f) => source.addEventListener(name, e => f(JSON.parse(e.data)));

  source.addEventListener('open', () => { live.classList.replace('off', 'on') || live.classList.add('on'); say.textContent = ''; });
  source.addEventListener('error', () => {
    live.classList.replace('on', 'off') || live.classList.add('off');
    say.textContent = fill(live.dataset.off, [clock || document.querySelector('#clock b')?.textContent || '–']) + ' ';
  });
  on('parts', parts => {
    for (const [id, html] of Object.entries(parts)) set(id, html);
    clock = document.querySelector('#clock b')?.textContent ?? '';
  });
  on('cells', change => {
    if (!week) return;
    if (change.days) data.days = change.days;
    const maps = week.querySelectorAll('.cells');
    for (const [i, name, cell] of change.cells) {
      data.cells[i] = cell;
      for (const map of maps) if (map.children[i].getAttribute('class') !== name) map.children[i].setAttribute('class', name);
    }
    reread();
  });
  on('deviation', row => feeds.deviation?.add(row));
  on('decision', row => feeds.decision?.add(row));
  on('update', row => { for (const f of Object.values(feeds)) f.update(row); });
  addEventListener('pagehide', () => source.close());
  addEventListener('pageshow', e => { if (e.persisted) location.reload(); });
}
