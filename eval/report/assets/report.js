"use strict";
// Shows the state, and changes it by clicks and keys.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const songs = new Map(); // what the songs' scripts gave, by number
const waiting = new Map(); // what to do when one comes
let state = readState(location.hash, data);
let order = { column: null, down: true }; // of the leaderboard
const player = new Player(() => showTransport());
let shownTime = null; // moves the cursor of the chart

// Is called by the songs' scripts.
function receiveSong(number, song) {
  songs.set(number, song);
  waiting.get(number)?.();
  waiting.delete(number);
}

function withSong(name, act) {
  const number = data.songs.indexOf(name);
  if (songs.has(number)) return act(songs.get(number));
  if (!data.files[number]) return act(null);
  waiting.set(number, () => act(songs.get(number)));
  document.head.append(html("script", { src: data.files[number] }));
}

function change(changes) {
  state = { ...state, ...changes };
  history.replaceState(null, "", writeState(state, data));
}

// Those with scores of these songs, oracles and mixture last.
const scoredMethods = () =>
  data.methods
    .filter((method) => method.name in data.scores)
    .sort((one, other) => one.reference - other.reference);
const isHere = (method) => method.test_set === "";
const unitOf = (metric) => (metric === "PES" ? "dB of energy where the stem is silent" : "dB");
const targetName = (target) => (target === ALL ? "all stems" : target);

// ---- what is shown of all songs

function showChoices(id, choices, current, pick) {
  byId(id).replaceChildren(
    ...choices.map(([value, label]) =>
      html("button", { type: "button", "aria-pressed": value === current, onclick: () => pick(value) }, label),
    ),
  );
}

function showAll() {
  const targets = data.targets.length > 1 ? [ALL, ...data.targets] : data.targets;
  showChoices("targets", targets.map((t) => [t, targetName(t)]), state.target, (target) => {
    change({ target });
    showAll();
    showFrames();
  });
  showChoices("metrics", data.metrics.map((m) => [m, m.replace("_", "-")]), state.metric, (metric) => {
    change({ metric });
    showAll();
  });
  showBoard();
  showHeat();
  showSpread();
}

// Columns of the leaderboard: the stems of one metric, or the metrics of one stem.
function boardColumns() {
  const stems = state.target === ALL ? data.targets : [state.target];
  const metrics = state.target === ALL ? [state.metric] : data.metrics;
  const used = metrics.filter((metric) =>
    data.methods.some((method) => stems.some((stem) => (method.rows[stem]?.[metric] ?? null) !== null)),
  );
  return stems.flatMap((stem) => used.map((metric) => ({ stem, metric })));
}

function showBoard() {
  const columns = boardColumns();
  const value = (method, { stem, metric }) => method.rows[stem]?.[metric] ?? null;
  const sorted = (methods) => {
    if (order.column === null || !columns[order.column]) return methods;
    const rank = (method) => value(method, columns[order.column]) ?? -Infinity;
    return [...methods].sort((a, b) => (order.down ? rank(b) - rank(a) : rank(a) - rank(b)));
  };
  const heads = () => columns.map(({ stem, metric }, number) => {
    const pick = () => {
      order = { column: number, down: order.column === number ? !order.down : true };
      showBoard();
    };
    const sort = order.column === number ? (order.down ? "descending" : "ascending") : null;
    const label = state.target === ALL ? stem : metric.replace("_", "-");
    const button = html("button", { type: "button", onclick: pick }, label);
    return html("th", { scope: "col", "aria-sort": sort }, button);
  });
  const here = data.methods.filter(isHere);
  const groups = [
    ["", here.filter((method) => !method.reference)],
    ["Oracles, which know the truth, and the mixture", here.filter((method) => method.reference)],
  ];
  const best = columns.map((column) =>
    Math.max(...groups[0][1].map((method) => value(method, column) ?? -Infinity)),
  );
  const rowsOf = ([title, methods]) => [
    ...(title && methods.length
      ? [html("tr", { class: "group" }, html("th", { colspan: columns.length + 1 }, title))]
      : []),
    ...sorted(methods).map((method) =>
      html(
        "tr",
        {},
        html("th", { scope: "row" }, method.name),
        ...columns.map((column, number) => {
          const found = value(method, column);
          const first = title === "" && found !== null && found === best[number];
          return html("td", { class: first ? "best" : null }, ...boardCell(method, column, found));
        }),
      ),
    ),
  ];
  const table = (groups) => {
    const head = html("tr", {}, html("th", { scope: "col" }, "Method"), ...heads());
    return html("table", {}, html("thead", {}, head), html("tbody", {}, ...groups.flatMap(rowsOf)));
  };
  byId("board").replaceChildren(table(groups));
  const elsewhere = data.methods.filter((method) => !isHere(method));
  if (byId("elsewhere")) byId("elsewhere").replaceChildren(table([[null, elsewhere]]));
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
      const label = `${song}, ${name}, ${targetName(state.target)}: ${decibels(value)} dB ${state.metric}`;
      return { song, method: name, value, label };
    }),
  }));
  const mean = ({ cells }) => {
    const values = cells.map((cell) => cell.value).filter((value) => value !== null);
    return values.length ? values.reduce((a, b) => a + b, 0) / values.length : -Infinity;
  };
  rows.sort((a, b) => mean(b) - mean(a));
  const all = rows.flatMap((row) => row.cells.map((cell) => cell.value)).filter((v) => v !== null);
  all.sort((a, b) => a - b);
  if (!all.length) return byId("heat").replaceChildren("No song has such a score.");
  const range = [quantile(all, 0.05), quantile(all, 0.95)];
  const width = byId("heat").clientWidth;
  byId("scale").replaceChildren(scaleLegend(...range));
  byId("heat").replaceChildren(
    heatMap(rows, methods.map((method) => method.name), { width, range, pick: pickCell }),
  );
}

