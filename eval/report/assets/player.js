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
    this.open(null);
  }

  open(song) {
    this.stop();
    this.song = song;
    this.parts = song ? partsOf(song.excerpts) : [];
    this.buffers = new Map();
    this.place = this.parts[0]?.start ?? 0;
    this.gains = new Map();
    this.loop = false;
  }

  get playing() {
    return Boolean(this.nodes?.length);
  }

  get names() {
    return Object.keys(this.song?.sounds ?? {});
  }

  async play(names) {
    const song = this.song;
    this.context ??= new AudioContext({ sampleRate: 48000 });
    this.context.resume(); // waits for a gesture: not awaited
    await Promise.all(names.filter((name) => !this.buffers.has(name)).map((n) => this.decode(n)));
    if (song !== this.song) return; // another was opened meanwhile
    this.stop();
    const chosen = new Map(names.map((name) => [name, this.buffers.get(name)]));
    const part = partAt(this.parts, this.place);
    this.place = Math.max(this.place, part.start);
    if (this.place >= part.end) this.place = part.start;
    const offset = part.offset + this.place - part.start;
    const loop = this.loop ? [part.offset, part.offset + part.end - part.start] : null;
    const when = this.context.currentTime + LEAD_S;
    const length = part.end - this.place;
    this.started = { when, place: this.place, part };
    this.nodes = startSounds(this.context, chosen, this.gains, { when, offset, length, loop });
    this.nodes[0].source.onended = () => this.ended(names);
    this.changed();
  }

  async decode(name) {
    const bytes = Uint8Array.from(atob(this.song.sounds[name]), (c) => c.charCodeAt(0));
    this.buffers.set(name, await this.context.decodeAudioData(bytes.buffer));
  }

  // A part has ended by itself.
  ended(names) {
    const next = this.parts[this.parts.indexOf(this.started.part) + 1];
    this.place = (next ?? this.parts[0]).start;
    this.nodes = [];
    if (next) this.play(names);
    else this.changed();
  }

  stop() {
    if (!this.playing) return;
    this.place = this.now();
    this.nodes[0].source.onended = null;
    for (const { source } of this.nodes) source.stop();
    this.nodes = [];
    this.changed();
  }

  // Where it is, in seconds of the song.
  now() {
    if (!this.playing) return this.place;
    const { when, place, part } = this.started;
    const run = Math.max(0, this.context.currentTime - when);
    if (!this.loop) return Math.min(place + run, part.end);
    return part.start + ((place - part.start + run) % (part.end - part.start));
  }

  setGains(gains) {
    this.gains = gains;
    for (const { name, gain } of this.nodes ?? []) {
      gain.gain.setTargetAtTime(gains.get(name) ?? 0, this.context.currentTime, FADE_S);
    }
  }
}
