// The cluster at a glance: verdict, figures, the map of its nodes, who leads.
import { ago, bar, bytes, count, el, facts, percent, plural, rate, section, span, state, table, tile } from "./dom.js";
import { spark } from "./chart.js";
import { list } from "./events.js";

export const needs = ["rates", "events"];

const WORDS = { good: "All is well", warning: "Needs attention", bad: "In trouble", unknown: "Looking" };

export function render({ overview, rates, events }) {
  return [
    verdict(overview),
    figures(overview, rates),
    section("Cluster map", "Every node, as it was last seen",
      el("div.map", null,
        lane("Masters", "keep names and chunk table", overview.masters.map(master)),
        lane("Chunkservers", "keep the bytes", overview.chunkservers.map(chunkserver)),
        lane("Clients", "mounts and sessions", overview.clients.map(client)))),
    section("Leader and terms", leadership(overview), terms(overview)),
    section("Latest events", null, list(events, 6), el("p", null, el("a", { href: "#/events" }, "All events"))),
  ];
}

function verdict({ verdict: { state: severity, sentences } }) {
  return el(`div.verdict.${severity}`, { "data-verdict": severity },
    el("h1", null, state(severity, WORDS[severity])), el("ul", null, sentences.map((text) => el("li", null, text))));
}

function figures({ leader, chunks, space, rates: now }, rates) {
  const used = space.total_bytes - space.free_bytes;
  const series = rates?.series ?? {};
  return el("div.figures", null, el("div.tiles", null,
    tile("Leader", leader ? leader.name : "none", leader ? `term ${leader.term}, ${plural(leader.agreeing.length, "master agrees", "masters agree")}` : "names stand still until one is elected"),
    tile("Chunks whole", chunks.known ? (chunks.total ? percent(chunks.whole, chunks.total) : "no chunks") : "–",
      chunks.known ? `${count(chunks.whole)} of ${count(chunks.total)}, ${chunks.copies} ${chunks.copies === 1 ? "copy" : "copies"} each` : "no leader has told yet"),
    tile("Disks used", space.total_bytes ? percent(used, space.total_bytes) : "–", `${bytes(space.free_bytes)} free of ${bytes(space.total_bytes)}, all copies`,
      bar(space.total_bytes ? used / space.total_bytes : 0, `disks: ${percent(used, space.total_bytes)} used`, fullness(space))),
    tile("Files and directories", count(chunks.inodes), chunks.file_bytes === null ? null : `${bytes(chunks.file_bytes)} of content`)),
  el("div.tiles", null,
    tile("Reading", `${bytes(now.read_bytes ?? null)}/s`, "sent by chunkservers", spark(series.read_bytes, "bytes read in the last two minutes")),
    tile("Writing", `${bytes(now.written_bytes ?? null)}/s`, "all copies", spark(series.written_bytes, "bytes written in the last two minutes")),
    tile("Names", `${rate(now.name_ops ?? null)}/s`, "operations at masters", spark(series.name_ops, "operations on names in the last two minutes"))));
}

function fullness({ total_bytes: total, free_bytes: free }) {
  return !total || free / total > 0.15 ? "good" : free / total > 0.05 ? "warning" : "bad";
}

function lane(title, note, cards) {
  return el("div.lane", null, el("h3", null, title, el("small", null, note)), cards.length ? cards : el("p.empty", null, "none known"));
}

function card(severity, word, name, address, pairs, old, extra) {
  return el(`article.card.${severity}`, { "data-node": name },
    el("header", null, el("h4", null, name), state(severity, word)),
    address ? el("p.address", null, address) : null, facts(pairs), extra, old ? el("p.old", null, old) : null);
}

/** What a node that does not answer has to say: since when, why, and how old its figures are. */
function silence({ failing_ms: failing, age_ms: age, error, reason }) {
  if (failing === null || failing === undefined) return null;
  return `no answer for ${span(failing)}${age === null ? ", never heard" : `; figures are ${span(age)} old`} (${error || reason})`;
}

function master(node) {
  const severity = !node.answers ? "bad" : node.leads ? "good" : node.role === "follower" ? "good" : "warning";
  return card(severity, node.role, node.name, node.address, [
    ["term", count(node.term)],
    ["applied", `${count(node.applied)}${node.behind ? ` (${count(node.behind)} behind)` : ""}`],
    node.process?.answers && ["process", processWords(node.process)],
  ], silence(node));
}

function chunkserver(node) {
  const severity = node.state === "up" ? "good" : node.state === "down" ? "bad" : "unknown";
  const used = node.total_bytes - node.free_bytes;
  const sick = node.disks.filter((disk) => !disk.ok);
  return card(sick.length && severity === "good" ? "warning" : severity, node.state, node.name, node.address, [
    ["copies", count(node.chunks)],
    ["disks", node.disks.length ? `${plural(node.disks.length, "disk")}, ${sick.length ? sick.map((disk) => `${disk.path}: ${disk.state}`).join("; ") : "all ok"}` : "not told yet"],
    node.total_bytes > 0 && ["free", `${bytes(node.free_bytes)} of ${bytes(node.total_bytes)}`],
    node.process?.answers && ["process", processWords(node.process)],
  ], node.state === "down" && node.silent_ms !== null ? `the leader last heard it ${ago(node.silent_ms)}` : node.process ? silence(node.process) : null,
  node.total_bytes > 0 ? bar(used / node.total_bytes, `${node.name}: ${percent(used, node.total_bytes)} of its disks used`, fullness(node)) : null);
}

function client(node) {
  const severity = { ready: "good", connected: "good", "not ready": "warning", silent: "bad" }[node.state] ?? "unknown";
  return card(severity, node.state, node.name, node.mount_point || (node.kind === "session" ? `session on ${node.host || "an unnamed host"}` : ""), [
    ["open files", count(node.open_files)],
    node.kind === "mount" && ["through it", `${bytes(node.rates.mount_read_bytes ?? null)}/s read, ${bytes(node.rates.mount_written_bytes ?? null)}/s written`],
    node.idle_ms !== null && ["session", `${node.session}, heard ${ago(node.idle_ms)}`],
    node.process?.answers && ["process", processWords(node.process)],
  ], node.state === "not ready" ? node.reason : node.process ? silence(node.process) : null);
}

function processWords({ memory_bytes: memory, cpu, started_ms: started }) {
  return `${bytes(memory)}, ${Math.round(100 * cpu)} % CPU, up ${span(Date.now() - started)}`;
}

function leadership({ leader, masters }) {
  if (!leader) return "No master leads right now";
  const silent = masters.filter((node) => !node.answers).length;
  return `${leader.name} leads in term ${leader.term}${silent ? `; ${plural(silent, "master")} silent` : ""}`;
}

function terms({ masters }) {
  const columns = [["Master"], ["Role"], ["Term", "number"], ["Takes for leader"], ["Log", "number"], ["Applied", "number"], ["Behind", "number"], ["Snapshot", "number"], ["Elections seen", "number"], ["Last answer", "number"]];
  return table("Masters, their terms and logs", columns, masters.map((node) => [
    node.name,
    state(!node.answers ? "bad" : node.leads || node.role === "follower" ? "good" : "warning", node.role),
    count(node.term), node.believes || "nobody", count(node.last_log), count(node.applied), count(node.behind), count(node.snapshot), count(node.elections),
    ago(node.age_ms),
  ]), "no masters are configured");
}
