"use strict";
// Shows the state, and changes it by clicks and keys.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
let state = readState(location.hash, data);
let order = { stem: "", metric: "", down: true }; // the column that the leaderboard is sorted by

function change(changes) {
  state = { ...state, ...changes };
  history.replaceState(null, "", writeState(state, data));
}

const isHere = (method) => method.test_set === "";
const shown = (metric) => metric.replace("_", "-");
const targetName = (target) => (target === ALL ? `mean of ${averaged(data).join(", ")}` : target);

// Those with scores of these songs, oracles and mixture last.
const scoredMethods = () =>
  data.methods
    .filter((method) => method.name in data.scores)
    .sort((one, other) => one.reference - other.reference);

// Buttons that replace those in an element; the one with the focus keeps it.
function showButtons(id, buttons) {
  const key = document.activeElement?.dataset?.key;
  byId(id).replaceChildren(
    ...buttons.map(({ key, label, ...attributes }) =>
      html("button", { type: "button", "data-key": `${id} ${key}`, ...attributes }, label),
    ),
  );
  [...byId(id).children].find((button) => key && button.dataset.key === key)?.focus();
}

// ---- what is shown of all songs

function showChoices(id, choices, current, pick) {
  const button = ([value, label]) => ({
    key: value, label, "aria-pressed": value === current, onclick: () => pick(value),
  });
  showButtons(id, choices.map(button));
}

function showAll() {
  const targets = data.targets.length > 1 ? [ALL, ...data.targets] : data.targets;
  const labels = targets.map((target) => [target, target === ALL ? "all stems" : target]);
  showChoices("targets", labels, state.target, (target) => {
    change({ target });
    showAll();
    showFrames();
  });
  const metrics = data.metrics.map((metric) => [metric, shown(metric)]);
  showChoices("metrics", metrics, state.metric, (metric) => {
    change({ metric });
    showAll();
  });
  showBoard();
  showHeat();
  showSpread();
}

// Columns of the leaderboard: the targets of one metric, or the metrics of one target.
function boardColumns() {
  const stems = state.target === ALL ? data.targets : [state.target];
  const metrics = state.target === ALL ? [state.metric] : data.metrics;
  const isThere = (stem, metric) => data.methods.some((m) => (m.rows[stem]?.[metric] ?? null) !== null);
  return stems.flatMap((stem) => metrics.filter((m) => isThere(stem, m)).map((metric) => ({ stem, metric })));
}

function showBoard() {
  const columns = boardColumns();
  const here = data.methods.filter(isHere);
  const groups = [
    ["", here.filter((method) => !method.reference)],
    ["Oracles, which know the truth, and the mixture", here.filter((method) => method.reference)],
  ];
  byId("board").replaceChildren(boardTable(columns, groups, bestOf(columns, groups[0][1])));
  const elsewhere = data.methods.filter((method) => !isHere(method));
  if (byId("elsewhere")) byId("elsewhere").replaceChildren(boardTable(columns, [["", elsewhere]], []));
}

const valueOf = (method, { stem, metric }) => method.rows[stem]?.[metric] ?? null;

// The best shown value of each column: a reader cannot tell more apart.
function bestOf(columns, methods) {
  return columns.map((column) => {
    const sign = signOf(column.metric);
    const values = methods.map((method) => valueOf(method, column)).filter((v) => v !== null);
    return values.length ? sign * Math.max(...values.map((value) => sign * value)) : null;
  });
}

function boardTable(columns, groups, best) {
  const at = columns.findIndex(({ stem, metric }) => stem === order.stem && metric === order.metric);
  const rank = (method) => {
    const value = valueOf(method, columns[at]);
    return value === null ? -Infinity : signOf(columns[at].metric) * value;
  };
  const sorted = (methods) => {
    if (at < 0) return methods;
    return [...methods].sort((a, b) => (order.down ? rank(b) - rank(a) : rank(a) - rank(b)));
  };
  const heads = columns.map(({ stem, metric }, number) => {
    const label = state.target === ALL ? stem : shown(metric);
    const sort = number === at ? (order.down ? "descending" : "ascending") : null;
    const pick = () => {
      order = { stem, metric, down: number === at ? !order.down : true };
      showBoard();
      byId("board").querySelectorAll("thead button")[number].focus();
    };
    const button = html("button", { type: "button", onclick: pick }, label);
    return html("th", { scope: "col", "aria-sort": sort }, button);
  });
  const row = (method) =>
    html("tr", {}, html("th", { scope: "row" }, method.name), ...columns.map((column, number) => {
      const found = valueOf(method, column);
      const isBest = found !== null && best[number] === found && !method.reference;
      return html("td", { class: isBest ? "best" : null }, ...boardCell(method, column, found));
    }));
  const rows = groups.flatMap(([title, methods]) => [
    ...(title && methods.length
      ? [html("tr", { class: "group" }, html("th", { colspan: columns.length + 1 }, title))]
      : []),
    ...sorted(methods).map(row),
  ]);
  const head = html("tr", {}, html("th", { scope: "col" }, "Method"), ...heads);
  return html("table", {}, html("thead", {}, head), html("tbody", {}, ...rows));
}

function boardCell(method, { stem, metric }, found) {
  const row = method.rows[stem];
  if (metric !== "SDR" || !row || row.SDR_low === null) return [decibels(found)];
  const differs = row.p_value !== null && row.p_value < data.significance ? "*" : "";
  const interval = ` (${decibels(row.SDR_low)} to ${decibels(row.SDR_high)})`;
  return [decibels(found) + differs, html("span", { class: "interval-text" }, interval)];
}

