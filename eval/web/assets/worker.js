"use strict";
// Separates in the background: the nets by LiteRT.js, everything around them by signal.js.

importScripts("memory.js", "signal.js", "halves.js");

// Of each model: its file as a Blob, where that has weights in float16, and the stems that it
// estimates.
const nets = [];
let interfaces = null;
let litert = null;

async function load(file) {
  try {
    const answer = await fetch(file);
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
    return await answer.blob();
  } catch (error) {
    throw new Error(`${file}: cannot be loaded: ${error.message}: reload the page`);
  }
}

// Loads LiteRT.js and the files; threads only where the page is isolated.
async function start({ models, interface: given }) {
  litert = await import("./litert/core/dist/index.js");
  const base = new URL("litert/core/wasm/", self.location.href).href;
  const threads = self.crossOriginIsolated === true;
  // Emscripten would look for its files, and for the script of its threads, beside this one.
  self.Module = {
    locateFile: (name) => base + name,
    mainScriptUrlOrBlob: `${base}litert_wasm_threaded_internal.js`,
  };
  await litert.loadLiteRt(base, { threads });
  interfaces = given;
  for (const { file, stems, weights } of models) {
    nets.push({ file: await load(file), weights, stems });
  }
  postMessage({ type: "ready" });
}

async function compile({ file, weights }) {
  const data = await withFloats(file, weights);
  const model = await litert.loadAndCompile(data, { accelerator: "wasm" });
  free(data);
  return model;
}

// Magnitudes of a model's stems, by name.
async function estimate(model, names, magnitudes) {
  const { frames, bins } = interfaces;
  const mixture = new litert.Tensor(magnitudes, [1, frames, bins, CHANNELS]);
  const outputs = await model.run({ mixture });
  mixture.delete();
  const found = new Map();
  for (const name of names) {
    found.set(name, outputs[name].toTypedArray()); // a copy
    outputs[name].delete();
  }
  return found;
}

// A WAV file's samples: interleaved, in 16 bits.
function pcm(channels) {
  const [first] = channels;
  const out = new Int16Array(first.length * channels.length);
  channels.forEach((samples, channel) => {
    for (let n = 0; n < samples.length; n++) {
      const value = Math.round(samples[n] * 32768);
      out[n * channels.length + channel] = Math.max(-32768, Math.min(32767, value));
    }
  });
  return out;
}

// Each net hears the whole song before the next one is loaded: LiteRT's memory is then that of one
// net. What the others estimate waits for the last one, in float16: Blobs stayed in the memory of
// Chromium's page, and one worker for each net did not free its memory either.
async function separate({ channels }) {
  const { stems, frames, bins, frame_length_samples: length, frame_step_samples: hop } = interfaces;
  const separator = new StemSeparator({ stems: stems.length, frames, bins, length, hop });
  const samples = channels[0].length;
  const segments = separator.segments(samples);
  const waiting = Array.from({ length: segments }, () => new Map()); // halves by stem
  for (const [number, net] of nets.entries()) {
    const model = await compile(net);
    for (const [segment, others] of waiting.entries()) {
      const found = await estimate(model, net.stems, separator.analyse(channels, segment));
      if (number < nets.length - 1) {
        for (const [stem, values] of found) others.set(stem, halvesOf(values));
      } else {
        for (const [stem, halves] of others) found.set(stem, floatsOf(halves));
        others.clear();
        give(separator.synthesise(stems.map((stem) => found.get(stem)), samples, segment));
      }
      for (const values of found.values()) free(values);
      postMessage({ type: "progress", share: (number + (segment + 1) / segments) / nets.length });
    }
    model.delete();
  }
  postMessage({ type: "done" });
}

function give(parts) {
  parts.forEach((channels, stem) => {
    const samples = pcm(channels);
    postMessage({ type: "part", stem: interfaces.stems[stem], samples }, [samples.buffer]);
  });
}

const WORK = { start, separate };

self.onmessage = ({ data }) => {
  WORK[data.type](data).catch((error) => {
    postMessage({ type: "failed", text: String(error?.message ?? error) });
  });
};
