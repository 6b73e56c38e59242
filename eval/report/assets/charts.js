"use strict";
// Charts as inline SVG. Each function returns an element; colours of text and lines are the
// style's, so that light and dark need no second drawing.

const SVG = "http://www.w3.org/2000/svg";
const VIRIDIS = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"];
const LABEL = 13; // font size
const TURN = (40 / 180) * Math.PI; // of the map's heads
const GLYPH = 7.2; // mean width of a character at that size

function element(space, name, attributes, children) {
  const node = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key.startsWith("aria-") && value !== null) node.setAttribute(key, value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const svg = (name, attributes, ...children) => element(SVG, name, attributes, children);
const html = (name, attributes, ...children) => element(null, name, attributes, children);

function text(x, y, content, attributes) {
  return svg("text", { x, y, "font-size": LABEL, ...attributes }, content);
}

function shorten(name, pixels) {
  const characters = Math.max(3, Math.floor(pixels / GLYPH));
  return name.length > characters ? `${name.slice(0, characters - 1)}…` : name;
}

// A name, shortened to some pixels; the whole is its title.
function named(name, x, y, pixels, attributes) {
  const label = text(x, y, shorten(name, pixels), attributes);
  label.append(svg("title", {}, name));
  return label;
}

// Of a share in [0, 1] of the colour scale, as [r, g, b].
function colour(share) {
  const place = Math.min(1, Math.max(0, share)) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const [from, to] = [VIRIDIS[low], VIRIDIS[low + 1]].map((code) =>
    [1, 3, 5].map((at) => parseInt(code.slice(at, at + 2), 16)),
  );
  return from.map((value, channel) => Math.round(value + (to[channel] - value) * (place - low)));
}

// Relative luminance of an sRGB colour, as WCAG 2 defines it, with one power for its curve.
function luminance(shade) {
  const [red, green, blue] = shade.map((value) => (value / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function quantile(sorted, share) {
  const place = (sorted.length - 1) * share;
  const low = Math.floor(place);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (place - low);
}

// Round values that span a range, about `count` of them.
function ticks(low, high, count) {
  const rough = Math.max(high - low, 1e-9) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) {
    found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  }
  return found;
}

const tickText = (value) => String(Number(value.toPrecision(6)));

// Songs by methods. `cells`: [{song, method, value, label, heard}], a row of them a song.
function heatMap(rows, methods, { width, range, sign, pick }) {
  const names = Math.min(0.35 * width, 240);
  const cell = Math.max(25, Math.min(84, (width - names) / methods.length));
  const height = 25; // WCAG 2.5.8: a target has 24 pixels
  const longest = Math.max(...methods.map((name) => name.length));
  const head = Math.min(160, 34 + longest * GLYPH * Math.sin(TURN));
  const [low, high] = range;
  const total = { width: names + cell * methods.length + 60, height: head + rows.length * height };
  const drawing = svg("svg", {
    ...total,
    class: "heat",
    role: "group",
    "aria-label": "Scores of songs and methods; arrow keys move, Enter opens",
  });
  methods.forEach((method, column) => {
    const x = names + (column + 0.5) * cell;
    const turn = { transform: `rotate(-40 ${x} ${head - 8})` };
    drawing.append(named(method, x, head - 8, (head - 34) / Math.sin(TURN) + GLYPH, turn));
  });
  const grid = rows.map((row, line) => {
    const y = head + line * height;
    drawing.append(named(row.song, names - 6, y + 17, names - 12, { "text-anchor": "end" }));
    return row.cells.map((one, column) => {
      const x = names + column * cell;
      const square = svg("g", {
        class: one.value === null ? "cell empty" : "cell",
        role: "button",
        tabindex: line + column === 0 ? 0 : -1,
        "aria-label": one.label,
        onclick: () => pick(one),
      });
      const box = { x, y, width: cell - 1, height: height - 1 };
      if (one.value === null) square.append(svg("rect", box));
      else {
        const share = (one.value - low) / Math.max(high - low, 1e-9);
        const shade = colour(sign > 0 ? share : 1 - share);
        const light = luminance(shade) > 0.18; // black and white have the same contrast there
        square.append(svg("rect", { ...box, style: `fill: rgb(${shade})` }));
        if (cell >= 40) {
          const look = { "text-anchor": "middle", style: `fill: ${light ? "#000" : "#fff"}` };
          square.append(text(x + cell / 2, y + 17, decibels(one.value), look));
        }
      }
      square.append(svg("title", {}, one.label));
      drawing.append(square);
      return square;
    });
  });
  drawing.addEventListener("keydown", (event) => moveInGrid(event, grid));
  return drawing;
}

// Arrow keys move between cells, of which one alone is reached by Tab.
function moveInGrid(event, grid) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const line = grid.findIndex((row) => row.includes(document.activeElement));
  if (line < 0) return;
  const column = grid[line].indexOf(document.activeElement);
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const [down, right] = steps[event.key] ?? [0, 0];
  const next = grid[line + down]?.[column + right];
  if (event.key === "Enter" || event.key === " ") {
    document.activeElement.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  } else if (!next || next === document.activeElement) return;
  else {
    document.activeElement.setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  }
  event.preventDefault();
  event.stopPropagation();
}

function scaleLegend(low, high, sign) {
  const colours = sign > 0 ? VIRIDIS : [...VIRIDIS].reverse();
  const stops = colours.map((code, number) =>
    svg("stop", { offset: number / (VIRIDIS.length - 1), "stop-color": code }),
  );
  return svg(
    "svg",
    { width: 300, height: 20, role: "img", "aria-label": `from ${decibels(low)} to ${decibels(high)}` },
    svg("defs", {}, svg("linearGradient", { id: "colours" }, ...stops)),
    text(46, 15, decibels(low), { "text-anchor": "end" }),
    svg("rect", { x: 52, y: 3, width: 190, height: 14, fill: "url(#colours)" }),
    text(248, 15, decibels(high)),
  );
}

// A row a method, an axis of dB below. `draw(row, x, y)` returns a row's marks, `values(row)` all
// numbers that must lie on the axis.
function rowsOnAxis(rows, { width, unit, values, draw, zero, name }) {
  const names = Math.min(0.35 * width, 240);
  const height = 26;
  const all = rows.flatMap(values).concat(zero ? [0] : []);
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const margin = 0.03 * Math.max(most - least, 1);
  const [low, high] = [least - margin, most + margin];
  const x = (value) => names + ((value - low) / (high - low)) * (width - names - 12);
  const bottom = rows.length * height;
  const drawing = svg("svg", { width, height: bottom + 40, role: "img", "aria-label": name });
  for (const tick of ticks(low, high, Math.max(2, (width - names) / 70))) {
    const kind = zero && tick === 0 ? "zero" : "grid";
    drawing.append(
      svg("line", { x1: x(tick), x2: x(tick), y1: 0, y2: bottom, class: kind }),
      text(x(tick), bottom + 16, tickText(tick), { "text-anchor": "middle" }),
    );
  }
  drawing.append(text((names + width) / 2, bottom + 34, unit, { "text-anchor": "middle" }));
  rows.forEach((row, line) => {
    const y = (line + 0.5) * height;
    const label = { "text-anchor": "end" };
    drawing.append(named(row.method, names - 8, y + 4, names - 12, label));
    drawing.append(...draw(row, x, y));
  });
  return drawing;
}

// Quartiles, median, and whiskers to the furthest song within 1.5 times the box.
function boxPlot(rows, options) {
  const five = (values) => {
    const sorted = [...values].sort((a, b) => a - b);
    const [first, median, third] = [0.25, 0.5, 0.75].map((share) => quantile(sorted, share));
    const reach = 1.5 * (third - first);
    const inner = sorted.filter((v) => v >= first - reach && v <= third + reach);
    return { first, median, third, low: inner[0], high: inner[inner.length - 1], sorted };
  };
  return rowsOnAxis(rows, {
    ...options,
    values: (row) => row.values,
    draw: (row, x, y) => {
      const box = five(row.values);
      const far = box.sorted.filter((value) => value < box.low || value > box.high);
      return [
        svg("line", { x1: x(box.low), x2: x(box.high), y1: y, y2: y, class: "whisker" }),
        svg("rect", {
          x: x(box.first), y: y - 7, width: Math.max(1, x(box.third) - x(box.first)), height: 14,
          class: "box",
        }),
        svg("line", { x1: x(box.median), x2: x(box.median), y1: y - 9, y2: y + 9, class: "median" }),
        ...far.map((value) => svg("circle", { cx: x(value), cy: y, r: 2, class: "dot" })),
      ];
    },
  });
}

// Songs as dots, the mean and its interval.
function differencePlot(rows, options) {
  return rowsOnAxis(rows, {
    ...options,
    zero: true,
    values: (row) => [...row.values, ...row.mean.filter((value) => value !== null)],
    draw: (row, x, y) => {
      const [mean, low, high] = row.mean;
      const dots = row.values.map((value) =>
        svg("circle", { cx: x(value), cy: y, r: 2.5, class: "dot" }),
      );
      const bar = { x1: x(low ?? mean), x2: x(high ?? mean), y1: y, y2: y, class: "interval" };
      return [...dots, svg("line", bar), svg("circle", { cx: x(mean), cy: y, r: 5, class: "mean" })];
    },
  });
}

const LEFT = 46; // of a chart over time: its axis
const RIGHT = 8;

// Curves over one axis. `curves`: [{label, points: [[x, y], ...], style}]; null breaks a curve.
function lineChart(curves, { width, height, xRange, xUnit, yUnit, name }) {
  const points = curves.flatMap((curve) => curve.points).filter((point) => point[1] !== null);
  if (!points.length) return html("p", {}, "No values.");
  const ys = points.map((point) => point[1]);
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const [first, last] = xRange ?? [points[0][0], Math.max(...points.map((point) => point[0]))];
  const x = (value) => LEFT + ((value - first) / Math.max(last - first, 1e-9)) * (width - LEFT - RIGHT);
  const y = (value) =>
    8 + ((high - value) / Math.max(high - low, 1e-9)) * (height - 50);
  const drawing = svg("svg", { width, height, role: "img", "aria-label": name });
  for (const tick of ticks(low, high, Math.max(2, height / 50))) {
    drawing.append(svg("line", { x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick), class: "grid" }));
    drawing.append(text(LEFT - 6, y(tick) + 4, tickText(tick), { "text-anchor": "end" }));
  }
  for (const tick of ticks(first, last, Math.max(2, width / 90))) {
    const look = { "text-anchor": "middle" };
    drawing.append(text(x(tick), height - 24, tickText(tick), look));
  }
  drawing.append(text((LEFT + width) / 2, height - 6, `${xUnit}; ${yUnit}`, { "text-anchor": "middle" }));
  for (const curve of curves) {
    let pen = "M";
    const path = curve.points.map(([at, value]) => {
      if (value === null) return (pen = "M"), "";
      const part = `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
      return part;
    });
    const line = svg("path", { d: path.join(""), class: `curve ${curve.style ?? ""}` });
    line.append(svg("title", {}, curve.label));
    drawing.append(line);
  }
  return drawing;
}
