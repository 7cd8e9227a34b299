// Charts and map of a report. Everything they show comes from the page itself; names from
// files are only ever set as text.
(() => {
"use strict";

const root = document.documentElement;
const data = JSON.parse(document.getElementById("kvae-data").textContent);
const byId = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// ---- Numbers ---------------------------------------------------------------------------

const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

function number(value, digits = 4, least = 0) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e9) {
    const [mantissa, exponent] = value.toExponential(digits - 2).split("e");
    const power = [...String(Number(exponent))].map((c) => RAISED[c]).join("");
    const factor = least && Number(mantissa) % 1 ? mantissa : String(Number(mantissa));
    return (factor === "1" ? "" : factor + " × ") + "10" + power;
  }
  const places = size >= 1000 ? 0 : clamp(digits - 1 - Math.floor(Math.log10(size)), 0, 6);
  return value.toLocaleString("en", { minimumFractionDigits: Math.min(least, places), maximumFractionDigits: places });
}

const percent = (value, places = 1) =>
  value === null || value === undefined ? "–" : (100 * value).toFixed(places) + "\u202f%";

// Shares on an axis, all with as many places as the finest of them needs.
function shares(values) {
  const isExact = (p) => values.every((v) => Math.abs(100 * v - (100 * v).toFixed(p)) < 1e-9);
  const places = [0, 1, 2].find(isExact) ?? 3;
  return (value) => percent(value, places);
}

function ticks(low, high, about) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const rough = span / Math.max(about, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    found.push(Number((i * step).toPrecision(12)));
  }
  return found;
}

function ratioTicks(low, high, about) {
  const decades = Math.log10(high / low);
  for (const parts of [[1, 2, 5], [1, 3], [1]]) {
    const found = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
      for (const part of parts) {
        const value = Number((part * 10 ** e).toPrecision(6));
        if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
      }
    }
    if (found.length <= about + 2 || parts.length === 1) {
      if (found.length < 2 || decades < 0.5) break;
      const every = Math.ceil(found.length / (about + 2));
      return found.filter((_, i) => i % every === 0);
    }
  }
  return ticks(low, high, about);
}

// ---- Theme -----------------------------------------------------------------------------

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const redraws = [];
const redraw = () => redraws.forEach((draw) => draw());
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();

function themed() {
  byId("theme-name").textContent = isDark() ? "Light" : "Dark";
  redraw();
}

byId("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  themed();
});
prefersDark.addEventListener("change", themed);
// Paper is white, and browsers print pictures more surely than canvases.
let screenTheme;
addEventListener("beforeprint", () => {
  screenTheme = root.dataset.theme;
  root.dataset.theme = "light";
  redraw();
  for (const canvas of document.querySelectorAll("canvas")) {
    const still = new Image(canvas.width, canvas.height);
    still.decoding = "sync";
    still.className = "still";
    still.alt = "";
    still.src = canvas.toDataURL();
    canvas.after(still);
  }
});
addEventListener("afterprint", () => {
  for (const still of document.querySelectorAll(".still")) still.remove();
  if (screenTheme) root.dataset.theme = screenTheme;
  else delete root.dataset.theme;
  redraw();
});

// ---- The tip beside the pointer --------------------------------------------------------

const tip = byId("tip");

function showTip(event, title, lines) {
  tip.replaceChildren();
  const head = document.createElement("b");
  head.textContent = title;
  tip.append(head);
  for (const [name, value] of lines) {
    const line = document.createElement("div");
    const left = document.createElement("span");
    const right = document.createElement("span");
    left.textContent = name;
    right.textContent = value;
    line.append(left, right);
    tip.append(line);
  }
  const { width, height } = tip.getBoundingClientRect();
  let x = event.clientX + 14;
  let y = event.clientY + 16;
  if (x + width > innerWidth - 6) x = Math.max(6, event.clientX - width - 14);
  if (y + height > innerHeight - 6) y = Math.max(6, event.clientY - height - 16);
  tip.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
  tip.style.visibility = "visible";
}

const hideTip = () => { tip.style.visibility = "hidden"; };
addEventListener("scroll", hideTip, { passive: true });
// A finger leaves with every touch; what it pointed at stays until it touches something else.
addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".chart, .plot")) hideTip();
});

// ---- Charts ----------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function scale(low, high, from, to, isLog) {
  if (isLog) {
    const a = Math.log(low);
    const factor = (to - from) / (Math.log(high) - a);
    return (value) => from + (Math.log(Math.max(value, low * 1e-3)) - a) * factor;
  }
  const factor = (to - from) / (high - low || 1);
  return (value) => from + (value - low) * factor;
}

