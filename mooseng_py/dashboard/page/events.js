// What was seen to happen, newest first.
import { el, moment, ago, section, state } from "./dom.js";

export const needs = ["events"];

const WORDS = { good: "good", info: "note", warning: "warning", bad: "trouble" };

export function render({ events }) {
  return [section("Events", `Seen by this dashboard since ${moment(events.since_ms)}; it keeps the last 300, and none over a restart`, list(events, Infinity))];
}

export function list(events, most) {
  if (!events || !events.events.length) return el("p.empty", null, "Nothing has happened since this dashboard began to watch.");
  return el("ol.events", null, events.events.slice(0, most).map((event) =>
    el("li", { "data-kind": event.kind }, state(event.severity, WORDS[event.severity]), el("span.what", null, event.text),
      el("time", { datetime: new Date(event.at_ms).toISOString(), title: moment(event.at_ms) }, ago(Date.now() - event.at_ms)))));
}
