// Are all copies there, where do they lie, what is being mended.
import { bar, bytes, count, el, percent, plural, section, span, state, table, tile } from "./dom.js";

export const needs = [];

export function render({ overview: { chunks, chunkservers } }) {
  if (!chunks.known) return [el("p.empty", null, "No leading master has answered yet, and only a leader knows how the chunks are.")];
  const old = chunks.failing_ms !== null
    ? el("p.warn", null, state("warning", "old"), ` These figures are ${span(chunks.age_ms)} old: ${chunks.error}.`) : null;
  return [
    section("Chunk health", `Each chunk should have ${plural(chunks.copies, "copy", "copies")}; a write needs ${chunks.min_copies}`, old, health(chunks),
      el("div.tiles", null,
        tile("Whole", count(chunks.whole), "with all their copies"),
        tile("Endangered", count(chunks.endangered), "with fewer copies than they should have"),
        tile("Missing", count(chunks.missing), "no live copy: unreadable now"),
        tile("Healing", count(chunks.healing), "copies being made now"),
        tile("Stray copies", count(chunks.orphans), "of no file; removed after a delay"))),
    section("Placement", "Copies of chunks and room on each chunkserver", placement(chunkservers)),
    section("Not as they should be", chunks.troubled_total > chunks.troubled.length ? `the ${chunks.troubled.length} most endangered of ${count(chunks.troubled_total)}` : null, troubled(chunks)),
  ];
}

function health({ total, whole, endangered, missing }) {
  if (!total) return el("p.empty", null, "There are no chunks: small files lie with their names, larger ones will make some.");
  let x = 0;
  const parts = [["good", whole, "whole"], ["warning", endangered, "endangered"], ["bad", missing, "missing"]].filter(([, number]) => number > 0);
  const rects = parts.map(([severity, number]) => {
    const width = (100 * number) / total;
    const made = el(`rect.fill.${severity}`, { x, width, height: 6 });
    x += width;
    return made;
  });
  return el("div.health", null,
    el("svg.bar.thick", { viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": parts.map(([, number, word]) => `${number} ${word}`).join(", ") }, el("rect.track", { width: 100, height: 6 }), rects),
    el("p.legends", null, parts.map(([severity, number, word]) => state(severity, `${count(number)} ${word} (${percent(number, total)})`))));
}

function placement(servers) {
  const most = Math.max(1, ...servers.map((server) => server.chunks));
  const columns = [["Chunkserver"], ["State"], ["Copies", "number"], ["", "wide"], ["Weight", "number"], ["Used", "number"], ["Free", "number"], ["Disks"]];
  return table("Copies and bytes of each chunkserver", columns, servers.map((server) => [
    server.name,
    state(server.state === "up" ? "good" : server.state === "down" ? "bad" : "unknown", server.state),
    count(server.chunks),
    bar(server.chunks / most, `${server.chunks} copies`),
    count(server.weight),
    server.total_bytes ? bytes(server.total_bytes - server.free_bytes) : "–", server.total_bytes ? bytes(server.free_bytes) : "–",
    !server.disks.length ? "not told yet" : el("ul.disks", null, server.disks.map((disk) => el("li", null, state(disk.state === "ok" ? "good" : disk.state === "full" ? "warning" : "bad", disk.state), ` ${disk.path}, ${plural(disk.chunks, "copy", "copies")}, ${bytes(disk.free_bytes)} free${disk.direct_io ? ", direct I/O" : ""}`))),
  ]), "no chunkserver is registered");
}

const SEVERITY = { missing: "bad", endangered: "warning", moving: "info" };

function troubled({ troubled: rows }) {
  const columns = [["Chunk"], ["State"], ["Of inode", "number"], ["Index", "number"], ["Version", "number"], ["Live on"], ["Lost or bad on"], ["Being copied to"], ["Stored", "number"]];
  return table("Chunks with missing copies", columns, rows.map((chunk) => [
    el("code", null, chunk.id), state(SEVERITY[chunk.state], chunk.state), count(chunk.inode), count(chunk.index), count(chunk.version),
    chunk.live.join(", ") || "nowhere", chunk.servers.filter((name) => !chunk.live.includes(name)).join(", ") || "–", chunk.healing_to || "–", bytes(chunk.stored_bytes),
  ]), "Every chunk is as it should be.");
}
