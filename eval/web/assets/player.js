"use strict";
// Plays all stems side by side: gains choose what is heard, so that solo and mute keep the place.

const LEAD_S = 0.03; // before the stems start together
const FADE_S = 0.01; // time constant of a change of gain

class StemPlayer {
  // `changed` is called when playing begins or ends.
  constructor(changed) {
    this.changed = changed;
    this.context = null;
    this.nodes = new Map();
    this.turn = null; // of what was asked to play last
    this.open(new Map(), { rate: 1, channels: 1, samples: 0 });
  }

  // WAV files by stem, all of one format and length; they are read when they are first played.
  open(files, format) {
    this.stop();
    this.files = files;
    this.format = format;
    this.buffers = null;
    this.gains = new Map([...files.keys()].map((stem) => [stem, 1]));
    this.place = 0;
  }

  get playing() {
    return this.nodes.size > 0;
  }

  get duration() {
    return this.format.samples / this.format.rate;
  }

  // Where it is, in seconds of the song.
  now() {
    if (!this.playing) return this.place;
    return Math.min(this.duration, this.place + Math.max(0, this.context.currentTime - this.began));
  }

  async play() {
    const mine = (this.turn = {});
    this.context ??= new AudioContext();
    await this.context.resume();
    const buffers = this.buffers ?? (await buffersOf(this.files, this.format));
    if (mine !== this.turn || !buffers.size) return; // stopped, or asked again, meanwhile
    this.buffers = buffers;
    if (this.place >= this.duration) this.place = 0;
    this.began = this.context.currentTime + LEAD_S;
    for (const [stem, buffer] of this.buffers) {
      const source = new AudioBufferSourceNode(this.context, { buffer });
      const gain = new GainNode(this.context, { gain: this.gains.get(stem) });
      source.connect(gain).connect(this.context.destination);
      source.start(this.began, this.place);
      this.nodes.set(stem, { source, gain });
    }
    [...this.nodes.values()][0].source.onended = () => {
      this.stop();
      this.place = this.duration;
      this.changed();
    };
    this.changed();
  }

  stop() {
    this.turn = null;
    this.place = this.nodes.size ? this.now() : (this.place ?? 0);
    for (const { source, gain } of this.nodes.values()) {
      source.onended = null;
      source.stop();
      gain.disconnect();
    }
    const played = this.playing;
    this.nodes.clear();
    if (played) this.changed();
  }

  async seek(place) {
    const wanted = this.turn !== null; // it plays, or is about to
    this.stop();
    this.place = place;
    if (wanted) await this.play();
  }

  setGain(stem, gain) {
    this.gains.set(stem, gain);
    this.nodes.get(stem)?.gain.gain.setTargetAtTime(gain, this.context.currentTime, FADE_S);
  }
}
