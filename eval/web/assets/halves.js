"use strict";
// TFLite files whose weights came in float16, as eval/web/halves.py stores them.

// All numbers of float16, by their bits.
function floatsOfHalves() {
  return Float32Array.from({ length: 2 ** 16 }, (_, bits) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}

// The file with its weights in float32, at their places: [offset, length in bytes], ascending.
function withFloats(data, weights) {
  const floats = floatsOfHalves();
  const bytes = weights.reduce((sum, [, length]) => sum + length, 0);
  const out = new Uint8Array(data.length + bytes / 2);
  const halves = new DataView(data.buffer, data.byteOffset + data.length - bytes / 2);
  let from = 0; // in the other bytes
  let end = 0; // in the file
  let half = 0;
  for (const [offset, length] of weights) {
    out.set(data.subarray(from, from + offset - end), end);
    from += offset - end;
    end = offset + length;
    const values = new Float32Array(length / 4);
    for (let n = 0; n < values.length; n++, half += 2) values[n] = floats[halves.getUint16(half, true)];
    out.set(new Uint8Array(values.buffer), offset);
  }
  out.set(data.subarray(from, data.length - bytes / 2), end);
  return out;
}
