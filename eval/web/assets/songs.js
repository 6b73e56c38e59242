"use strict";
// Songs in and out: decoding by the browser, and WAV files of 16 bits.

const WAV_HEADER_BYTES = 44;
// What a page may hold, beside the nets: decoded sound, and the stems as files and as buffers. What
// nets estimate and wait with is less: 4 bytes a sample and net, before there are buffers.
const MOST_BYTES = 1.5e9;
const ANSWER_MS = 10_000; // for a file's duration

// The longest song in minutes: of each sample in stereo, floats take 8 bytes and files 4.
function longestMinutes(stems, rate) {
  return Math.floor(MOST_BYTES / (60 * rate * (8 + stems * (8 + 4))));
}

// Seconds of a file, as its header states them; null where the browser cannot tell.
function durationOf(file) {
  return new Promise((resolve) => {
    const sound = new Audio();
    const url = URL.createObjectURL(file);
    const timer = setTimeout(() => answer(null), ANSWER_MS);
    const answer = (seconds) => {
      clearTimeout(timer);
      URL.revokeObjectURL(url);
      sound.removeAttribute("src");
      resolve(Number.isFinite(seconds) ? seconds : null);
    };
    sound.preload = "metadata";
    sound.onloadedmetadata = () => answer(sound.duration);
    sound.onerror = () => answer(null);
    sound.src = url;
  });
}

// Samples of each channel at the wanted rate. An Error says what cannot be read.
async function decode(file, rate, stems) {
  const most = longestMinutes(stems, rate);
  const check = (seconds) => {
    if (seconds <= 60 * most) return;
    const minutes = Math.ceil(seconds / 60);
    throw new Error(`${file.name}: ${minutes} minutes: at most ${most} fit into a page: cut it first`);
  };
  check((await durationOf(file)) ?? 0);
  if (file.size > MOST_BYTES) {
    throw new Error(`${file.name}: ${Math.round(file.size / 1e6)} MB: too large for a page`);
  }
  const data = await file.arrayBuffer();
  let buffer;
  try {
    buffer = await new OfflineAudioContext(2, 1, rate).decodeAudioData(data);
  } catch (error) {
    if (error.name !== "EncodingError") throw new Error(`${file.name}: ${error.message}`);
    throw new Error(`${file.name}: this browser cannot decode it: try WAV, FLAC, MP3, M4A or Opus`);
  }
  check(buffer.duration);
  if (buffer.length === 0) throw new Error(`${file.name}: no samples in it`);
  if (buffer.numberOfChannels > 2) {
    throw new Error(`${file.name}: ${buffer.numberOfChannels} channels: only mono and stereo`);
  }
  return Array.from({ length: buffer.numberOfChannels }, (_, k) => buffer.getChannelData(k));
}

// A WAV file of interleaved samples of 16 bits, in parts that are Blobs: a browser may keep those
// on the disk.
function wavOf(parts, { rate, channels }) {
  const bytes = parts.reduce((sum, part) => sum + part.size, 0);
  const header = new DataView(new ArrayBuffer(WAV_HEADER_BYTES));
  const text = (place, letters) => [...letters].forEach((c, n) => header.setUint8(place + n, c.charCodeAt(0)));
  const block = 2 * channels;
  text(0, "RIFF");
  header.setUint32(4, WAV_HEADER_BYTES - 8 + bytes, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true); // bytes of the format
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, channels, true);
  header.setUint32(24, rate, true);
  header.setUint32(28, rate * block, true);
  header.setUint16(32, block, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, bytes, true);
  return new Blob([header, ...parts], { type: "audio/wav" });
}

// WAV files of wavOf as the Web Audio API plays them, by stem.
async function buffersOf(files, { rate, channels, samples }) {
  const buffers = new Map();
  for (const [stem, file] of files) {
    const values = new Int16Array(await file.slice(WAV_HEADER_BYTES).arrayBuffer());
    const buffer = new AudioBuffer({ length: samples, numberOfChannels: channels, sampleRate: rate });
    for (let channel = 0; channel < channels; channel++) {
      const out = buffer.getChannelData(channel);
      for (let n = 0; n < samples; n++) out[n] = values[n * channels + channel] / 32768;
    }
    buffers.set(stem, buffer);
  }
  return buffers;
}
