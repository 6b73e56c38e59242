"use strict";
// The page: a song comes in, a worker separates it, and what comes out is played and saved.

const $ = (id) => document.getElementById(id);
const { interface: nets } = MODELS;
const player = new StemPlayer(() => showTransport());
let worker = null; // that separates now
let song = null; // its name, channels and, until it is finished, the stems' parts
let turn = 0; // of songs: what a song before the last one brings is void
let timer = 0;

function show(element, visible) {
  element.hidden = !visible;
}

function say(text) {
  $("said").textContent = text;
}

function sayUnplayable(error) {
  say(`The stems cannot be played: ${error.message}: save them instead`);
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function describe() {
  const list = new Intl.ListFormat("en").format(nets.stems);
  $("what").textContent = `Into ${list}, on this device: the song is sent nowhere.`;
  if (location.protocol === "file:") {
    say("Open this page from a server, such as `python3 -m http.server` in its folder.");
    $("file").disabled = true;
  }
}

async function open(file) {
  cancel();
  forget();
  say("");
  $("title").textContent = file.name;
  $("bar").removeAttribute("value");
  $("state").textContent = "Decoding";
  show($("work"), true);
  const mine = turn;
  let channels;
  try {
    channels = await decode(file, nets.sample_rate_hz, nets.stems.length);
  } catch (error) {
    if (mine === turn) fail(error.message);
    return;
  }
  if (mine !== turn) return;
  const parts = new Map(nets.stems.map((stem) => [stem, []]));
  song = { name: file.name.replace(/\.[^.]+$/, ""), samples: channels[0].length, channels: channels.length, parts };
  start(channels);
}

function start(channels) {
  const made = new Worker("worker.js");
  worker = made;
  const began = performance.now();
  $("state").textContent = "Loading the nets";
  const answers = {
    ready: () => made.postMessage({ type: "separate", channels }, channels.map((c) => c.buffer)),
    part: ({ stem, samples }) => {
      song.parts.get(stem).push(new Blob([asWished(samples)]));
      free(samples);
    },
    progress: ({ share }) => showProgress(share, began),
    done: finish,
    failed: ({ text }) => fail(text),
  };
  made.onmessage = ({ data }) => {
    if (made === worker) answers[data.type](data);
  };
  made.onerror = (event) => {
    if (made === worker) fail(event.message || "The worker ended: reload the page");
  };
  made.postMessage({ type: "start", ...MODELS });
}

// A mono song's stems are mono: the mean of both channels, which are equal but for rounding.
function asWished(samples) {
  if (song.channels === 2) return samples;
  return Int16Array.from({ length: samples.length / 2 }, (_, n) => (samples[2 * n] + samples[2 * n + 1]) / 2);
}

function showProgress(share, began) {
  $("bar").value = share;
  const left = ((performance.now() - began) / 1000 / share) * (1 - share);
  $("state").textContent = `${Math.round(100 * share)} %, ${clock(Math.ceil(left))} left`;
}

// Frees the stems of the song before.
function forget() {
  player.open(new Map(), { rate: 1, channels: 1, samples: 0 });
  for (const link of $("stems").querySelectorAll("a")) URL.revokeObjectURL(link.href);
  $("stems").replaceChildren();
  show($("listen"), false);
}

function cancel() {
  turn++;
  worker?.terminate();
  worker = null;
  song = null;
  show($("work"), false);
}

function fail(text) {
  cancel();
  say(text);
}

function finish() {
  worker.terminate(); // and with it the nets' memory
  worker = null;
  show($("work"), false);
  const { samples, channels } = song;
  const format = { rate: nets.sample_rate_hz, channels, samples };
  const files = new Map([...song.parts].map(([stem, parts]) => [stem, wavOf(parts, format)]));
  song.parts.clear();
  player.open(files, format);
  $("stems").replaceChildren(...[...files].map(([stem, file]) => row(stem, file)));
  $("place").max = player.duration;
  show($("listen"), true);
  showTransport();
}

function button(text, pressed) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.setAttribute("aria-pressed", String(pressed));
  return made;
}

function row(stem, file) {
  const item = document.createElement("li");
  item.dataset.stem = stem;
  const name = document.createElement("span");
  name.textContent = stem;
  const [solo, mute] = ["Solo", "Mute"].map((text) => {
    const made = button(text, false);
    made.setAttribute("aria-label", `${text} ${stem}`);
    made.dataset.what = text.toLowerCase();
    made.onclick = () => {
      made.setAttribute("aria-pressed", String(made.getAttribute("aria-pressed") !== "true"));
      mix();
    };
    return made;
  });
  const save = document.createElement("a");
  save.href = URL.createObjectURL(file);
  save.download = `${song.name} - ${stem}.wav`;
  save.textContent = `Save (${(file.size / 1e6).toFixed(0)} MB)`;
  item.append(name, solo, mute, save);
  return item;
}

// Where any stem is solo, only those are heard; a muted one never is.
function mix() {
  const rows = [...$("stems").children];
  const pressed = (item, what) => item.querySelector(`[data-what=${what}]`).getAttribute("aria-pressed") === "true";
  const solos = rows.some((item) => pressed(item, "solo"));
  for (const item of rows) {
    const heard = !pressed(item, "mute") && (!solos || pressed(item, "solo"));
    player.setGain(item.dataset.stem, heard ? 1 : 0);
  }
}

function showTransport() {
  cancelAnimationFrame(timer);
  $("play").textContent = player.playing ? "Pause" : "Play";
  $("play").setAttribute("aria-pressed", String(player.playing));
  $("place").value = player.now();
  $("time").textContent = `${clock(player.now())} / ${clock(player.duration)}`;
  if (player.playing) timer = requestAnimationFrame(showTransport);
}

$("file").onchange = ({ target }) => {
  if (target.files.length) open(target.files[0]);
  target.value = ""; // so that the same song can be chosen again
};
$("cancel").onclick = cancel;
$("play").onclick = () => {
  if (player.playing) player.stop();
  else player.play().catch(sayUnplayable);
};
$("place").oninput = ({ target }) => player.seek(Number(target.value)).catch(sayUnplayable);
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file && !$("file").disabled) open(file);
});
describe();
