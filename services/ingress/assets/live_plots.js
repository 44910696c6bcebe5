// Plots of the last ten minutes, of all instances: what /admin/v1/pulse says, drawn by uPlot.
const PULSE_PERIOD_MS = 5000;
const PLOT_HEIGHT = 180;
const SPAN_SECONDS = 600;
// Told apart on white and on black, also by who does not see red or green.
const COLOURS = ["#3b82c4", "#d9730d", "#0f9d6e", "#c2569b", "#a08000", "#8a6bd1", "#d14b4b", "#4c9aa8", "#7a7a85", "#9b6b3f"];
const CLOCK = new Intl.DateTimeFormat(TEXTS.tag, { timeStyle: "medium" });
const MINUTE = new Intl.DateTimeFormat(TEXTS.tag, { hour: "2-digit", minute: "2-digit", hour12: false });
const plots = new Map();
let lastPulse = null;

function newPlot(place, names) {
  const style = getComputedStyle(document.documentElement);
  const [soft, line] = ["--soft", "--line"].map((name) => style.getPropertyValue(name));
  const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  const time = { label: WORDS.time, value: (_, at) => (at === null ? "–" : CLOCK.format(at * 1000)) };
  const value = (_, figure) => (figure === null || figure === undefined ? "–" : figure.toLocaleString(TEXTS.tag, { maximumFractionDigits: 1 }));
  const series = names.map((label, i) => ({ label, value, stroke: COLOURS[i % COLOURS.length], width: 2, dash: i < COLOURS.length ? undefined : [6, 4], points: { size: 4 } }));
  const scales = { y: { range: (_, least, most) => [0, Math.max(most ?? 0, 1) * 1.05] } };
  const axes = [
    { ...axis, values: (_, at) => at.map((t) => MINUTE.format(t * 1000)) },
    { ...axis, size: 64, values: (_, figures) => figures.map((figure) => figure.toLocaleString(TEXTS.tag)) },
  ];
  const options = { width: place.clientWidth, height: PLOT_HEIGHT, series: [time, ...series], scales, axes, cursor: { drag: { x: false, y: false } } };
  return new uPlot(options, undefined, place);
}

// One line a name. Slots of which nobody reported are gaps.
function draw(id, at, lines) {
  const names = Object.keys(lines);
  const key = JSON.stringify(names);
  let known = plots.get(id);
  if (known?.key !== key) {
    known?.plot.destroy();
    known = { key, plot: newPlot(byId(id), names) };
    plots.set(id, known);
  }
  known.plot.setData([at, ...Object.values(lines)]);
}

function drawPulse(pulse) {
  lastPulse = pulse;
  // A plot is as wide as its place, which shows with the figures.
  if (byId("figures").hidden) return;
  const every = pulse.slot_seconds;
  const slots = new Map(pulse.slots.map((slot) => [Date.parse(slot.at) / 1000, slot]));
  const newest = Math.floor(Date.now() / 1000 / every) * every;
  const at = Array.from({ length: SPAN_SECONDS / every }, (_, i) => newest - SPAN_SECONDS + i * every);
  const each = (read) => at.map((t) => (slots.has(t) ? (read(slots.get(t)) ?? null) : null));
  const names = (read) => [...new Set(pulse.slots.flatMap((slot) => Object.keys(read(slot))))].sort();
  const lines = (some, read) => Object.fromEntries(some.map((name) => [name, each((slot) => read(slot, name))]));
  const rate = (slot, name) => (slot.answers[name] ?? 0) / every;
  const accepted = ["reserved", "pending"];
  const refused = names((slot) => slot.answers).filter((name) => !accepted.includes(name));
  const ms = (seconds) => (seconds === null ? null : seconds * 1000);
  draw("plot-accepted", at, lines(accepted, rate));
  draw("plot-refused", at, lines(refused, rate));
  draw("plot-lag", at, { [WORDS.fold_lag]: each((slot) => slot.lag?.fold.seconds), [WORDS.effects_lag]: each((slot) => slot.lag?.effects.seconds) });
  draw("plot-latency", at, { p50: each((slot) => ms(slot.p50_seconds)), p99: each((slot) => ms(slot.p99_seconds)) });
  const sales = names((slot) => slot.stock).map((id) => [`${WORDS.sale} ${id}`, each((slot) => slot.stock[id])]);
  draw("plot-stock", at, Object.fromEntries(sales));
}

// A plot has its colours and its width from its beginning.
function redraw() {
  for (const { plot } of plots.values()) plot.destroy();
  plots.clear();
  if (lastPulse) drawPulse(lastPulse);
}

async function lookAtPulse() {
  drawPulse(await get("/admin/v1/pulse"));
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let width = 0;
new ResizeObserver(([{ contentRect }]) => {
  if (contentRect.width === width) return;
  width = contentRect.width;
  redraw();
}).observe(byId("figures"));