function showHeat() {
  const methods = scoredMethods();
  const rows = data.songs.map((song, number) => ({
    song,
    cells: methods.map(({ name }) => {
      const value = scoreOf(data, name, state.target, state.metric, number);
      const label = `${song}, ${name}, ${targetName(state.target)}: ${decibels(value)} dB ${shown(state.metric)}`;
      return { song, method: name, value, label };
    }),
  }));
  const sign = signOf(state.metric);
  const mean = ({ cells }) => {
    const values = cells.map((cell) => cell.value).filter((value) => value !== null);
    return values.length ? (sign * values.reduce((a, b) => a + b, 0)) / values.length : -Infinity;
  };
  rows.sort((a, b) => mean(b) - mean(a));
  const all = rows.flatMap((row) => row.cells.map((cell) => cell.value)).filter((v) => v !== null);
  all.sort((a, b) => a - b);
  const range = all.length ? [quantile(all, 0.05), quantile(all, 0.95)] : [0, 0];
  const width = byId("heat").clientWidth;
  byId("scale").replaceChildren(...(all.length ? [scaleLegend(...range, sign)] : []));
  const names = methods.map((method) => method.name);
  byId("heat").replaceChildren(
    all.length ? heatMap(rows, names, { width, range, sign, pick: pickCell }) : "No song has such a score.",
  );
}

function showSpread() {
  const values = (method) =>
    data.songs.map((_, number) => scoreOf(data, method, state.target, state.metric, number));
  const methods = scoredMethods();
  const rows = methods
    .map(({ name }) => ({ method: name, values: values(name).filter((v) => v !== null) }))
    .filter((row) => row.values.length);
  const width = (id) => Math.max(240, byId(id).clientWidth);
  const name = `${shown(state.metric)}, ${targetName(state.target)}`;
  byId("boxes").replaceChildren(
    rows.length
      ? boxPlot(rows, { width: width("boxes"), unit: `${shown(state.metric)}, dB`, name })
      : "No song has such a score.",
  );
  const target = oneTarget();
  const title = `SDR of ${target} minus that of ${data.baseline}: songs, mean and its ${Math.round(100 * data.confidence)} % interval`;
  byId("difference-title").textContent = title;
  const baseline = data.scores[data.baseline]?.[target]?.SDR ?? [];
  const pairs = methods
    .filter((method) => data.differences[method.name]?.[target])
    .map((method) => {
      const own = data.scores[method.name][target].SDR ?? [];
      const found = own.map((v, i) => (v === null || (baseline[i] ?? null) === null ? null : v - baseline[i]));
      const mean = data.differences[method.name][target];
      return { method: method.name, values: found.filter((v) => v !== null), mean };
    });
  byId("differences").replaceChildren(
    pairs.length
      ? differencePlot(pairs, { width: width("differences"), unit: "dB", name: title })
      : "There is no other method.",
  );
}

// What is shown where only one target can be.
function oneTarget() {
  return state.target === ALL ? (averaged(data)[0] ?? data.targets[0]) : state.target;
}

function showCurves() {
  if (!byId("curves")) return;
  const figures = data.curves.map((model) => html("figure", {}, html("figcaption", {}, model.name)));
  byId("curves").replaceChildren(...figures); // all at once, so that each has its width
  const widths = figures.map((figure) => Math.max(240, figure.clientWidth));
  data.curves.forEach((model, number) => {
    const curves = [
      { label: "training loss", points: model.loss, style: "" },
      { label: "validation loss", points: model.valid_loss, style: "first" },
    ];
    const yUnit = "loss (line: validation; thin: training)";
    const options = { width: widths[number], height: 220, xUnit: "step", yUnit, name: `${model.name}: loss` };
    figures[number].append(lineChart(curves, options));
  });
}

// ---- clicks, keys, links

function fill(id, choices, pick) {
  byId(id).replaceChildren(...choices.map((name) => html("option", { value: name }, name)));
  byId(id).addEventListener("change", (event) => pick(event.target.value));
}

// Keys of the song's section alone: elsewhere they are the browser's.
function onKey(event) {
  if (!player.song || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.matches("select, summary") || (event.key === " " && event.target.matches("button"))) return;
  const digit = /^Digit([1-9])$/.exec(event.code)?.[1];
  const stem = digit && heardTargets()[digit - 1];
  const acts = {
    " ": togglePlay,
    ArrowLeft: () => seek(player.now() - 1),
    ArrowRight: () => seek(player.now() + 1),
    l: () => setLoop(!state.loop),
    m: () => hear({ source: "mixture" }),
    t: () => hear({ source: "true" }),
    a: () => hear({ source: "a" }),
    b: () => hear({ source: "b" }),
  };
  const act = stem ? () => toggle(event.shiftKey ? "mute" : "solo", stem) : acts[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

function start() {
  fill("songs", data.songs, (song) => {
    const play = player.playing;
    change({ song, at: 0 });
    showSong({ play });
  });
  for (const letter of ["a", "b"]) fill(letter, data.choices, (method) => changeMethod(letter, method));
  byId("play").addEventListener("click", togglePlay);
  byId("loop").addEventListener("click", () => setLoop(!state.loop));
  byId("song").addEventListener("keydown", onKey);
  addEventListener("hashchange", () => {
    state = readState(location.hash, data);
    showAll();
    showSong();
  });
  let width = innerWidth; // a phone's address bar changes the height alone
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    [showAll, showFrames, showCurves].forEach((show) => show());
  });
  showAll();
  showCurves();
}

start();
// The scripts of songs that are part of the page come after this one.
addEventListener("DOMContentLoaded", () => showSong());
