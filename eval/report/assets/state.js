"use strict";
// What the page shows, as a value: read from the URL's fragment and written back, so that a link
// shows and plays what its sender saw and heard.

const ALL = "all"; // stems: the mean over them
const SOURCES = ["mixture", "true", "a", "b"];

function defaults(data) {
  const heard = data.heard.length ? data.heard : data.methods.map((method) => method.name);
  return {
    target: data.targets.length > 1 ? ALL : data.targets[0],
    metric: data.metrics[0],
    song: "",
    a: heard[0] ?? "",
    b: heard[1] ?? heard[0] ?? "",
    source: "a",
    solo: [],
    mute: [],
    at: 0,
    loop: false,
  };
}

// Values that the report does not have, as of a link to another report, become the defaults.
function readState(fragment, data) {
  const state = defaults(data);
  const given = new URLSearchParams(fragment.replace(/^#/, ""));
  const choices = {
    target: [ALL, ...data.targets],
    metric: data.metrics,
    song: data.songs,
    a: data.methods.map((method) => method.name),
    b: data.methods.map((method) => method.name),
    source: SOURCES,
  };
  for (const [key, known] of Object.entries(choices)) {
    if (known.includes(given.get(key))) state[key] = given.get(key);
  }
  for (const key of ["solo", "mute"]) {
    state[key] = given.getAll(key).filter((stem) => data.targets.includes(stem));
  }
  const at = Number(given.get("at"));
  if (Number.isFinite(at) && at > 0) state.at = at;
  state.loop = given.get("loop") === "1";
  return state;
}

function writeState(state, data) {
  const usual = defaults(data);
  const found = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    if (Array.isArray(value)) value.forEach((stem) => found.append(key, stem));
    else if (key === "at") value > 0 && found.set(key, value.toFixed(2));
    else if (key === "loop") value && found.set(key, "1");
    else if (value !== usual[key]) found.set(key, value);
  }
  return `#${found}`;
}

// The stems that are heard: those that are soloed, else those that are not muted.
function audible(state, stems) {
  const solo = stems.filter((stem) => state.solo.includes(stem));
  return solo.length ? solo : stems.filter((stem) => !state.mute.includes(stem));
}

function soundName(source, stem, state) {
  if (source === "mixture") return "mixture";
  return `${source === "true" ? "true" : state[source]}/${stem}`;
}

// Gain of each sound: 1 for what is heard. `names` are the sounds that there are. A stem that the
// chosen method does not estimate is silent.
function gainsOf(state, stems, names) {
  const heard = new Set(
    state.source === "mixture"
      ? ["mixture"]
      : audible(state, stems).map((stem) => soundName(state.source, stem, state)),
  );
  return new Map(names.map((name) => [name, heard.has(name) ? 1 : 0]));
}

// A method's score of a song, or null. For all stems: their mean, null where one has none.
function scoreOf(data, method, target, metric, number) {
  const targets = target === ALL ? stemsOf(data) : [target];
  const values = targets.map((name) => data.scores[method]?.[name]?.[metric]?.[number] ?? null);
  if (!values.length || values.includes(null)) return null;
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

// The targets that the baseline has: other methods may have rests of stems besides.
function stemsOf(data) {
  const rows = data.methods.find((method) => method.name === data.baseline)?.rows ?? {};
  const own = data.targets.filter((target) => target in rows);
  return own.length ? own : data.targets;
}

function decibels(value) {
  return value === null || value === undefined ? "–" : value.toFixed(2);
}
