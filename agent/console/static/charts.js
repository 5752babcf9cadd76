// Lines over time and distributions, as SVG; their last values, or their quantiles, stand beside it in words.

import { h, s, number } from "./dom.js";

const W = 480, H = 150, LEFT = 92, RIGHT = 8, TOP = 8, BOTTOM = 20;

const nice = (value) => (Math.abs(value) >= 1000 ? number(Math.round(value)) : Number(value.toPrecision(3)).toString());

// series: [{name, class, points: [[x, y]]}]; band: [[x, low, high]]; options: {log, limit, format, zero, marks: [[x, name]]}
export function lines(title, series, options = {}) {
  const format = options.format || nice;
  const known = series.flatMap((one) => one.points.map((p) => p[1])).concat((options.band || []).flatMap((p) => [p[1], p[2]]))
    .concat(options.limit === undefined ? [] : [options.limit]).filter((y) => Number.isFinite(y));
  const xs = series.flatMap((one) => one.points.map((p) => p[0]));
  const legend = h("ul", { class: "legend" }, series.map((one) => {
    const last = one.points.length ? one.points[one.points.length - 1][1] : null;
    return h("li", { class: one.class }, `${one.name}: ${last === null ? "no data" : format(last)}`);
  }), options.limit === undefined ? null : h("li", { class: "bad" }, `${options.limitName || "limit"}: ${format(options.limit)}`));
  if (!known.length || xs.length < 2) return h("figure", { class: "panel" }, h("figcaption", {}, h("h3", {}, title)), legend, h("p", { class: "soft" }, "Not enough data yet."));
  const scale = options.log ? (y) => Math.log10(Math.max(y, 1e-3)) : (y) => y;
  let low = Math.min(...known.map(scale)), high = Math.max(...known.map(scale));
  if (options.zero) low = Math.min(0, low);
  if (high - low < 1e-9) high = low + (Math.abs(low) || 1) * 0.1;
  const first = Math.min(...xs), last = Math.max(...xs);
  const x = (v) => LEFT + (W - LEFT - RIGHT) * (last > first ? (v - first) / (last - first) : 0.5);
  const y = (v) => TOP + (H - TOP - BOTTOM) * (1 - (scale(v) - low) / (high - low));
  const path = (points) => points.filter((p) => Number.isFinite(p[1])).map((p, i) => `${i ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join("");
  const [from, to] = last - first < 86400 ? [11, 19] : [5, 16]; // the time of day, or the day too
  const clock = (v) => new Date(v * 1000).toISOString().slice(from, to).replace("T", " ");
  const unscale = options.log ? (v) => 10 ** v : (v) => v;
  const band = options.band && options.band.length > 1
    ? s("path", { class: `area ${options.bandClass || "canary"}`, d: options.band.map((p, i) => `${i ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[2]).toFixed(1)}`).join("")
      + options.band.slice().reverse().map((p) => `L${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join("") + "Z" }) : null;
  return h("figure", { class: "panel" },
    h("figcaption", {}, h("h3", {}, title)),
    s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}. ${legend.textContent}` },
      s("line", { class: "axis", x1: LEFT, x2: LEFT, y1: TOP, y2: H - BOTTOM }),
      s("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: H - BOTTOM, y2: H - BOTTOM }),
      [low, (low + high) / 2, high].map((v) => s("text", { x: LEFT - 4, y: TOP + (H - TOP - BOTTOM) * (1 - (v - low) / (high - low)) + 4, "text-anchor": "end" }, format(unscale(v)))),
      s("text", { x: LEFT, y: H - 5 }, clock(first)), s("text", { x: W - RIGHT, y: H - 5, "text-anchor": "end" }, clock(last)),
      band,
      (options.marks || []).filter(([at]) => at >= first && at <= last).map(([at, name]) => s("line", { class: "mark", x1: x(at), x2: x(at), y1: TOP, y2: H - BOTTOM }, s("title", {}, `${name}, ${clock(at)}`))),
      options.limit === undefined ? null : s("line", { class: "limit", x1: LEFT, x2: W - RIGHT, y1: y(options.limit), y2: y(options.limit) }),
      series.map((one) => s("path", { class: `line ${one.class}`, d: path(one.points) }))),
    legend);
}

// arms: {name: [[edge_ms, share]]}: cumulative shares on one logarithmic scale of time
export function distributions(title, arms, format) {
  const series = Object.entries(arms).filter(([, bins]) => bins.length).map(([arm, bins]) => {
    let seen = 0;
    return { name: arm, class: arm, points: bins.map(([edge, share]) => { seen += share; return [Math.log10(edge), seen]; }) };
  });
  if (!series.length) return h("figure", { class: "panel" }, h("h3", {}, title), h("p", { class: "soft" }, "No requests yet."));
  const xs = series.flatMap((one) => one.points.map((p) => p[0]));
  const first = Math.min(...xs), last = Math.max(...xs, first + 0.3);
  const x = (v) => LEFT + (W - LEFT - RIGHT) * (v - first) / (last - first);
  const y = (v) => TOP + (H - TOP - BOTTOM) * (1 - v);
  const at = (points, q) => 10 ** (points.find((p) => p[1] >= q) || points[points.length - 1])[0];
  return h("figure", { class: "panel" },
    h("figcaption", {}, h("h3", {}, title)),
    s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}; medians: ${series.map((one) => `${one.name} ${format(at(one.points, 0.5))}`).join(", ")}` },
      s("line", { class: "axis", x1: LEFT, x2: LEFT, y1: TOP, y2: H - BOTTOM }),
      s("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: H - BOTTOM, y2: H - BOTTOM }),
      [0, 0.5, 0.95].map((q) => s("text", { x: LEFT - 4, y: y(q) + 4, "text-anchor": "end" }, `${100 * q} %`)),
      s("text", { x: LEFT, y: H - 5 }, format(10 ** first)), s("text", { x: W - RIGHT, y: H - 5, "text-anchor": "end" }, format(10 ** last)),
      series.map((one) => s("path", { class: `line ${one.class}`, d: [[first, 0], ...one.points].map((p, i) => `${i ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join("") }))),
    h("ul", { class: "legend" }, series.map((one) => h("li", { class: one.class }, `${one.name}: p50 ${format(at(one.points, 0.5))}, p95 ${format(at(one.points, 0.95))}, p99 ${format(at(one.points, 0.99))}`))));
}
