// The file browser: directories page by page, and for one entry its attributes and where its bytes lie.
// Paths come percent-encoded from the server and go back as they came; names are shown as text.
import { bytes, count, el, facts, moment, plural, section, state, table } from "./dom.js";
import { ask } from "./ask.js";

const PAGE = 500;
let now = { path: "", entries: [], next: 0, order: "name", down: false, filter: "" };

/** The path in the address; `?` behind it marks the entry whose details are open. */
function place() {
  const text = location.hash.replace(/^#\/files/, "") || "/";
  const [path, about] = text.split("?");
  return { path: path || "/", about: about ?? "" };
}

export async function show(main, data) {
  const { path, about } = place();
  if (data.overview && data.overview.browse === false) {
    main.replaceChildren(el("p.empty", null, "Files are not shown here: this dashboard runs with browse = false."));
    return;
  }
  try {
    if (now.path !== path || !about) {
      const found = await ask(`/api/files?path=${path}&limit=${PAGE}`);
      now = { ...now, path, entries: found.entries, next: found.next, filter: "" };
    }
    if (!here(path)) return;
    draw(main);
    if (about) await details(main, about);
  } catch (error) {
    if (here(path)) main.replaceChildren(heading(path), failure(error, () => show(main, data)));
  }
}

const here = (path) => location.hash.startsWith("#/files") && place().path === path;

function failure(error, again) {
  const words = { 403: "This dashboard may not look in there", 404: "There is no such file or directory", 503: "The file system cannot be asked right now" };
  const button = el("button", { type: "button" }, "Try again");
  button.addEventListener("click", again);
  return el("div.empty.failed", { role: "alert" }, el("p", null, state(error.status === 503 ? "warning" : "bad", words[error.status] ?? "That did not work")), el("p", null, `${error.message}.`), button);
}

// ---- the listing -----------------------------------------------------------------------------------------------------
function heading(path) {
  const parts = path.split("/").filter(Boolean);
  const crumbs = [parts.length ? el("a", { href: "#/files/" }, "Files") : el("a", { href: "#/files/", "aria-current": "location" }, "Files")];
  parts.forEach((part, index) => {
    crumbs.push(el("span", { "aria-hidden": "true" }, "/"));
    const to = `#/files/${parts.slice(0, index + 1).join("/")}`;
    crumbs.push(index === parts.length - 1 ? el("a", { href: to, "aria-current": "location" }, readable(part)) : el("a", { href: to }, readable(part)));
  });
  return el("nav.crumbs", { "aria-label": "Path" }, crumbs);
}

/** A percent-encoded name for the eye. The server's own words stand beside every entry; this is for the path above it. */
function readable(part) {
  try {
    return decodeURIComponent(part).replace(/[\p{C}\p{Z}]/gu, (char) => (char === " " ? char : `\\u${char.codePointAt(0).toString(16).padStart(4, "0")}`));
  } catch {
    return part.replaceAll("%", "\\x").toLowerCase();
  }
}

const ORDERS = {
  name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }),
  size: (a, b) => a.size - b.size,
  time: (a, b) => a.mtime_ms - b.mtime_ms,
};

function draw(main) {
  const filter = el("input", { type: "search", placeholder: "Filter names", "aria-label": "Filter the names of this page", id: "filter" });
  filter.value = now.filter;
  const body = el("div");
  const more = el("button.more", { type: "button", hidden: !now.next }, `Load ${PAGE} more`);
  const said = el("p.note", { role: "status" });
  const fill = () => {
    const shown = now.entries.filter((entry) => entry.name.toLowerCase().includes(now.filter.toLowerCase()));
    body.replaceChildren(listing(shown, fill));
    said.textContent = `${plural(now.entries.length, "entry", "entries")}${now.next ? " so far" : ""}${now.filter ? `, ${count(shown.length)} shown` : ""}`;
    more.hidden = !now.next;
  };
  filter.addEventListener("input", () => { now.filter = filter.value; fill(); });
  more.addEventListener("click", async () => {
    more.disabled = true;
    try {
      const found = await ask(`/api/files?path=${now.path}&limit=${PAGE}&after=${now.next}`);
      now = { ...now, entries: [...now.entries, ...found.entries], next: found.next };
      fill();
    } catch (error) {
      said.textContent = `${error.message}.`;
    }
    more.disabled = false;
  });
  fill();
  main.replaceChildren(el("div.browser", null, el("section", { id: "listing" }, el("div.bar-row", null, heading(now.path), filter), said, body, more), el("aside", { id: "details", "aria-label": "Details", hidden: true })));
}

