// Lines over time, drawn as SVG from lists of numbers with null where nothing is known.
import { el, clock } from "./dom.js";

const WIDTH = 300;

function path(values, height, most) {
  const step = WIDTH / Math.max(1, values.length - 1);
  let line = "";
  let area = "";
  let begun = null;
  values.forEach((value, index) => {
    const x = (index * step).toFixed(1);
    if (value === null || value === undefined) {
      if (begun !== null) area += `L${((index - 1) * step).toFixed(1)} ${height}Z`;
      begun = null;
      return;
    }
    const y = (height - (height - 2) * (value / most)).toFixed(1);
    line += `${begun === null ? "M" : "L"}${x} ${y}`;
    area += begun === null ? `M${x} ${height}L${x} ${y}` : `L${x} ${y}`;
    begun = index;
  });
  if (begun !== null) area += `L${((values.length - 1) * step).toFixed(1)} ${height}Z`;
  return [line, area];
}

/** The last `slots` values, the newest at the right; shorter lists begin further right. */
export function fitted(values, slots) {
  const last = (values ?? []).slice(-slots);
  return [...Array(slots - last.length).fill(null), ...last];
}

/** A line without axes. */
export function spark(values, label, slots = 60, height = 36) {
  const shown = fitted(values, slots);
  const most = Math.max(1e-9, ...shown.map((value) => value ?? 0));
  const [line, area] = path(shown, height, most);
  return el("svg.spark", { viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    el("path.area.a", { d: area }), el("path.line.a", { d: line }));
}

/** A chart: title, what is now, the lines on one scale. `series`: [{key, label, values}]; `unit` makes words of numbers. */
export function chart(id, title, note, series, times, unit) {
  const slots = Math.max(2, times.length);
  const all = series.flatMap(({ values }) => values ?? []).filter((value) => value !== null);
  const most = Math.max(1e-9, ...all);
  const lines = series.map(({ values }, index) => {
    const [line, area] = path(fitted(values, slots), 120, most);
    const letter = "ab"[index];
    return [el(`path.area.${letter}`, { d: area }), el(`path.line.${letter}`, { d: line })];
  });
  const now = series.map(({ label, values }, index) => {
    const value = values?.at(-1);
    return el("span.legend", null, el(`span.swatch.${"ab"[index]}`, { "aria-hidden": "true" }), `${label} `, el("strong", null, unit(value)));
  });
  const label = series.map(({ label: what, values }) => `${what}: now ${unit(values?.at(-1))}`).join("; ");
  return el("article.chart", { "data-chart": id },
    el("h3", null, title), el("p.note", null, note), el("p.legends", null, now),
    el("div.plot", null,
      el("span.most", null, all.length && most > 1e-9 ? unit(most) : ""),
      el("svg", { viewBox: `0 0 ${WIDTH} 120`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}. ${label}` },
        [0.25, 0.5, 0.75].map((share) => el("line.grid", { x1: 0, x2: WIDTH, y1: 120 * share, y2: 120 * share })), lines),
      el("span.cursor", { hidden: true })),
    el("p.axis", null, el("span", null, times.length ? clock(times[0]) : ""), el("span.reading", { "aria-hidden": "true" }, ""),
      el("span", null, times.length ? clock(times.at(-1)) : "")));
}
