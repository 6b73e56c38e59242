"use strict";
// What the page shows, as a value: read from the URL's fragment and written back, so that a link
// shows and plays what its sender saw and heard.

const ALL = "all"; // stems: the mean over them
const SOURCES = ["mixture", "true", "a", "b"];
const LOWER_IS_BETTER = ["PES"]; // predicted energy where the stem is silent

function defaults(data) {
  const stems = averaged(data);
  return {
    target: stems.length > 1 ? ALL : (stems[0] ?? data.targets[0]),
    metric: data.metrics[0],
    song: "",
    a: data.choices[0] ?? "",
    b: data.choices[1] ?? data.choices[0] ?? "",
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
  const known = {
    target: [ALL, ...data.targets],
    metric: data.metrics,
    song: data.songs,
    a: data.choices,
    b: data.choices,
    source: SOURCES,
  };
  for (const [key, values] of Object.entries(known)) {
    if (values.includes(given.get(key))) state[key] = given.get(key);
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

// The targets that are heard: those that are soloed, else the stems that are not muted. The rest of
// a stem is the sum of the others, which would be heard twice.
function audible(state, data) {
  const solo = data.targets.filter((target) => state.solo.includes(target));
  return solo.length ? solo : data.stems.filter((stem) => !state.mute.includes(stem));
}

// As eval.report.pages names them.
function soundName(source, target, state) {
  if (source === "mixture") return "mixture";
  return source === "true" ? `true/${target}` : `method/${state[source]}/${target}`;
}

// Gain of each sound: 1 for what is heard. `names` are the sounds that there are. A stem that the
// chosen method does not estimate is silent.
function gainsOf(state, data, names) {
  const heard = new Set(
    state.source === "mixture"
      ? ["mixture"]
      : audible(state, data).map((target) => soundName(state.source, target, state)),
  );
  return new Map(names.map((name) => [name, heard.has(name) ? 1 : 0]));
}

// The stems that "all" is the mean of: those that the baseline has.
function averaged(data) {
  const own = data.scores[data.baseline] ?? {};
  return data.stems.filter((stem) => stem in own);
}

// A method's score of a song, or null. Of all stems: their mean, null where one has none.
function scoreOf(data, method, target, metric, number) {
  const targets = target === ALL ? averaged(data) : [target];
  const values = targets.map((name) => data.scores[method]?.[name]?.[metric]?.[number] ?? null);
  if (!values.length || values.includes(null)) return null;
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

// 1 where more is better, else -1.
function signOf(metric) {
  return LOWER_IS_BETTER.includes(metric) ? -1 : 1;
}

function decibels(value) {
  return value === null || value === undefined ? "–" : value.toFixed(2);
}
