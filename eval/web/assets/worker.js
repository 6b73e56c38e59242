"use strict";
// Separates in the background: the nets by LiteRT.js, everything around them by signal.js.

importScripts("signal.js", "halves.js");

const nets = []; // of each model: the compiled file and the stems that it estimates
const estimates = new Map(); // magnitudes by stem
let interfaces = null;
let litert = null;

// Gives an array's memory back now; the collector would come too late for a phone.
function free(array) {
  array.buffer.transfer?.(0);
}

async function load(file) {
  try {
    const answer = await fetch(file);
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
    return new Uint8Array(await answer.arrayBuffer());
  } catch (error) {
    throw new Error(`${file}: cannot be loaded: ${error.message}: reload the page`);
  }
}

// Loads LiteRT.js and the models; threads only where the page is isolated.
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
    const halves = await load(file);
    const data = withFloats(halves, weights);
    free(halves);
    nets.push({ model: await litert.loadAndCompile(data, { accelerator: "wasm" }), stems });
    free(data);
  }
  postMessage({ type: "ready" });
}

// Magnitudes of all stems, in the interface's order.
async function estimate(magnitudes) {
  const { frames, bins, stems } = interfaces;
  for (const { model, stems: names } of nets) {
    const mixture = new litert.Tensor(magnitudes, [1, frames, bins, CHANNELS]);
    const outputs = await model.run({ mixture });
    mixture.delete();
    for (const name of names) {
      const found = outputs[name].toTypedArray();
      if (!estimates.has(name)) estimates.set(name, new Float32Array(found.length));
      estimates.get(name).set(found);
      outputs[name].delete();
    }
  }
  return stems.map((name) => estimates.get(name));
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

async function separate({ channels }) {
  const { stems, frames, bins, frame_length_samples: length, frame_step_samples: hop } = interfaces;
  const separator = new StemSeparator(estimate, { stems: stems.length, frames, bins, length, hop });
  const take = (stem, parts) => {
    const samples = pcm(parts);
    postMessage({ type: "part", stem: stems[stem], samples }, [samples.buffer]);
  };
  await separator.separate(channels, take, (done) => postMessage({ type: "progress", done }));
  postMessage({ type: "done" });
}

const WORK = { start, separate };

self.onmessage = ({ data }) => {
  WORK[data.type](data).catch((error) => {
    postMessage({ type: "failed", text: String(error?.message ?? error) });
  });
};