function showSpread() {
  const values = (method) =>
    data.songs.map((_, number) => scoreOf(data, method, state.target, state.metric, number));
  const methods = scoredMethods();
  const rows = methods
    .map(({ name }) => ({ method: name, values: values(name).filter((v) => v !== null) }))
    .filter((row) => row.values.length);
  const width = (id) => Math.max(280, byId(id).clientWidth);
  const name = `${state.metric}, ${targetName(state.target)}`;
  if (rows.length) {
    const options = { width: width("boxes"), unit: `${state.metric}, ${unitOf(state.metric)}`, name };
    byId("boxes").replaceChildren(boxPlot(rows, options));
  } else byId("boxes").replaceChildren("No song has such a score.");
  const shown = state.target === ALL ? stemsOf(data)[0] : state.target;
  byId("difference-title").textContent =
    `SDR of ${shown} minus that of ${data.baseline}: songs, mean and its ${Math.round(100 * data.confidence)} % interval`;
  const baseline = data.scores[data.baseline]?.[shown]?.SDR ?? [];
  const pairs = methods
    .filter(({ name }) => data.differences[name]?.[shown])
    .map(({ name }) => {
      const own = data.scores[name][shown].SDR;
      const found = own.map((v, i) => (v === null || (baseline[i] ?? null) === null ? null : v - baseline[i]));
      return { method: name, values: found.filter((v) => v !== null), mean: data.differences[name][shown] };
    });
  byId("differences").replaceChildren(
    pairs.length
      ? differencePlot(pairs, { width: width("differences"), unit: "dB", name: byId("difference-title").textContent })
      : "There is no other method.",
  );
}

function showCurves() {
  if (!byId("curves")) return;
  byId("curves").replaceChildren(
    ...data.curves.map((model) => {
      const figure = html("figure", {}, html("figcaption", {}, model.name));
      byId("curves").append(figure);
      const curves = [
        { label: "training loss", points: model.loss, style: "" },
        { label: "validation loss", points: model.valid_loss, style: "first" },
      ];
      const options = { width: Math.max(280, figure.clientWidth), height: 220, xUnit: "step", yUnit: "loss (line: validation; thin: training)", name: `${model.name}: loss` };
      figure.append(lineChart(curves, options));
      return figure;
    }),
  );
}

// ---- one song

function pickCell({ song, method }) {
  const heard = data.heard.includes(method);
  const solo = heard && state.target !== ALL ? [state.target] : state.solo;
  const chosen = method === state.b ? { source: "b" } : { source: "a", a: method };
  change({ song, ...(heard ? { ...chosen, solo } : {}), at: 0 });
  showSong({ play: heard, focus: true });
}

