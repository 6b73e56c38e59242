"use strict";
// One song: loads what belongs to it, and shows its player and its SDR over time.

const songs = new Map(); // what the songs' scripts gave, by number
const waiting = new Map(); // what to do when one comes, or cannot be loaded
let shownTime = null; // moves the cursor of the chart
let frame = 0; // of the cursor
const player = new Player(() => showTransport());

// Is called by the songs' scripts.
function receiveSong(number, song) {
  songs.set(number, song);
  settle(number);
}

function settle(number) {
  waiting.get(number)?.();
  waiting.delete(number);
}

// Calls `act` with a song, or with null where there is none or it cannot be loaded.
function withSong(name, act) {
  const number = data.songs.indexOf(name);
  if (songs.has(number) || !data.files[number]) return act(songs.get(number) ?? null);
  const loading = waiting.has(number);
  waiting.set(number, () => act(songs.get(number) ?? null));
  if (loading) return;
  const source = { src: data.files[number], onerror: () => settle(number) };
  document.head.append(html("script", source));
}

function pickCell({ song, method }) {
  const isHeard = data.heard.includes(method);
  const chosen = method === state.b ? { source: "b" } : { source: "a", a: method };
  change({ song, ...(data.choices.includes(method) ? chosen : {}), at: 0 });
  showSong({ play: isHeard, solo: state.target, focus: true });
}

function showSong({ play = false, solo = ALL, focus = false } = {}) {
  byId("song").hidden = !state.song;
  player.open(null); // what was heard before is of another song
  shownTime = null;
  if (!state.song) return;
  byId("song-title").textContent = state.song;
  for (const [id, key] of [["songs", "song"], ["a", "a"], ["b", "b"]]) byId(id).value = state[key];
  byId("player").hidden = true;
  byId("frames").replaceChildren();
  byId("none").hidden = true;
  const wanted = state.song;
  withSong(wanted, (song) => {
    if (wanted !== state.song) return;
    player.open(song && Object.keys(song.sounds).length ? song : null);
    if (player.song) {
      player.place = Math.max(player.place, state.at);
      const isThere = player.names.includes(soundName(state.source, solo, state));
      change({ source: usable(), ...(isThere ? { solo: [solo] } : {}) });
    }
    byId("player").hidden = !player.song;
    say(player.song ? "" : data.files[data.songs.indexOf(wanted)] && !song ? "This song's file is missing." : data.silence);
    showMixer();
    showFrames();
    // Where the keys act on the player, and Space on its button.
    if (focus) byId(player.song ? "play" : "songs").focus();
    if (play && player.song) listen();
  });
}

function say(text) {
  byId("none").textContent = text;
  byId("none").hidden = !text;
}

const isThere = (source) =>
  source === "mixture"
    ? player.names.includes("mixture")
    : player.names.some((name) => name.startsWith(soundName(source, "", state)));

// The chosen source, or another where this song has no sound of it.
function usable() {
  return [state.source, "a", "b", "true", "mixture"].find(isThere) ?? "mixture";
}

// What the chosen methods need, so that a change between them is heard at once.
function neededSounds() {
  const stems = data.targets.flatMap((stem) => ["true", "a", "b"].map((s) => soundName(s, stem, state)));
  const wanted = new Set(["mixture", ...stems]);
  return player.names.filter((name) => wanted.has(name));
}

function listen() {
  player.setGains(gainsOf(state, data, player.names));
  player.play(neededSounds(), state.loop).catch((error) => {
    say(`This browser cannot play it: ${error.message}`);
    showTransport();
  });
}

// The targets that anything can be heard of, in the order of the digits' keys.
const heardTargets = () =>
  data.targets.filter((stem) => player.names.some((name) => name.endsWith(`/${stem}`)));

function showMixer() {
  if (!player.song) return;
  const labels = { mixture: "Mixture", true: "True stems", a: `A: ${state.a}`, b: `B: ${state.b}` };
  showButtons("sources", SOURCES.map((source) => ({
    key: source, label: labels[source], "data-source": source, "aria-pressed": state.source === source,
    disabled: !isThere(source), onclick: () => hear({ source }),
  })));
  byId("loop").setAttribute("aria-pressed", state.loop);
  const source = state.source === "mixture" ? "true" : state.source;
  showButtons("stems", heardTargets().flatMap((stem) =>
    ["solo", "mute"].map((kind) => ({
      key: `${kind} ${stem}`, label: `${kind} ${stem}`, "aria-pressed": state[kind].includes(stem),
      disabled: !player.names.includes(soundName(source, stem, state)) || (kind === "mute" && !data.stems.includes(stem)),
      onclick: () => toggle(kind, stem),
    })),
  ));
  showTransport();
}

