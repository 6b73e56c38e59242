"use strict";
// The player: all sounds of a song run side by side, and gains choose what is heard, so that a
// change of method or stem is heard at the same place. A sound holds the song's excerpts one after
// the other; places are in seconds of the song.

const LEAD_S = 0.03; // before sounds start together
const FADE_S = 0.01; // time constant of a change of gain

// Starts buffers together in any context, and returns their nodes.
function startSounds(context, buffers, gains, { when, offset, length, loop }) {
  return [...buffers].map(([name, buffer]) => {
    const source = new AudioBufferSourceNode(context, { buffer });
    const gain = new GainNode(context, { gain: gains.get(name) ?? 0 });
    source.connect(gain).connect(context.destination);
    if (loop) Object.assign(source, { loop: true, loopStart: loop[0], loopEnd: loop[1] });
    if (loop) source.start(when, offset);
    else source.start(when, offset, length);
    return { name, source, gain };
  });
}

// Excerpts with their places in the sounds.
function partsOf(excerpts) {
  let offset = 0;
  return excerpts.map(([kind, start, end]) => {
    const part = { kind, start, end, offset };
    offset += end - start;
    return part;
  });
}

// The part that a place is in, or the next one, or the last.
function partAt(parts, place) {
  return parts.find((part) => place < part.end) ?? parts[parts.length - 1];
}

class Player {
  constructor(changed) {
    this.changed = changed; // is called when playing begins or ends
    this.context = null;
    this.nodes = [];
    this.turn = 0; // a play that waits for decoding is void when another turn has come
    this.open(null);
  }

  open(song) {
    this.stop();
    this.song = song;
    this.parts = song ? partsOf(song.excerpts) : [];
    this.buffers = new Map();
    this.place = this.parts[0]?.start ?? 0;
    this.gains = new Map();
  }

  // From the moment that it is asked to play.
  get playing() {
    return Boolean(this.pending || this.nodes.length);
  }

  get names() {
    return Object.keys(this.song?.sounds ?? {});
  }

  // Decodes what is not decoded yet, and plays these sounds from the present place.
  async play(names, loop) {
    this.stop();
    const turn = this.turn;
    this.pending = true;
    this.changed();
    try {
      this.context ??= new AudioContext({ sampleRate: 48000 });
      this.context.resume(); // waits for a gesture: not awaited
      const missing = names.filter((name) => !this.buffers.has(name));
      await Promise.all(missing.map((name) => this.decode(name)));
    } finally {
      if (turn === this.turn) this.pending = false;
    }
    if (turn === this.turn) this.begin(names, loop);
  }

  begin(names, loop) {
    const chosen = new Map(names.map((name) => [name, this.buffers.get(name)]));
    const part = partAt(this.parts, this.place);
    this.place = Math.max(this.place, part.start);
    if (this.place >= part.end) this.place = part.start;
    const offset = part.offset + this.place - part.start;
    const ends = loop ? [part.offset, part.offset + part.end - part.start] : null;
    const when = this.context.currentTime + LEAD_S;
    const length = part.end - this.place;
    this.started = { when, place: this.place, part, loop };
    this.nodes = startSounds(this.context, chosen, this.gains, { when, offset, length, loop: ends });
    this.nodes[0].source.onended = () => this.ended(names);
    this.changed();
  }

  async decode(name) {
    const buffers = this.buffers;
    const bytes = Uint8Array.from(atob(this.song.sounds[name]), (c) => c.charCodeAt(0));
    buffers.set(name, await this.context.decodeAudioData(bytes.buffer));
  }

  // A part has ended by itself.
  ended(names) {
    const next = this.parts[this.parts.indexOf(this.started.part) + 1];
    this.nodes = [];
    this.place = (next ?? this.parts[0]).start;
    if (next) this.begin(names, false);
    else this.changed();
  }

  stop() {
    if (!this.playing) return;
    this.place = this.now();
    this.turn += 1;
    this.pending = false;
    if (this.nodes.length) this.nodes[0].source.onended = null;
    for (const { source } of this.nodes) source.stop();
    this.nodes = [];
    this.changed();
  }

  // Where it is, in seconds of the song.
  now() {
    if (!this.nodes.length) return this.place;
    const { when, place, part, loop } = this.started;
    const run = Math.max(0, this.context.currentTime - when);
    if (!loop) return Math.min(place + run, part.end);
    return part.start + ((place - part.start + run) % (part.end - part.start));
  }

  setGains(gains) {
    this.gains = gains;
    for (const { name, gain } of this.nodes) {
      gain.gain.setTargetAtTime(gains.get(name) ?? 0, this.context.currentTime, FADE_S);
    }
  }
}
