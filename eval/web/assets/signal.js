"use strict";
// Framing, STFT, masks and overlap-add around the nets. The same as mobile/java, which the same
// golden vectors check. A song is worked on segment by segment, in buffers of a segment.

const CHANNELS = 2;
const EPSILON = 1e-10;

// FFT of real signals whose length is a power of two, and its inverse: a complex FFT of half the
// length, of which even samples are the real and odd ones the imaginary part.
class RealFft {
  constructor(length) {
    const half = length / 2;
    this.half = half;
    this.cosines = Float64Array.from({ length: half }, (_, k) => Math.cos((2 * Math.PI * k) / length));
    this.sines = Float64Array.from({ length: half }, (_, k) => Math.sin((2 * Math.PI * k) / length));
    this.real = new Float64Array(half);
    this.imaginary = new Float64Array(half);
    this.reversed = new Uint32Array(half);
    const bits = Math.log2(half);
    for (let n = 1; n < half; n++) {
      this.reversed[n] = (this.reversed[n >> 1] >> 1) | ((n & 1) << (bits - 1));
    }
  }

  // Bins 0 to length / 2 of a signal, into two arrays.
  forward(signal, outReal, outImaginary) {
    const { half, real, imaginary, reversed, cosines, sines } = this;
    for (let n = 0; n < half; n++) {
      const place = reversed[n];
      real[place] = signal[2 * n];
      imaginary[place] = signal[2 * n + 1];
    }
    this.transform();
    outReal[0] = real[0] + imaginary[0];
    outImaginary[0] = 0;
    outReal[half] = real[0] - imaginary[0];
    outImaginary[half] = 0;
    for (let k = 1; k < half; k++) {
      const mirror = half - k;
      const evenReal = 0.5 * (real[k] + real[mirror]);
      const evenImaginary = 0.5 * (imaginary[k] - imaginary[mirror]);
      const oddReal = 0.5 * (imaginary[k] + imaginary[mirror]);
      const oddImaginary = 0.5 * (real[mirror] - real[k]);
      outReal[k] = evenReal + cosines[k] * oddReal + sines[k] * oddImaginary;
      outImaginary[k] = evenImaginary + cosines[k] * oddImaginary - sines[k] * oddReal;
    }
  }

  // The real signal whose FFT has these bins 0 to length / 2.
  inverse(inReal, inImaginary, signal) {
    const { half, real, imaginary, reversed, cosines, sines } = this;
    for (let k = 0; k < half; k++) {
      const mirror = half - k;
      const evenReal = 0.5 * (inReal[k] + inReal[mirror]);
      const evenImaginary = 0.5 * (inImaginary[k] - inImaginary[mirror]);
      const differenceReal = 0.5 * (inReal[k] - inReal[mirror]);
      const differenceImaginary = 0.5 * (inImaginary[k] + inImaginary[mirror]);
      const oddReal = cosines[k] * differenceReal - sines[k] * differenceImaginary;
      const oddImaginary = cosines[k] * differenceImaginary + sines[k] * differenceReal;
      const place = reversed[k];
      real[place] = evenReal - oddImaginary;
      imaginary[place] = -(evenImaginary + oddReal); // conjugated: the inverse by the forward FFT
    }
    this.transform();
    for (let n = 0; n < half; n++) {
      signal[2 * n] = real[n] / half;
      signal[2 * n + 1] = -imaginary[n] / half;
    }
  }

  // In place, of values in bit-reversed order: radix 2, decimation in time.
  transform() {
    const { half, real, imaginary, cosines, sines } = this;
    for (let size = 2; size <= half; size *= 2) {
      const middle = size / 2;
      const stride = (2 * half) / size; // of the factors, which are those of the whole length
      for (let start = 0; start < half; start += size) {
        for (let k = 0, turn = 0; k < middle; k++, turn += stride) {
          const low = start + k;
          const high = low + middle;
          const turnedReal = cosines[turn] * real[high] + sines[turn] * imaginary[high];
          const turnedImaginary = cosines[turn] * imaginary[high] - sines[turn] * real[high];
          real[high] = real[low] - turnedReal;
          imaginary[high] = imaginary[low] - turnedImaginary;
          real[low] += turnedReal;
          imaginary[low] += turnedImaginary;
        }
      }
    }
  }
}

// Short-time Fourier transform of one channel with a periodic Hann window, and its inverse. Frames
// start at multiples of the hop; nothing is centred and nothing is padded.
class Stft {
  constructor(length, hop) {
    this.length = length;
    this.hop = hop;
    this.bins = length / 2 + 1;
    this.window = Float64Array.from(
      { length },
      (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / length),
    );
    this.synthesis = 8 / (3 * (length / hop)); // the inverse of what the windows' squares add up to
    this.fft = new RealFft(length);
    this.frame = new Float64Array(length);
  }

  // Samples under that many frames.
  span(frames) {
    return (frames - 1) * this.hop + this.length;
  }