function listing(entries, again) {
  if (!entries.length) return el("p.empty", null, now.filter ? "No name here holds that." : "This directory is empty.");
  const sorted = [...entries].sort((a, b) => (b.kind === "directory") - (a.kind === "directory") || (now.down ? -1 : 1) * ORDERS[now.order](a, b));
  const sorter = (key, label) => {
    const button = el("button.sort", { type: "button" }, label, now.order === key ? (now.down ? " ↓" : " ↑") : "");
    button.addEventListener("click", () => { now.down = now.order === key ? !now.down : false; now.order = key; again(); });
    return button;
  };
  return table("Entries of this directory", [[sorter("name", "Name"), "name"], [sorter("size", "Size"), "number"], [sorter("time", "Modified"), "number"], ["Mode", "mode"], ["Owner", "number"], ["", "actions"]],
    sorted.map((entry) => [
      el("a", { href: entry.kind === "directory" ? `#/files${entry.path}` : `#/files${now.path}?${entry.path}`, "data-entry": entry.path }, el(`span.kind.${entry.kind}`, { "aria-hidden": "true" }, { directory: "▸", link: "↗", file: "·" }[entry.kind]), el("span.unseen", null, `${entry.kind} `), entry.name),
      entry.kind === "directory" ? "" : bytes(entry.size),
      moment(entry.mtime_ms),
      el("code", null, entry.mode),
      `${entry.uid}:${entry.gid}`,
      entry.kind === "directory" ? el("a.quiet", { href: `#/files${now.path}?${entry.path}` }, "Details") : el("a.quiet", { href: `/download?path=${entry.path}`, download: true, "aria-label": `Download ${entry.name}` }, "Download"),
    ]), "");
}

// ---- one entry -------------------------------------------------------------------------------------------------------
async function details(main, path) {
  const aside = main.querySelector("#details");
  aside.hidden = false;
  aside.replaceChildren(el("p.empty", null, "Loading…"));
  try {
    const about = await ask(`/api/file?path=${path}`);
    aside.replaceChildren(...panel(about));
  } catch (error) {
    aside.replaceChildren(close(), failure(error, () => details(main, path)));
  }
}

const close = () => el("a.close", { href: `#/files${now.path}`, "aria-label": "Close details" }, "✕");

function panel(about) {
  const isFile = "chunks" in about;
  return [
    close(),
    el("h2", null, about.name || "/"),
    facts([
      ["kind", about.kind],
      about.target !== undefined && ["leads to", `${about.target} (${about.leads_to})`],
      ["size", `${bytes(isFile ? about.length : about.size)} (${count(isFile ? about.length : about.size)} bytes)`],
      ["stored", bytes(about.stored_bytes)],
      ["modified", moment(about.mtime_ms)],
      ["changed", moment(about.ctime_ms)],
      ["mode", el("code", null, about.mode)],
      ["owner", `${about.uid}:${about.gid}`],
      ["names", count(about.links)],
      ["inode", String(about.inode)],
    ]),
    about.leads_to === "directory" ? el("p", null, el("a.button", { href: `#/files${about.path}` }, "Open directory")) : null,
    isFile ? el("p", null, el("a.button", { href: `/download?path=${about.path}`, download: true }, "Download")) : null,
    isFile ? section("Where it lies", whereWords(about), matrix(about)) : null,
  ].filter(Boolean);
}

function whereWords({ inline, chunks, next_chunk: next }) {
  if (inline || !chunks.length) return inline ? "With its inode, in the memory and log of every master" : "It has no bytes stored";
  return `${next ? `The first ${chunks.length} chunks` : plural(chunks.length, "chunk")} of up to 64 MiB`;
}

/** A row for each chunk, with the chunkservers that have a copy, by their numbers. */
function matrix({ inline, chunks }) {
  if (inline || !chunks.length) return null;
  const columns = [["#", "number"], ["Chunk"], ["Version", "number"], ["Stored", "number"], ["On chunkservers"]];
  return table("Chunks and their copies", columns, chunks.map((chunk) => [
    String(chunk.index), el("span", null, el("code", { title: chunk.id }, chunk.id.replace(/^0+(?=.)/, "")), notes(chunk)), String(chunk.version), bytes(chunk.stored_bytes),
    el("span.copies", null, chunk.copies.map((copy) => state(copy.live ? "good" : "bad", `${copy.server.replace("chunkserver-", "")}${copy.live ? "" : " not live"}`))),
  ]), "");
}

function notes({ healing, written, copies, wanted }) {
  const words = [healing && "a copy is being made", !written && "never written", wanted > copies.length && `${copies.length} of ${wanted} copies`].filter(Boolean);
  return words.length ? el("small", null, ` ${words.join(", ")}`) : null;
}