function showSong({ play = false, focus = false } = {}) {
  byId("song").hidden = !state.song;
  if (!state.song) return;
  byId("song-title").textContent = state.song;
  for (const id of ["song", "a", "b"]) byId(id === "song" ? "songs" : id).value = state[id];
  const wanted = state.song;
  withSong(wanted, (song) => {
    if (wanted !== state.song) return;
    player.open(song && Object.keys(song.sounds).length ? song : null);
    if (player.song) player.place = Math.max(player.place, state.at);
    player.loop = state.loop;
    byId("player").hidden = !player.song;
    byId("none").textContent = player.song ? "" : data.silence;
    byId("none").hidden = Boolean(player.song) || !data.silence;
    showMixer();
    showFrames();
    // Where the keys act on the player, and Space on its button.
    if (focus) byId(player.song ? "play" : "songs").focus();
    if (play && player.song) listen();
  });
}

// What the chosen methods need, so that a change between them is heard at once.
function neededSounds() {
  const stems = data.targets.flatMap((stem) => ["true", "a", "b"].map((s) => soundName(s, stem, state)));
  const wanted = new Set(["mixture", ...stems]);
  return player.names.filter((name) => wanted.has(name));
}

function listen() {
  player.setGains(gainsOf(state, data.targets, player.names));
  return player.play(neededSounds());
}

function showMixer() {
  const labels = { mixture: "Mixture", true: "True stems", a: `A: ${state.a}`, b: `B: ${state.b}` };
  const there = (source) =>
    player.names.some((name) => name.startsWith(soundName(source, "", state).replace(/\/$/, "")));
  byId("sources").replaceChildren(
    ...SOURCES.map((source) =>
      html("button", {
        type: "button", "data-source": source, "aria-pressed": state.source === source,
        disabled: !there(source), onclick: () => hear({ source }),
      }, labels[source]),
    ),
  );
  byId("loop").setAttribute("aria-pressed", state.loop);
  const used = data.targets.filter((stem) => player.names.some((name) => name.endsWith(`/${stem}`)));
  byId("stems").replaceChildren(
    ...used.flatMap((stem) => [
      html("span", {}, stem),
      ...["solo", "mute"].map((kind) =>
        html("button", {
          type: "button", "aria-pressed": state[kind].includes(stem), "aria-label": `${kind} ${stem}`,
          onclick: () => toggle(kind, stem),
        }, kind),
      ),
    ]),
  );
  showTransport();
}

function toggle(kind, stem) {
  const on = state[kind].includes(stem);
  const source = state.source === "mixture" ? "a" : state.source; // stems of the mixture are not apart
  hear({ source, [kind]: on ? state[kind].filter((one) => one !== stem) : [...state[kind], stem] });
}

function hear(changes) {
  change(changes);
  player.setGains(gainsOf(state, data.targets, player.names));
  showMixer();
}

function showTransport() {
  byId("play").textContent = player.playing ? "Stop" : "Play";
  if (player.playing) requestAnimationFrame(tick);
}

function tick() {
  shownTime?.(player.now());
  if (player.playing) requestAnimationFrame(tick);
}

function seek(place) {
  const playing = player.playing;
  player.stop();
  player.place = place;
  const part = partAt(player.parts, place);
  if (part) player.place = Math.min(Math.max(place, part.start), part.end - 0.01);
  change({ at: player.place });
  shownTime?.(player.place);
  if (playing) listen();
}

function togglePlay() {
  if (!player.song) return;
  if (!player.playing) return listen();
  player.stop();
  change({ at: player.place });
}

function setLoop(loop) {
  const playing = player.playing;
  player.stop();
  player.loop = loop;
  change({ loop });
  showMixer();
  if (playing) listen();
}

