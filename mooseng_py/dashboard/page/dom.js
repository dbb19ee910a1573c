// Elements, numbers and times. Text only ever goes in as text: there is no way here to put in HTML.
const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "rect", "path", "line", "circle", "g", "text"]);

/** An element: el("p.note", {title: "x"}, "text", child, ...). Children that are null or false are left out. */
export function el(kind, attributes, ...children) {
  const [tag, ...classes] = kind.split(".");
  const made = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag || "div");
  if (classes.length) made.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat(4).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** Make `old` look like `fresh`, changing only what differs, so that focus and selection stay. */
export function patch(old, fresh) {
  const before = [...old.childNodes];
  const after = [...fresh.childNodes];
  after.forEach((node, index) => {
    const there = before[index];
    if (!there) old.append(node);
    else if (there.nodeType !== node.nodeType || there.nodeName !== node.nodeName) there.replaceWith(node);
    else if (node.nodeType === Node.TEXT_NODE) {
      if (there.data !== node.data) there.data = node.data;
    } else {
      attributes(there, node);
      patch(there, node);
    }
  });
  before.slice(after.length).forEach((node) => node.remove());
}

function attributes(old, fresh) {
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
}

// ---- words and numbers ----------------------------------------------------------------------------------------------
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(number) {
  if (number === null || number === undefined) return "–";
  let unit = 0;
  while (Math.abs(number) >= 1024 && unit < UNITS.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${unit && number < 100 ? number.toFixed(1) : Math.round(number)} ${UNITS[unit]}`;
}

export function count(number) {
  return number === null || number === undefined ? "–" : Math.round(number).toLocaleString("en");
}

export function rate(number) {
  if (number === null || number === undefined) return "–";
  if (number === 0) return "0";
  return number < 10 ? number.toFixed(1) : number < 10000 ? String(Math.round(number)) : `${(number / 1000).toFixed(1)} k`;
}

export function percent(part, whole) {
  return whole ? `${Math.round((100 * part) / whole)} %` : "–";
}

/** A span of time in its two largest units. */
export function span(ms) {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export function ago(ms) {
  return ms === null || ms === undefined ? "never" : ms < 1000 ? "now" : `${span(ms)} ago`;
}

export function moment(ms) {
  return new Date(ms).toLocaleString("sv", { hour12: false });
}

export function clock(ms) {
  return new Date(ms).toLocaleTimeString("sv", { hour12: false });
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

// ---- parts that every section uses ------------------------------------------------------------------------------------
const MARKS = { good: "●", info: "●", warning: "▲", bad: "■", unknown: "○" };

/** A state: a mark of its own shape, and the word; colour only adds to it. */
export function state(severity, word) {
  return el(`span.state.${severity}`, null, el("span.mark", { "aria-hidden": "true" }, MARKS[severity] ?? "○"), word);
}

/** How full something is, 0 to 1. */
export function bar(share, label, severity = "good") {
  const width = Math.max(0, Math.min(1, share || 0)) * 100;
  return el("svg.bar", { viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": label },
    el("rect.track", { width: 100, height: 6 }), el(`rect.fill.${severity}`, { width, height: 6 }));
}

export function tile(label, value, note, extra) {
  return el("div.tile", null, el("h3", null, label), el("p.value", null, value), note ? el("p.note", null, note) : null, extra);
}

export function section(title, note, ...children) {
  return el("section", null, el("div.heading", null, el("h2", null, title), note ? el("p", null, note) : null), children);
}

/** Columns: [title, class]; rows: lists of cells. Wide tables scroll within themselves. */
export function table(caption, columns, rows, empty) {
  if (!rows.length) return el("p.empty", null, empty);
  return el("div.scroll", { tabindex: "0", role: "region", "aria-label": caption },
    el("table", null, el("caption.unseen", null, caption),
      el("thead", null, el("tr", null, columns.map(([title, kind]) => el("th", { scope: "col", class: kind }, title)))),
      el("tbody", null, rows.map((cells) => el("tr", null, cells.map((cell, index) => el("td", { class: columns[index][1] }, cell)))))));
}

export function facts(pairs) {
  return el("dl", null, pairs.filter(Boolean).map(([name, value]) => el("div", null, el("dt", null, name), el("dd", null, value))));
}
