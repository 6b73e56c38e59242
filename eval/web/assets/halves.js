"use strict";
// float16: TFLite files whose weights came in it, as eval/web/halves.py stores them, and magnitudes.

// All numbers of float16, by their bits.
const FLOATS = allHalves();

function allHalves() {
  return Float32Array.from({ length: 2 ** 16 }, (_, bits) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}

function floatsOf(halves) {
  const out = new Float32Array(halves.length);
  for (let n = 0; n < out.length; n++) out[n] = FLOATS[halves[n]];
  return out;
}

// The nearest float16 of each number, by its bits; for 0 to 65504, and more becomes that.
function halvesOf(values) {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let n = 0; n < out.length; n++) {
    const b = bits[n];
    // Below 2^-14 all are multiples of 2^-24; above, the exponent's bias is 112 less.
    if (b < 0x38800000) out[n] = Math.round(values[n] * 2 ** 24);
    else out[n] = Math.min(0x7bff, (b - 0x38000000 + 0xfff + ((b >> 13) & 1)) >>> 13);
  }
  return out;
}

// The file, a Blob, with its weights in float32 at their places: [offset, length in bytes],
// ascending. It is read piece by piece.
async function withFloats(file, weights) {
  const bytes = weights.reduce((sum, [, length]) => sum + length, 0);
  const out = new Uint8Array(file.size + bytes / 2);
  const view = new DataView(out.buffer);
  const read = async (from, to) => new Uint8Array(await file.slice(from, to).arrayBuffer());
  let rest = 0; // of the other bytes
  let half = file.size - bytes / 2; // of the weights
  let end = 0; // of what is done
  for (const [offset, length] of weights) {
    out.set(await read(rest, rest + offset - end), end);
    rest += offset - end;
    end = offset + length;
    const halves = new Uint16Array((await read(half, half + length / 2)).buffer);
    for (let n = 0; n < halves.length; n++) view.setFloat32(offset + 4 * n, FLOATS[halves[n]], true);
    half += length / 2;
    free(halves);
  }
  out.set(await read(rest, file.size - bytes / 2), end);
  return out;
}
