// Which section is shown, and what keeps it fresh. Each section renders from data alone and is patched into place.
import { ago, el, moment, patch, span } from "./dom.js";
import { ask } from "./ask.js";
import * as cluster from "./cluster.js";
import * as chunks from "./chunks.js";
import * as rates from "./rates.js";
import * as events from "./events.js";
import * as files from "./files.js";

const SECTIONS = { cluster, chunks, rates, events, files };
const EVERY_MS = 2000;
const SLOWEST_MS = 15000;

const data = { overview: null, rates: null, events: null };
let failing = null; // {since, reason} while the dashboard itself does not answer
let heard = 0;
let pause = EVERY_MS;
let timer = 0;

const at = (id) => document.getElementById(id);

function shown() {
  const [name] = location.hash.replace(/^#\/?/, "").split("/");
  return SECTIONS[name] ? name : "cluster";
}

async function refresh() {
  clearTimeout(timer);
  const wanted = ["overview", ...(SECTIONS[shown()].needs ?? [])];
  try {
    const answers = await Promise.all(wanted.map((what) => ask(`/api/${what}`)));
    wanted.forEach((what, index) => { data[what] = answers[index]; });
    failing = null;
    heard = Date.now();
    pause = EVERY_MS;
  } catch (error) {
    failing ??= { since: Date.now() };
    failing.reason = error.name === "TimeoutError" ? "no answer within 12 s" : error.message;
    pause = Math.min(SLOWEST_MS, pause * 1.5);
  }
  draw();
  if (!document.hidden) timer = setTimeout(refresh, pause);
}

function draw() {
  const name = shown();
  frame(name);
  if (name !== "files" && data.overview) {
    const fresh = el("main", null, SECTIONS[name].render(data));
    patch(at("main"), fresh);
  } else if (name !== "files" && failing) {
    patch(at("main"), el("main", null, el("p.empty", null, "Nothing is known yet: the dashboard does not answer.")));
  }
}

/** Everything around the section. */
function frame(name) {
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.getAttribute("href").split("/")[1] === name;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const overview = data.overview;
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · MooseNG`;
  at("cluster-id").textContent = overview?.cluster_id ?? "";
  at("since").textContent = overview ? `Watching since ${moment(overview.since_ms)}` : "";
  const alarm = at("alarm");
  alarm.hidden = !failing;
  alarm.textContent = failing
    ? `This dashboard does not answer (${failing.reason}).${heard ? ` What you see is from ${ago(Date.now() - heard)}.` : ""} Trying again.`
    : "";
  freshness();
}

function freshness() {
  const overview = data.overview;
  if (!overview || failing) {
    at("freshness").textContent = failing ? "offline" : "";
    return;
  }
  const age = overview.heard_ms_ago === null ? null : overview.heard_ms_ago + (Date.now() - heard);
  at("freshness").textContent = age === null ? "no master heard yet" : age < 6000 ? "live" : `masters heard ${span(age)} ago`;
  at("freshness").className = age !== null && age < 6000 ? "live" : "old";
}

function turn() {
  const name = shown();
  at("main").replaceChildren(el("p.empty", null, "Loading…"));
  if (name === "files") files.show(at("main"), data);
  else if (data.overview && (SECTIONS[name].needs ?? []).every((what) => data[what])) draw();
  frame(name);
  refresh();
  scrollTo(0, 0);
}

// ---- colours: as the system, light, dark --------------------------------------------------------------------------
const THEMES = { system: ["◐", "Colours: as the system"], light: ["☀", "Colours: light"], dark: ["☾", "Colours: dark"] };

function theme(name) {
  const [mark, label] = THEMES[name];
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  at("theme").textContent = mark;
  at("theme").setAttribute("aria-label", label);
  at("theme").title = label;
  try { localStorage.setItem("theme", name); } catch { /* private windows keep nothing */ }
}

function kept() {
  try { return THEMES[localStorage.getItem("theme")] ? localStorage.getItem("theme") : "system"; } catch { return "system"; }
}

at("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  theme(names[(names.indexOf(kept()) + 1) % names.length]);
});
theme(kept());
addEventListener("hashchange", turn);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); at("main").focus(); });
rates.listen(document, () => data.rates);
if (!location.hash) history.replaceState(null, "", "#/cluster");
turn();
