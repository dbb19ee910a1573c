// What goes on, over the last minutes.
import { bytes, clock, el, plural, rate, section, table } from "./dom.js";
import { chart, fitted } from "./chart.js";

export const needs = ["rates"];

const perSecond = (number) => (number === null || number === undefined ? "–" : `${bytes(number)}/s`);
const often = (number) => (number === null || number === undefined ? "–" : `${rate(number)}/s`);
const cores = (number) => (number === null || number === undefined ? "–" : `${number.toFixed(2)} cores`);

const CHARTS = [
  { id: "bytes", title: "Chunk bytes", note: "Sent by chunkservers, and written on all copies", unit: perSecond, series: [["read_bytes", "read"], ["written_bytes", "written"]] },
  { id: "mounts", title: "Through the mounts", note: "What programs read and wrote, small files included", unit: perSecond, series: [["mount_read_bytes", "read"], ["mount_written_bytes", "written"]] },
  { id: "names", title: "Name operations", note: "Answered by masters: look-ups, listings, creations, …", unit: often, series: [["name_ops", "all"]] },
  { id: "requests", title: "Chunk requests", note: "Answered by chunkservers", unit: often, series: [["chunk_ops", "all"]] },
  { id: "healing", title: "Healing", note: "Bytes fetched to make copies anew", unit: perSecond, series: [["copied_bytes", "copied"]] },
  { id: "cpu", title: "Processor", note: "Of all daemons together", unit: cores, series: [["cpu_seconds", "all"]] },
];

export function render({ rates }) {
  if (!rates || !rates.at_ms.length) {
    return [el("p.empty", null, "Rates need two looks at the nodes' metrics, so they come in a moment. Without addresses of nodes (setting nodes) there are none.")];
  }
  const charts = CHARTS.map(({ id, title, note, unit, series }) =>
    chart(id, title, note, series.map(([key, label]) => ({ label, values: rates.series[key] })), rates.at_ms, unit));
  return [
    section("Live rates", `Sums over the ${plural(rates.nodes.at(-1), "node")} that answered; a node that is silent is left out`, el("div.charts", null, charts)),
    section("By node", "At this moment", byNode(rates)),
  ];
}

function byNode({ by_node: nodes }) {
  const columns = [["Node"], ["Chunk bytes read", "number"], ["written", "number"], ["Mount read", "number"], ["written", "number"], ["Names", "number"], ["Chunk requests", "number"], ["Processor", "number"]];
  return table("Rates of each node", columns, Object.entries(nodes).map(([name, of]) => [
    name, perSecond(of.read_bytes), perSecond(of.written_bytes), perSecond(of.mount_read_bytes), perSecond(of.mount_written_bytes), often(of.name_ops), often(of.chunk_ops), cores(of.cpu_seconds),
  ]), "no node answers");
}

/** The value under the pointer, written below its chart. */
export function listen(document, rates) {
  document.addEventListener("pointermove", (event) => {
    const plot = event.target instanceof Element ? event.target.closest("[data-chart] .plot") : null;
    const known = rates();
    if (!plot || !known?.at_ms.length) return;
    const place = plot.getBoundingClientRect();
    const slots = Math.max(2, known.at_ms.length);
    const index = Math.max(0, Math.min(slots - 1, Math.round(((event.clientX - place.left) / place.width) * (slots - 1))));
    const { series, unit } = CHARTS.find(({ id }) => id === plot.closest("[data-chart]").dataset.chart);
    const words = series.map(([key, label]) => `${label} ${unit(fitted(known.series[key], slots)[index])}`);
    const at = fitted(known.at_ms, slots)[index];
    plot.closest("[data-chart]").querySelector(".reading").textContent = at ? `${clock(at)}: ${words.join(", ")}` : "";
  });
}