function toggle(kind, stem) {
  const on = state[kind].includes(stem);
  // The mixture's stems are not apart.
  const source = state.source === "mixture" ? ["a", "true"].find(isThere) : state.source;
  hear({ source, [kind]: on ? state[kind].filter((one) => one !== stem) : [...state[kind], stem] });
}

function hear(changes) {
  if (changes.source && !isThere(changes.source)) return;
  change({ ...changes, at: player.now() });
  player.setGains(gainsOf(state, data, player.names));
  showMixer();
}

function showTransport() {
  byId("play").textContent = player.playing ? "Stop" : "Play";
  cancelAnimationFrame(frame);
  if (player.playing) frame = requestAnimationFrame(tick);
}

function tick() {
  const now = player.now();
  shownTime?.(now);
  if (Math.floor(now) !== Math.floor(state.at)) change({ at: now }); // a link leads to about here
  if (player.playing) frame = requestAnimationFrame(tick);
}

// Stops, changes something, and goes on from there if it was playing.
function whileStopped(act) {
  const playing = player.playing;
  player.stop();
  act();
  if (playing) listen();
}

function seek(place) {
  whileStopped(() => {
    const part = partAt(player.parts, place);
    player.place = Math.min(Math.max(place, part.start), part.end - 0.01);
    change({ at: player.place });
    shownTime?.(player.place);
  });
}

function togglePlay() {
  if (!player.playing) return listen();
  player.stop();
  change({ at: player.place });
}

function setLoop(loop) {
  whileStopped(() => {
    change({ loop });
    showMixer();
  });
}

function changeMethod(letter, method) {
  whileStopped(() => {
    change({ [letter]: method, source: letter });
    if (player.song) change({ source: usable() });
    showMixer();
    showFrames();
  });
}

function showFrames() {
  const song = songs.get(data.songs.indexOf(state.song));
  shownTime = null;
  if (!song) return;
  const width = Math.max(240, byId("frames").clientWidth);
  const target = oneTarget();
  const style = (method) => (method === state.a ? "first" : method === state.b ? "second" : "");
  const curves = Object.entries(song.sdr)
    .filter(([, targets]) => targets[target])
    .map(([method, targets]) => ({
      label: method,
      style: style(method),
      points: targets[target].map((value, at) => [at * song.hop_s + song.window_s / 2, value]),
    }))
    .sort((one, other) => one.style.length - other.style.length);
  const yUnit = `SDR of ${target} in dB, a value a frame`;
  const name = `SDR of ${target} over time`;
  const options = { width, height: 220, xRange: [0, song.seconds], xUnit: "seconds", yUnit, name };
  byId("frames").replaceChildren(drawOutline(song, width), lineChart(curves, options));
  byId("legend").replaceChildren(
    html("span", { class: "first" }, `A: ${state.a}`), " ",
    html("span", { class: "second" }, state.b === state.a ? "" : `B: ${state.b}`),
    " other methods are grey.",
  );
}

// The waveform over the chart, with the excerpts that can be heard, and a cursor.
function drawOutline(song, width) {
  const [right, height] = [width - RIGHT, 76];
  const x = (seconds) => LEFT + (seconds / Math.max(song.seconds, 1e-9)) * (right - LEFT);
  const label = "Waveform of the mixture; a click plays from there";
  const drawing = svg("svg", { width, height: song.outline.length ? height : 0, role: "img", "aria-label": label });
  const edge = (side) =>
    song.outline.map((peak, n) => `${x((n / song.outline.length) * song.seconds).toFixed(1)} ${(38 + side * peak * 0.36).toFixed(1)}`);
  drawing.append(svg("polygon", { points: [...edge(-1), ...edge(1).reverse()].join(" "), class: "outline" }));
  for (const [kind, start, end] of player.song ? song.excerpts : []) {
    const part = svg("rect", { x: x(start), y: 0, width: x(end) - x(start), height, class: "part" });
    part.append(svg("title", {}, kind));
    drawing.append(part);
    if (kind !== "whole") drawing.append(text(x((start + end) / 2), 12, kind, { "text-anchor": "middle" }));
  }
  const cursor = svg("line", { y1: 0, y2: height, class: "cursor" });
  drawing.append(cursor);
  cursor.toggleAttribute("hidden", !player.song);
  shownTime = (seconds) => {
    cursor.setAttribute("x1", x(seconds));
    cursor.setAttribute("x2", x(seconds));
    byId("time").textContent = player.song ? `${seconds.toFixed(1)} s` : "";
  };
  shownTime(player.song ? player.now() : 0);
  drawing.addEventListener("click", (event) => {
    if (!player.song) return;
    const place = event.clientX - drawing.getBoundingClientRect().left;
    seek(Math.max(0, ((place - LEFT) / (right - LEFT)) * song.seconds));
  });
  return drawing;
}