// An empty chart: axes with units and ticks, and where values are on it.
function frame(box, spec) {
  const width = Math.max(box.clientWidth, 220);
  const height = spec.height || clamp(width * 0.56, 205, 300);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}` }, null);
  const about = Math.max(3, Math.round(height / 62));
  const yTicks = (spec.yLog ? ratioTicks : ticks)(spec.y[0], spec.y[1], about);
  const label = spec.share ? shares(yTicks) : number;
  const longest = Math.max(...yTicks.map((value) => label(value).length));
  const left = 14 + longest * 6.4;
  const [right, top, bottom] = [width - 10, 24, height - 40];
  const x = scale(spec.x[0], spec.x[1], left, right, spec.xLog);
  const y = scale(spec.y[0], spec.y[1], bottom, top, spec.yLog);
  for (const value of yTicks) {
    element("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }, svg);
    element("text", { x: left - 7, y: y(value) + 4, "text-anchor": "end" }, svg, label(value));
  }
  const xTicks = spec.xTicks
    || (spec.xLog ? ratioTicks : ticks)(spec.x[0], spec.x[1], Math.max(3, Math.round(width / 95)));
  const xLabel = spec.xLabel || number;
  for (const value of xTicks) {
    element("line", { class: "base", x1: x(value), x2: x(value), y1: bottom, y2: bottom + 4 }, svg);
    element("text", { x: x(value), y: bottom + 17, "text-anchor": "middle" }, svg, xLabel(value));
  }
  element("line", { class: "base", x1: left, x2: right, y1: bottom, y2: bottom }, svg);
  element("text", { x: 0, y: 11 }, svg, spec.yUnit);
  element("text", { x: right, y: height - 5, "text-anchor": "end" }, svg, spec.xUnit);
  return { svg, x, y, left, right, top, bottom, width, height };
}

function extent(values, isLog, pad = 0.06) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (low === high) {
    const about = Math.abs(low) || 1;
    [low, high] = isLog ? [low / 1.5, high * 1.5] : [low - 0.1 * about, high + 0.1 * about];
  }
  if (isLog) {
    const grow = (high / low) ** pad;
    return [low / grow, high * grow];
  }
  return [low - pad * (high - low), high + pad * (high - low)];
}

function path(points) {
  let text = "";
  let pen = "M";
  for (const [x, y] of points) {
    if (y === null || Number.isNaN(y)) { pen = "M"; continue; }
    text += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return text;
}

function key(box, entries) {
  const line = document.createElement("div");
  line.className = "key";
  for (const [kind, name, value] of entries) {
    const item = document.createElement("span");
    const swatch = element("svg", { viewBox: "0 0 26 10" }, item);
    element("line", { class: kind, x1: 0, x2: 26, y1: 5, y2: 5 }, swatch);
    item.append(name);
    if (value !== undefined) {
      const strong = document.createElement("b");
      strong.textContent = value;
      item.append(strong);
    }
    line.append(item);
  }
  box.append(line);
}

// Follow the pointer over a chart; `at` turns a position into what is to be shown.
function follow(chart, at) {
  const area = element("rect", {
    x: chart.left, y: chart.top, width: Math.max(chart.right - chart.left, 1),
    height: chart.bottom - chart.top, fill: "transparent",
  }, chart.svg);
  const marks = element("g", { "pointer-events": "none" }, chart.svg);
  const move = (event) => {
    const bounds = chart.svg.getBoundingClientRect();
    const px = ((event.clientX - bounds.left) / bounds.width) * chart.width;
    marks.replaceChildren();
    const found = at(px, marks);
    if (found) showTip(event, found.title, found.lines);
    else hideTip();
  };
  area.addEventListener("pointermove", move);
  area.addEventListener("pointerdown", move);
  area.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "touch") return;
    marks.replaceChildren();
    hideTip();
  });
}

function lineChart(box, spec) {
  const show = spec.share ? (value) => percent(value) : (value) => number(value, 4, 6);
  const series = [["validation", "validation", spec.validation], ["train", "training", spec.train]]
    .filter(([, , values]) => values.some((value) => value !== null));
  const best = spec.best;
  key(box, [
    ...series.map(([kind, name, values]) => [kind, name, best === null ? undefined : show(values[best])]),
    ...spec.lines.map((line, i) => [`level level-${line.limit ? 2 : i}`, line.name, show(line.value)]),
    ...(best === null ? [] : [["best", "best epoch", String(spec.epochs[best])]]),
  ]);
  const values = series.flatMap(([, , v]) => v).filter((v) => v !== null)
    .concat(spec.lines.map((line) => line.value));
  if (!values.length) return;
  const epochs = spec.epochs;
  const [first, last] = [epochs[0], epochs[epochs.length - 1]];
  const pad = first === last ? 0.5 : 0;
  const chart = frame(box, {
    x: [first - pad, last + pad], y: extent(values, spec.log), yLog: spec.log,
    yUnit: spec.unit + (spec.log ? ", log scale" : ""), xUnit: "epoch",
    height: spec.wide ? clamp(box.clientWidth * 0.34, 220, 330) : undefined,
    share: spec.share,
    xTicks: ticks(first, last, clamp(Math.round(box.clientWidth / 70), 3, 12)).filter(Number.isInteger),
  });
  spec.lines.forEach((line, i) => {
    const y = chart.y(line.value);
    element("line", { class: `level level-${line.limit ? 2 : i}`, x1: chart.left, x2: chart.right, y1: y, y2: y }, chart.svg);
  });
  if (best !== null) {
    const x = chart.x(epochs[best]);
    element("line", { class: "best", x1: x, x2: x, y1: chart.top, y2: chart.bottom }, chart.svg);
    element("path", { class: "best-mark", d: `M${x - 5} ${chart.bottom + 7}h10l-5 -7z` }, chart.svg);
  }
  for (const [kind, , v] of [...series].reverse()) {
    const points = v.map((value, i) => [chart.x(epochs[i]), value === null ? null : chart.y(value)]);
    element("path", { class: kind, d: path(points) }, chart.svg);
    if (epochs.length <= 40) {
      for (const [x, y] of points) {
        if (y !== null) element("circle", { class: `dot ${kind}`, cx: x, cy: y, r: 3 }, chart.svg);
      }
    }
  }
  follow(chart, (px, marks) => {
    let i = 0;
    epochs.forEach((epoch, j) => {
      if (Math.abs(chart.x(epoch) - px) < Math.abs(chart.x(epochs[i]) - px)) i = j;
    });
    const x = chart.x(epochs[i]);
    element("line", { class: "guide", x1: x, x2: x, y1: chart.top, y2: chart.bottom }, marks);
    return {
      title: `epoch ${epochs[i]}${i === best ? ", the best" : ""}`,
      lines: [
        ...series.map(([, name, v]) => [name, show(v[i])]),
        ...spec.lines.map((line) => [line.name, show(line.value)]),
      ],
    };
  });
  box.append(chart.svg);
}

function columns(box, spec) {
  if (spec.level) key(box, [["level level-0", spec.level.name, spec.show(spec.level.value)]]);
  const top = Math.max(...spec.values, spec.level ? spec.level.value : 0) || 1;
  const chart = frame(box, {
    x: [spec.edges[0], spec.edges[spec.edges.length - 1]], xLog: spec.log,
    y: [0, top * 1.05], yUnit: spec.yUnit, xUnit: spec.xUnit + (spec.log ? ", log scale" : ""),
    share: spec.share, xTicks: spec.xTicks,
  });
  const gap = spec.values.length > 120 ? 0 : 0.8;
  spec.values.forEach((value, i) => {
    const [a, b] = [chart.x(spec.edges[i]), chart.x(spec.edges[i + 1])];
    element("rect", {
      class: "column", x: a.toFixed(2), width: Math.max(b - a - gap, 0.4).toFixed(2),
      y: chart.y(value).toFixed(2), height: Math.max(chart.bottom - chart.y(value), 0).toFixed(2),
    }, chart.svg);
  });
  if (spec.level) {
    const y = chart.y(spec.level.value);
    element("line", { class: "level level-0", x1: chart.left, x2: chart.right, y1: y, y2: y }, chart.svg);
  }
  follow(chart, (px, marks) => {
    const i = spec.values.findIndex((_, j) => px < chart.x(spec.edges[j + 1]));
    if (i < 0) return null;
    const [a, b] = [chart.x(spec.edges[i]), chart.x(spec.edges[i + 1])];
    element("rect", {
      class: "column over", x: a, width: Math.max(b - a - gap, 1), y: chart.y(spec.values[i]),
      height: chart.bottom - chart.y(spec.values[i]),
    }, marks);
    return spec.tell(i);
  });
  box.append(chart.svg);
}

function calibration(box, spec) {
  const total = spec.counts.reduce((a, b) => a + b, 0);
  key(box, [["validation", "model"], ["ideal", "as often as predicted"]]);
  const chart = frame(box, {
    x: [0, 1], y: [0, 1], share: true, xLabel: (value) => percent(value, 0),
    yUnit: "share of them present", xUnit: "predicted probability of presence",
    height: clamp(box.clientWidth * 0.8, 240, 400),
  });
  const most = Math.max(...spec.counts);
  const room = (chart.bottom - chart.top) * 0.22;
  const edge = (i) => chart.x(i / spec.counts.length);
  spec.counts.forEach((count, i) => {
    const height = (room * count) / most;
    element("rect", { class: "column", opacity: 0.55, x: edge(i), width: edge(i + 1) - edge(i) - 1,
      y: chart.bottom - height, height }, chart.svg);
  });
  element("line", { class: "ideal", x1: chart.x(0), y1: chart.y(0), x2: chart.x(1), y2: chart.y(1) }, chart.svg);
  const points = spec.predicted.flatMap((p, i) => (p === null ? [] : [[chart.x(p), chart.y(spec.observed[i])]]));
  element("path", { class: "validation", d: path(points) }, chart.svg);
  for (const [cx, cy] of points) element("circle", { class: "dot validation", cx, cy, r: 3.2 }, chart.svg);
  follow(chart, (px, marks) => {
    const i = spec.counts.findIndex((_, j) => px < edge(j + 1));
    if (i < 0 || spec.predicted[i] === null) return null;
    element("circle", { class: "dot validation", cx: chart.x(spec.predicted[i]), cy: chart.y(spec.observed[i]), r: 5.5 }, marks);
    const n = spec.counts.length;
    return {
      title: `predicted ${percent(i / n, 0)} to ${percent((i + 1) / n, 0)}`,
      lines: [
        ["predicted, mean", percent(spec.predicted[i])],
        ["present", percent(spec.observed[i])],
        ["7-mers of rows", spec.counts[i].toLocaleString("en")],
        ["of all", percent(spec.counts[i] / total)],
      ],
    };
  });
  box.append(chart.svg);
}

function histogram(box, spec) {
  const total = spec.counts.reduce((a, b) => a + b, 0);
  columns(box, {
    values: spec.counts, edges: spec.edges, log: spec.log, xUnit: spec.unit, yUnit: "rows",
    show: (value) => value.toLocaleString("en", { maximumFractionDigits: 1 }),
    tell: (i) => ({
      title: `${number(spec.edges[i])} to ${number(spec.edges[i + 1])} ${spec.unit}`,
      lines: [["rows", spec.counts[i].toLocaleString("en")], ["of all", percent(spec.counts[i] / total)]],
    }),
  });
}

function units(box, spec) {
  const n = spec.values.length;
  const show = spec.share ? (value) => percent(value, value < 0.02 ? 2 : 1) : number;
  columns(box, {
    share: spec.share,
    values: spec.values, edges: Array.from({ length: n + 1 }, (_, i) => i + 0.5), log: false,
    xUnit: "unit of the latent, by rank", yUnit: spec.unit, show, level: spec.level,
    xTicks: ticks(1, n, 8).filter((t) => Number.isInteger(t) && t >= 1),
    tell: (i) => ({
      title: `z${spec.order[i] + 1}`,
      lines: [["rank", `${i + 1} of ${n}`], [spec.name, show(spec.values[i])]],
    }),
  });
}

const KINDS = { line: lineChart, calibration, histogram, units };
for (const box of document.querySelectorAll(".chart")) {
  const spec = data.charts[box.dataset.chart];
  if (!spec) continue;
  let drawn = 0;
  new ResizeObserver(() => {
    if (Math.abs(box.clientWidth - drawn) < 2) return;
    drawn = box.clientWidth;
    box.replaceChildren();
    KINDS[spec.kind](box, spec);
  }).observe(box);
}

// ---- The map ---------------------------------------------------------------------------

if (data.map) latentMap(data.map);

function latentMap(map) {
  const ARRAYS = { f4: Float32Array, f8: Float64Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };
  const unpack = ({ type, text }) =>
    new ARRAYS[type](Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  // Told apart by those with normal vision and with the common colour blindnesses.
  const HUES = {
    light: ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8a7d00"],
    dark: ["#4aa3dc", "#e69f00", "#1fb98c", "#ee7f33", "#d98bb6", "#8fd0f5", "#d8cb45"],
  };
  const SHAPES = ["circle", "triangle", "square", "diamond"];
  const LOOKS = HUES.light.length * SHAPES.length;
  const SHOWN = 5 * LOOKS;
  const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
  const STEPS = 48;

  const [X, Y] = [unpack(map.x), unpack(map.y)];
  const [START, END, LENGTH] = [unpack(map.start), unpack(map.end), unpack(map.length)];
  const attributes = map.attributes.map((a) => ({ ...a, values: unpack(a.values), hidden: new Set() }));
  const n = X.length;
  const [base, over] = [byId("map-canvas"), byId("map-over")];
  const [pen, marks] = [base.getContext("2d"), over.getContext("2d")];
  const plot = base.parentElement;
  let chosen = attributes[0];
  let matches = null;
  let hovered = -1;
  let size = { w: 0, h: 0, ratio: 1 };

  // Drawn in an order of its own, so that no group covers the others.
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  let state = 12345;
  for (let i = n - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = state % (i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }

  let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < n; i++) {
    left = Math.min(left, X[i]); right = Math.max(right, X[i]);
    bottom = Math.min(bottom, Y[i]); top = Math.max(top, Y[i]);
  }
  const wide = Math.max(right - left, 1e-6);
  const high = Math.max(top - bottom, 1e-6);

  // ---- Where points are: a view has its centre in the map's numbers, and a zoom.
  const view = { x: (left + right) / 2, y: (bottom + top) / 2, zoom: 1 };
  const fit = () => Math.min((size.w - 46) / wide, (size.h - 46) / high);
  const factor = () => fit() * view.zoom;
  const px = (x) => size.w / 2 + (x - view.x) * factor();
  const py = (y) => size.h / 2 - (y - view.y) * factor();
  const home = () => Object.assign(view, { x: (left + right) / 2, y: (bottom + top) / 2, zoom: 1 });

  function zoomAt(x, y, times) {
    const before = factor();
    const zoom = clamp(view.zoom * times, 0.5, 400);
    const [wx, wy] = [view.x + (x - size.w / 2) / before, view.y - (y - size.h / 2) / before];
    view.zoom = zoom;
    view.x = wx - (x - size.w / 2) / factor();
    view.y = wy + (y - size.h / 2) / factor();
    // At its first size the map leaves a finger's strokes to the page.
    over.style.touchAction = zoom > 1.01 ? "none" : "pan-y";
    later();
  }

  // Points by cells, to find the nearest without looking at all of them.
  const CELLS = 96;
  const cellOf = (x, y) =>
    clamp(Math.floor(((y - bottom) / high) * CELLS), 0, CELLS - 1) * CELLS
    + clamp(Math.floor(((x - left) / wide) * CELLS), 0, CELLS - 1);
  const cellStart = new Uint32Array(CELLS * CELLS + 1);
  for (let i = 0; i < n; i++) cellStart[cellOf(X[i], Y[i]) + 1]++;
  for (let c = 0; c < CELLS * CELLS; c++) cellStart[c + 1] += cellStart[c];
  const inCells = new Uint32Array(n);
  const filled = cellStart.slice();
  for (let i = 0; i < n; i++) inCells[filled[cellOf(X[i], Y[i])]++] = i;

  function nearest(x, y, reach) {
    const k = factor();
    const [wx, wy] = [view.x + (x - size.w / 2) / k, view.y - (y - size.h / 2) / k];
    const r = reach / k;
    const column = (value) => clamp(Math.floor(((value - left) / wide) * CELLS), 0, CELLS - 1);
    const row = (value) => clamp(Math.floor(((value - bottom) / high) * CELLS), 0, CELLS - 1);
    let [found, least] = [-1, r * r];
    for (let cy = row(wy - r); cy <= row(wy + r); cy++) {
      for (let cx = column(wx - r); cx <= column(wx + r); cx++) {
        const cell = cy * CELLS + cx;
        for (let at = cellStart[cell]; at < cellStart[cell + 1]; at++) {
          const i = inCells[at];
          const distance = (X[i] - wx) ** 2 + (Y[i] - wy) ** 2;
          if (distance < least && isShown(i)) [found, least] = [i, distance];
        }
      }
    }
    return found;
  }

  // ---- Groups: the largest have a colour and a shape, which repeat where there are many;
  // what is left shares grey.
  const NONE = { u1: 255, u2: 65535, u4: 4294967295 };
  const groupOf = (attribute, i) => {
    const code = attribute.values[i];
    if (code === NONE[attribute.type]) return SHOWN + 1;
    return Math.min(code, SHOWN);
  };
  for (const attribute of attributes) {
    attribute.type = map.attributes[attributes.indexOf(attribute)].values.type;
    if (attribute.kind === "category") {
      attribute.counts = new Uint32Array(SHOWN + 2);
      for (let i = 0; i < n; i++) attribute.counts[groupOf(attribute, i)]++;
    } else {
      const sorted = attribute.values.slice().sort();
      const at = (share) => sorted[Math.min(n - 1, Math.floor(share * n))];
      attribute.range = [at(0.01), at(0.99)];
      if (!(attribute.range[1] > attribute.range[0])) attribute.range = [sorted[0], sorted[n - 1]];
    }
  }
  const isShown = (i) => chosen.kind !== "category" || !chosen.hidden.has(groupOf(chosen, i));

  function shareOf(attribute, i) {
    let [value, [low, upper]] = [attribute.values[i], attribute.range];
    if (attribute.log) [value, low, upper] = [Math.log(value), Math.log(low), Math.log(upper)];
    return upper > low ? clamp((value - low) / (upper - low), 0, 1) : 0.5;
  }

  function ramp(share) {
    // Neither the dark end on a dark page nor the bright one on a bright page.
    const at = clamp((isDark() ? 0.24 + 0.76 * share : 0.9 * share) * (VIRIDIS.length - 1), 0, VIRIDIS.length - 1.001);
    const i = Math.floor(at);
    const mix = [1, 3, 5].map((j) => {
      const [a, b] = [VIRIDIS[i], VIRIDIS[i + 1]].map((hex) => parseInt(hex.slice(j, j + 2), 16));
      return Math.round(a + (b - a) * (at - i));
    });
    return `rgb(${mix.join(",")})`;
  }

  function outline(context, shape, x, y, r) {
    context.beginPath();
    if (shape === "circle") context.arc(x, y, r, 0, 2 * Math.PI);
    else if (shape === "square") context.rect(x - 0.88 * r, y - 0.88 * r, 1.76 * r, 1.76 * r);
    else if (shape === "triangle") {
      context.moveTo(x, y - 1.25 * r);
      context.lineTo(x + 1.15 * r, y + 0.85 * r);
      context.lineTo(x - 1.15 * r, y + 0.85 * r);
      context.closePath();
    } else {
      context.moveTo(x, y - 1.3 * r);
      context.lineTo(x + 1.15 * r, y);
      context.lineTo(x, y + 1.3 * r);
      context.lineTo(x - 1.15 * r, y);
      context.closePath();
    }
  }

  function look(group) {
    if (group > SHOWN - 1) return { shape: "circle", fill: colour("none") };
    const hues = isDark() ? HUES.dark : HUES.light;
    const shape = SHAPES[Math.floor(group / hues.length) % SHAPES.length];
    return { shape, fill: hues[group % hues.length] };
  }

  function stamp({ shape, fill }, r) {
    const made = document.createElement("canvas");
    const half = Math.ceil(r * 1.4) + 1;
    made.width = made.height = 2 * half;
    const context = made.getContext("2d");
    outline(context, shape, half, half, r);
    context.fillStyle = fill;
    context.fill();
    return made;
  }

  const radius = () => clamp(3 * (4000 / n) ** 0.22, 1.5, 3.4) * clamp(view.zoom ** 0.22, 0.8, 3);

  // ---- Drawing
  let cloud = null;
  function background() {
    const grid = map.density.grid;
    const counts = unpack(map.density.values);
    const made = document.createElement("canvas");
    made.width = made.height = grid;
    const context = made.getContext("2d");
    const image = context.createImageData(grid, grid);
    const tone = isDark() ? 214 : 92;
    for (let row = 0; row < grid; row++) {
      for (let column = 0; column < grid; column++) {
        const at = 4 * ((grid - 1 - row) * grid + column);
        image.data[at] = image.data[at + 1] = image.data[at + 2] = tone;
        image.data[at + 3] = counts[row * grid + column] * 0.34;
      }
    }
    context.putImageData(image, 0, 0);
    return made;
  }

  function draw() {
    const { w, h, ratio } = size;
    if (!w || !h) return;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, base.width, base.height);
    cloud = cloud || background();
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { left: dx, bottom: dy, size: side } = map.density;
    pen.imageSmoothingEnabled = true;
    pen.drawImage(cloud, px(dx), py(dy + side), side * factor(), side * factor());
    pen.setTransform(1, 0, 0, 1, 0, 0);
    const r = radius() * ratio;
    const isCategory = chosen.kind === "category";
    const looks = isCategory
      ? Array.from({ length: SHOWN + 2 }, (_, g) => stamp(look(g), g < SHOWN ? r : 0.8 * r))
      : Array.from({ length: STEPS }, (_, s) => stamp({ shape: "circle", fill: ramp(s / (STEPS - 1)) }, r));
    const half = looks[0].width / 2;
    const [k, cx, cy] = [factor() * ratio, (w / 2) * ratio, (h / 2) * ratio];
    const place = (i) => {
      const x = cx + (X[i] - view.x) * k;
      const y = cy - (Y[i] - view.y) * k;
      if (x < -half || y < -half || x > base.width + half || y > base.height + half) return;
      const which = isCategory ? groupOf(chosen, i) : Math.round(shareOf(chosen, i) * (STEPS - 1));
      const image = looks[which];
      pen.drawImage(image, x - image.width / 2, y - image.height / 2);
    };
    pen.globalAlpha = matches ? 0.13 : isDark() ? 0.85 : 0.8;
    // What has no group of its own lies below.
    for (let at = 0; at < n; at++) {
      const i = order[at];
      if (isCategory && groupOf(chosen, i) >= SHOWN && isShown(i)) place(i);
    }
    for (let at = 0; at < n; at++) {
      const i = order[at];
      if (!(isCategory && groupOf(chosen, i) >= SHOWN) && isShown(i)) place(i);
    }
    if (matches) {
      pen.globalAlpha = 1;
      for (let at = 0; at < n; at++) if (matches[order[at]] && isShown(order[at])) place(order[at]);
    }
    pen.globalAlpha = 1;
    ring();
  }

  function ring() {
    marks.setTransform(1, 0, 0, 1, 0, 0);
    marks.clearRect(0, 0, over.width, over.height);
    if (hovered < 0) return;
    marks.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
    marks.beginPath();
    marks.arc(px(X[hovered]), py(Y[hovered]), radius() + 4, 0, 2 * Math.PI);
    marks.strokeStyle = colour("ink");
    marks.lineWidth = 1.8;
    marks.stroke();
  }

  let waiting = false;
  function later() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  // ---- Pointing
  const whole = (value) => Number(value).toLocaleString("en");

  function describe(event, i) {
    const lines = [];
    if (END[i] > START[i]) lines.push(["bases", `${whole(START[i] + 1)} to ${whole(END[i])}`]);
    lines.push(["length", `${whole(LENGTH[i])} b`]);
    for (const attribute of attributes) {
      if (attribute.kind === "category") {
        const code = attribute.values[i];
        lines.push([attribute.name, code === NONE[attribute.type] ? "–" : attribute.names[code]]);
      } else if (attribute.name !== "length") {
        lines.push([attribute.name, `${number(attribute.values[i])} ${attribute.unit.split(" ")[0]}`]);
      }
    }
    showTip(event, map.ids[i], lines);
  }

  const spot = (event) => {
    const bounds = over.getBoundingClientRect();
    return [event.clientX - bounds.left, event.clientY - bounds.top];
  };
  function point(event) {
    const found = nearest(...spot(event), event.pointerType === "touch" ? 22 : 12);
    if (found !== hovered) { hovered = found; ring(); }
    if (found < 0) hideTip();
    else describe(event, found);
  }

  const fingers = new Map();
  over.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, spot(event));
    if (event.pointerType !== "touch") over.setPointerCapture(event.pointerId);
    point(event);
  });
  over.addEventListener("pointermove", (event) => {
    const was = fingers.get(event.pointerId);
    if (!was) { point(event); return; }
    const now = spot(event);
    const others = [...fingers].filter(([id]) => id !== event.pointerId);
    if (others.length === 1) {
      const pivot = others[0][1];
      const span = (p) => Math.hypot(p[0] - pivot[0], p[1] - pivot[1]) || 1;
      zoomAt(...pivot, span(now) / span(was));
    } else if (event.pointerType !== "touch" || view.zoom > 1.01) {
      view.x -= (now[0] - was[0]) / factor();
      view.y += (now[1] - was[1]) / factor();
      hovered = -1;
      hideTip();
      later();
    }
    fingers.set(event.pointerId, now);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    over.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }
  over.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "touch") return;
    if (hovered >= 0) { hovered = -1; ring(); }
    hideTip();
  });
  over.addEventListener("wheel", (event) => {
    // Only a map that was clicked takes the wheel from the page.
    if (!event.ctrlKey && document.activeElement !== over) return;
    event.preventDefault();
    zoomAt(...spot(event), Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)));
  }, { passive: false });
  over.addEventListener("dblclick", (event) => zoomAt(...spot(event), 2));
  over.addEventListener("keydown", (event) => {
    const step = 60 / factor();
    const moves = {
      ArrowLeft: () => { view.x -= step; }, ArrowRight: () => { view.x += step; },
      ArrowUp: () => { view.y += step; }, ArrowDown: () => { view.y -= step; },
      "+": () => zoomAt(size.w / 2, size.h / 2, 1.4), "=": () => zoomAt(size.w / 2, size.h / 2, 1.4),
      "-": () => zoomAt(size.w / 2, size.h / 2, 1 / 1.4), 0: home,
    };
    if (!moves[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    moves[event.key]();
    later();
  });
  byId("map-in").addEventListener("click", () => zoomAt(size.w / 2, size.h / 2, 1.6));
  byId("map-out").addEventListener("click", () => zoomAt(size.w / 2, size.h / 2, 1 / 1.6));
  byId("map-reset").addEventListener("click", () => {
    home();
    over.style.touchAction = "pan-y";
    later();
  });

  // ---- Finding by name
  const finder = byId("map-find");
  let names = null;
  finder.addEventListener("input", () => {
    const wanted = finder.value.trim().toLowerCase();
    matches = null;
    let count = 0;
    if (wanted) {
      names = names || map.ids.map((id) => id.toLowerCase());
      const groups = attributes.filter((a) => a.kind === "category").map((a) => ({
        values: a.values,
        hits: new Set(a.names.flatMap((name, code) => (name.toLowerCase().includes(wanted) ? [code] : []))),
      })).filter((group) => group.hits.size);
      matches = new Uint8Array(n);
      for (let i = 0; i < n; i++) {
        if (names[i].includes(wanted) || groups.some((g) => g.hits.has(g.values[i]))) {
          matches[i] = 1;
          count++;
        }
      }
    }
    byId("map-found").textContent = wanted ? `${whole(count)} found` : "";
    later();
  });

  // ---- Legend
  const legend = byId("map-legend");

  function legendOfGroups() {
    const head = document.createElement("p");
    const about = document.createElement("span");
    const groups = whole(chosen.names.length);
    about.textContent = `${groups} ${chosen.names.length === 1 ? "group" : "groups"}`;
    const all = document.createElement("button");
    all.type = "button";
    all.className = "all";
    const toggleAll = () => (chosen.hidden.size ? "Show all" : "Hide all");
    all.textContent = toggleAll();
    all.addEventListener("click", () => {
      if (chosen.hidden.size) chosen.hidden.clear();
      else items.forEach(({ group }) => chosen.hidden.add(group));
      refresh();
    });
    head.append(about, all);
    legend.append(head);
    if (chosen.names.length > LOOKS) {
      const note = document.createElement("p");
      note.textContent = `Colours and shapes repeat after ${LOOKS}; pointing tells groups apart.`;
      legend.append(note);
    }
    const items = [];
    for (let group = 0; group < SHOWN + 2; group++) {
      const count = chosen.counts[group];
      if (!count) continue;
      const item = document.createElement("button");
      item.type = "button";
      item.className = "item";
      const mark = document.createElement("canvas");
      mark.width = mark.height = 28;
      const context = mark.getContext("2d");
      const { shape, fill } = look(group);
      outline(context, shape, 14, 14, 9);
      context.fillStyle = fill;
      context.fill();
      const name = document.createElement("span");
      name.className = "name";
      name.textContent = group < SHOWN ? chosen.names[group]
        : group === SHOWN ? `${whole(chosen.names.length - SHOWN)} smaller groups` : "without";
      name.title = name.textContent;
      const rows = document.createElement("span");
      rows.className = "count";
      rows.textContent = whole(count);
      item.append(mark, name, rows);
      item.addEventListener("click", () => {
        if (!chosen.hidden.delete(group)) chosen.hidden.add(group);
        refresh();
      });
      item.addEventListener("dblclick", () => {
        chosen.hidden = new Set(items.map((other) => other.group).filter((other) => other !== group));
        refresh();
      });
      legend.append(item);
      items.push({ item, group });
    }
    function refresh() {
      for (const { item, group } of items) {
        item.setAttribute("aria-pressed", String(!chosen.hidden.has(group)));
      }
      all.textContent = toggleAll();
      later();
    }
    refresh();
  }

  function legendOfNumbers() {
    const head = document.createElement("p");
    head.textContent = `${chosen.name}, ${chosen.unit}${chosen.log ? ", log scale" : ""}`;
    const bar = document.createElement("div");
    bar.className = "ramp";
    const stops = Array.from({ length: 12 }, (_, i) => ramp(i / 11));
    bar.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    const ends = document.createElement("div");
    ends.className = "ramp-ends";
    for (const value of chosen.range) {
      const end = document.createElement("span");
      end.textContent = number(value, 3);
      ends.append(end);
    }
    const note = document.createElement("p");
    note.textContent = "The ends hold the smallest and the largest 1\u202f% of rows.";
    note.style.marginTop = ".5rem";
    legend.append(head, bar, ends, note);
  }

  function showLegend() {
    legend.replaceChildren();
    if (chosen.kind === "category") legendOfGroups();
    else legendOfNumbers();
  }

  const select = byId("map-colour");
  attributes.forEach((attribute, i) => {
    const option = document.createElement("option");
    option.value = String(i);
    option.textContent = attribute.name;
    select.append(option);
  });
  select.addEventListener("change", () => {
    chosen = attributes[Number(select.value)];
    showLegend();
    later();
  });

  redraws.push(() => { cloud = null; showLegend(); draw(); });

  new ResizeObserver(() => {
    const { clientWidth: w, clientHeight: h } = plot;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    if (w === size.w && h === size.h && ratio === size.ratio) return;
    size = { w, h, ratio };
    for (const canvas of [base, over]) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    draw();
  }).observe(plot);
  showLegend();
}

themed();
})();