function showFrames() {
  const song = songs.get(data.songs.indexOf(state.song));
  byId("legend").replaceChildren();
  shownTime = null;
  if (!song) return byId("frames").replaceChildren();
  const width = Math.max(300, byId("frames").clientWidth);
  const target = state.target === ALL ? stemsOf(data)[0] : state.target;
  const styles = (method) => (method === state.a ? "first" : method === state.b ? "second" : "");
  const curves = Object.entries(song.sdr)
    .filter(([, targets]) => targets[target])
    .map(([method, targets]) => ({
      label: method,
      style: styles(method),
      points: targets[target].map((value, frame) => [frame * song.hop_s + song.window_s / 2, value]),
    }))
    .sort((one, other) => one.style.length - other.style.length);
  const options = {
    width, height: 220, xRange: [0, song.seconds], xUnit: "seconds", yUnit: `SDR of ${target} in dB, a value a frame`,
    name: `SDR of ${target} over time`,
  };
  const chart = lineChart(curves, options);
  byId("frames").replaceChildren(...(chart.scaleX ? [drawOutline(song, chart, width)] : []), chart);
  byId("legend").replaceChildren(
    html("span", { class: "first" }, `A: ${state.a}`), " ",
    html("span", { class: "second" }, state.b === state.a ? "" : `B: ${state.b}`),
    " other methods are grey.",
  );
}

// The waveform over the chart, with the excerpts that can be heard, and a cursor.
function drawOutline(song, chart, width) {
  const { left, right } = chart.scaleX;
  const x = (seconds) => left + (seconds / song.seconds) * (right - left);
  const drawing = svg("svg", { width, height: 76, role: "img", "aria-label": "Waveform of the mixture" });
  const columns = song.outline.length;
  const top = song.outline.map((peak, n) => `${x((n / columns) * song.seconds).toFixed(1)} ${(38 - peak * 0.36).toFixed(1)}`);
  const under = song.outline.map((peak, n) => `${x((n / columns) * song.seconds).toFixed(1)} ${(38 + peak * 0.36).toFixed(1)}`);
  if (columns) drawing.append(svg("polygon", { points: [...top, ...under.reverse()].join(" "), class: "outline" }));
  for (const [kind, start, end] of player.song ? song.excerpts : []) {
    const part = svg("rect", { x: x(start), y: 0, width: x(end) - x(start), height: 76, class: "part" });
    part.append(svg("title", {}, kind));
    drawing.append(part);
    const label = { "text-anchor": "middle" };
    if (kind !== "whole") drawing.append(text(x((start + end) / 2), 12, kind, label));
  }
  const cursor = svg("line", { y1: 0, y2: 76, class: "cursor" });
  drawing.append(cursor);
  shownTime = (seconds) => {
    cursor.setAttribute("x1", x(seconds));
    cursor.setAttribute("x2", x(seconds));
    byId("time").textContent = player.song ? `${seconds.toFixed(1)} s` : "";
  };
  shownTime(player.song ? player.now() : 0);
  cursor.toggleAttribute("hidden", !player.song);
  drawing.addEventListener("click", (event) => {
    if (!player.song) return;
    const place = event.clientX - drawing.getBoundingClientRect().left;
    seek(Math.max(0, ((place - left) / (right - left)) * song.seconds));
  });
  return drawing;
}

// ---- clicks, keys, links

function fill(id, choices, pick) {
  byId(id).replaceChildren(...choices.map((name) => html("option", { value: name }, name)));
  byId(id).addEventListener("change", (event) => pick(event.target.value));
}

function changeMethod(letter, method) {
  const playing = player.playing;
  player.stop();
  change({ [letter]: method, source: letter });
  showMixer();
  showFrames();
  if (playing) listen();
}

function onKey(event) {
  if (!player.song || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.matches("select, input, button") && event.key === " ") return;
  if (event.target.matches("select")) return;
  const digit = /^Digit([1-9])$/.exec(event.code)?.[1];
  const stem = digit && data.targets[digit - 1];
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
    change({ song, at: 0 });
    showSong({ play: player.playing });
  });
  for (const letter of ["a", "b"]) {
    const methods = data.heard.length ? data.heard : Object.keys(data.scores);
    fill(letter, methods, (method) => changeMethod(letter, method));
    byId(letter).value = state[letter];
  }
  byId("play").addEventListener("click", togglePlay);
  byId("loop").addEventListener("click", () => setLoop(!state.loop));
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", () => {
    state = readState(location.hash, data);
    showAll();
    showSong();
  });
  let frame = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => [showAll, showFrames, showCurves].forEach((show) => show()));
  });
  showAll();
  showCurves();
}

start();
// The scripts of songs that are part of the page come after this one.
addEventListener("DOMContentLoaded", () => showSong());