  analyse(samples, start, real, imaginary) {
    for (let n = 0; n < this.length; n++) this.frame[n] = samples[start + n] * this.window[n];
    this.fft.forward(this.frame, real, imaginary);
  }

  // Adds the frame with that spectrum to `out`, from `start` on.
  synthesise(real, imaginary, out, start) {
    this.fft.inverse(real, imaginary, this.frame);
    for (let n = 0; n < this.length; n++) {
      out[start + n] += this.frame[n] * this.window[n] * this.synthesis;
    }
  }
}

// Ratio masks (e_k^2 + eps / K) / (sum_j e_j^2 + eps) of two stems or more; of a single one the
// net's own mask, e / mixture. They replace the estimates, arrays as long as the mixture.
function masksOf(estimates, mixture) {
  const stems = estimates.length;
  if (stems === 1) {
    const [only] = estimates;
    for (let n = 0; n < mixture.length; n++) only[n] = mixture[n] > 0 ? only[n] / mixture[n] : 0;
    return;
  }
  for (let n = 0; n < mixture.length; n++) {
    let total = EPSILON;
    for (const estimate of estimates) total += estimate[n] * estimate[n];
    for (const estimate of estimates) {
      estimate[n] = (estimate[n] * estimate[n] + EPSILON / stems) / total;
    }
  }
}

// Separates a stereo song, segment by segment of as many frames as the nets process at once. One
// window of zeros comes before the song.
class StemSeparator {
  constructor({ stems, frames, bins, length, hop }) {
    this.stft = new Stft(length, hop);
    this.stems = stems;
    this.frames = frames;
    this.bins = bins;
    this.advance = frames * hop;
    const span = this.stft.span(frames);
    const channels = () => Array.from({ length: CHANNELS }, () => new Float32Array(span));
    this.input = channels();
    this.output = Array.from({ length: stems }, channels);
    const spectra = () => new Float32Array(frames * CHANNELS * bins);
    this.real = spectra();
    this.imaginary = spectra();
    this.magnitudes = new Float32Array(frames * bins * CHANNELS);
  }

  // How many segments a song has.
  segments(samples) {
    return Math.ceil((this.stft.length + samples) / this.advance);
  }

  // A segment's magnitudes, Float32Array [frames][bins][2]; `channels` are the whole song's.
  analyse(channels, segment) {
    const span = this.input[0].length;
    const from = segment * this.advance - this.stft.length; // of the song
    this.input.forEach((input, channel) => {
      const song = channels[Math.min(channel, channels.length - 1)];
      input.fill(0);
      input.set(song.subarray(Math.max(0, from), Math.max(0, from + span)), Math.max(0, -from));
    });
    const { stft, frames, bins, real, imaginary, magnitudes } = this;
    const re = new Float64Array(stft.bins);
    const im = new Float64Array(stft.bins);
    for (let t = 0; t < frames; t++) {
      for (let channel = 0; channel < CHANNELS; channel++) {
        stft.analyse(this.input[channel], t * stft.hop, re, im);
        const place = (t * CHANNELS + channel) * bins;
        for (let bin = 0; bin < bins; bin++) {
          real[place + bin] = re[bin];
          imaginary[place + bin] = im[bin];
          magnitudes[(t * bins + bin) * CHANNELS + channel] = Math.sqrt(
            re[bin] * re[bin] + im[bin] * im[bin],
          );
        }
      }
    }
    return magnitudes;
  }

  // The stems' next samples, [stem][channel], of the segment that was analysed last: all segments
  // in order. `estimates` are magnitudes as `analyse` returns them, by stem; they become masks. The
  // next call changes what it returns.
  synthesise(estimates, samples, segment) {
    const { stft, frames, bins, real, imaginary, magnitudes, advance } = this;
    for (const channel of this.output.flat()) {
      channel.copyWithin(0, advance);
      channel.fill(0, segment === 0 ? 0 : channel.length - advance);
    }
    masksOf(estimates, magnitudes);
    const re = new Float64Array(stft.bins); // above the nets' highest bin: silence
    const im = new Float64Array(stft.bins);
    estimates.forEach((mask, stem) => {
      for (let t = 0; t < frames; t++) {
        for (let channel = 0; channel < CHANNELS; channel++) {
          const place = (t * CHANNELS + channel) * bins;
          for (let bin = 0; bin < bins; bin++) {
            const share = mask[(t * bins + bin) * CHANNELS + channel];
            re[bin] = share * real[place + bin];
            im[bin] = share * imaginary[place + bin];
          }
          stft.synthesise(re, im, this.output[stem][channel], t * stft.hop);
        }
      }
    });
    const start = segment * advance;
    const skipped = Math.min(advance, Math.max(0, stft.length - start));
    const end = Math.min(advance, stft.length + samples - start);
    return this.output.map((stem) => stem.map((channel) => channel.subarray(skipped, end)));
  }
}
