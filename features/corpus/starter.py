"""The starter corpus: a smoke corpus of short generated songs, the same for a seed.

Each song has a drum kit, a bass line, chords with a lead, and a singing voice. Songs for
the test split take their key, tempo and patches from lists that training never draws from.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stemforge.features.audio.formats import SAMPLE_RATE_HZ
from stemforge.features.corpus import instruments
from stemforge.features.corpus.instruments import Kit, Patch, Voice
from stemforge.features.corpus.sources import MIXTURE, MUSDB_STREAMS
from stemforge.features.signal.stft import Waveform

Choice = TypeVar("Choice")
STREAMS = tuple(name for name in MUSDB_STREAMS if name != MIXTURE)
PEAK = 0.9  # of the loudest sample in the mixture
# rms of each stem before the mix is normalised, dB, and how far a song may depart.
LEVELS_DB = {"drums": -18.0, "bass": -20.0, "other": -21.0, "vocals": -18.0}
LEVEL_SPREAD_DB = 2.0


@dataclass(frozen=True)
class Palette:
    """What the songs of one split are composed from."""

    keys: tuple[int, ...]
    tempi_bpm: tuple[int, ...]
    kits: tuple[Kit, ...]
    basses: tuple[Patch, ...]
    chords: tuple[Patch, ...]
    leads: tuple[Patch, ...]
    voices: tuple[Voice, ...]


TRAIN = Palette(
    keys=(0, 2, 3, 5, 7, 9, 10),
    tempi_bpm=(84, 92, 100, 108, 116, 124, 132),
    kits=(
        Kit(48, 180, 0.55, 6500, 1.0),
        Kit(55, 210, 0.70, 7500, 0.8),
        Kit(43, 165, 0.60, 5500, 1.3),
        Kit(60, 240, 0.45, 8000, 0.9),
    ),
    basses=(
        Patch(1.0, False, 0.005, 0.6, 0, 600),
        Patch(1.4, True, 0.010, 1.2, 0, 900),
        Patch(2.0, False, 0.015, 2.0, 0, 500),
        Patch(0.8, False, 0.004, 0.4, 0, 800),
    ),
    chords=(
        Patch(1.2, False, 0.02, 1.5, 8, 2500),
        Patch(1.6, True, 0.08, 3.0, 12, 1800),
        Patch(0.9, False, 0.005, 0.5, 5, 3500),
        Patch(2.2, False, 0.003, 0.8, 3, 4000),
    ),
    leads=(
        Patch(0.9, True, 0.01, 1.0, 6, 3000),
        Patch(1.3, False, 0.03, 1.5, 10, 4000),
        Patch(1.8, False, 0.004, 0.5, 4, 5000),
    ),
    voices=(
        Voice(1.00, 5.2, 30, 0.04, 0.9),
        Voice(1.15, 5.8, 40, 0.06, 1.0),
        Voice(0.90, 4.8, 25, 0.03, 0.8),
        Voice(1.08, 6.1, 35, 0.08, 1.1),
    ),
)
HELD_OUT = Palette(
    keys=(1, 4, 6, 8, 11),
    tempi_bpm=(88, 104, 120),
    kits=(Kit(51, 195, 0.62, 7000, 1.1), Kit(46, 225, 0.50, 6000, 0.85)),
    basses=(Patch(1.2, False, 0.008, 0.9, 0, 700), Patch(1.7, True, 0.005, 0.7, 0, 650)),
    chords=(Patch(1.4, False, 0.04, 2.0, 10, 2200), Patch(1.1, True, 0.006, 0.7, 6, 3000)),
    leads=(Patch(1.1, False, 0.015, 1.2, 7, 3500), Patch(1.5, True, 0.006, 0.7, 5, 4500)),
    voices=(Voice(1.05, 5.5, 33, 0.05, 0.95), Voice(0.95, 5.0, 28, 0.07, 1.05)),
)

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
# Degrees of the scale, one chord a bar.
PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 3), (0, 2, 3, 4))
BEATS_PER_BAR = 4


class Score:
    """A mono or stereo stem under construction, with a clock in beats."""

    def __init__(self, duration_s: float, tempo_bpm: float) -> None:
        self.waveform = np.zeros((round(duration_s * SAMPLE_RATE_HZ), 2))
        self.beat_s = 60.0 / tempo_bpm
        self.beats = duration_s / self.beat_s

    def add(
        self, signal: instruments.Signal, beat: float, *, gain: float = 1.0, pan: float = 0.0
    ) -> None:
        """Adds a signal at a beat with constant-power panning, -1 left to 1 right."""
        start = round(beat * self.beat_s * SAMPLE_RATE_HZ)
        end = min(start + len(signal), len(self.waveform))
        angle = (pan + 1.0) * np.pi / 4.0
        sides = gain * np.array([np.cos(angle), np.sin(angle)])
        self.waveform[start:end] += signal[: max(0, end - start), None] * sides


def generate_song(random: Generator, palette: Palette, *, duration_s: float) -> dict[str, Waveform]:
    """Composes and plays one song.

    Args:
        random: generator of all random choices.
        palette: keys, tempi and patches to draw from.
        duration_s: length.

    Returns:
        "mixture" (the sum of the stems, peak 0.9) and each of STREAMS:
        float32 [samples, 2] at 44.1 kHz.
    """
    tempo_bpm = float(random.choice(palette.tempi_bpm))
    scale = MAJOR if random.random() < 0.5 else MINOR
    chords = PROGRESSIONS[random.integers(len(PROGRESSIONS))]
    harmony = Harmony(int(random.choice(palette.keys)), scale, chords)
    scores = {stem: Score(duration_s, tempo_bpm) for stem in STREAMS}
    _play_drums(scores["drums"], random, _pick(random, palette.kits))
    _play_bass(scores["bass"], random, _pick(random, palette.basses), harmony)
    _play_chords(scores["other"], random, _pick(random, palette.chords), harmony)
    _play_lead(scores["other"], random, _pick(random, palette.leads), harmony)
    _sing(scores["vocals"], random, _pick(random, palette.voices), harmony)
    return _mix({stem: score.waveform for stem, score in scores.items()}, random)


def _pick(random: Generator, choices: tuple[Choice, ...]) -> Choice:
    return choices[random.integers(len(choices))]


@dataclass(frozen=True)
class Harmony:
    """Key and chords of a song.

    Attributes:
        key: semitones above C.
        scale: semitones of the seven degrees.
        chords: degree of the root, bar by bar, repeated.
    """

    key: int
    scale: tuple[int, ...]
    chords: tuple[int, ...]

    def note(self, degree: int, octave: int) -> int:
        """MIDI note of a degree of the scale; degrees may leave 0..6."""
        turns, step = divmod(degree, len(self.scale))
        return 12 * (octave + 1 + turns) + self.key + self.scale[step]

    def root(self, bar: int) -> int:
        """Degree of the chord that sounds in a bar."""
        return self.chords[bar % len(self.chords)]


def _bars(score: Score) -> range:
    return range(int(np.ceil(score.beats / BEATS_PER_BAR)))


def _play_drums(score: Score, random: Generator, kit: Kit) -> None:
    kicks = (0.0, 2.0, *random.choice([1.5, 2.5, 3.5], size=2, replace=False))
    swing = float(random.choice([0.0, 0.08]))
    hats = 2 if random.random() < 0.7 else 4
    hat_pan = float(random.uniform(-0.4, 0.4))
    for bar in _bars(score):
        start = bar * BEATS_PER_BAR
        fill = bar % 4 == 3
        for beat in kicks:
            score.add(instruments.kick(kit), start + beat, gain=random.uniform(0.85, 1.0))
        for beat in (1.0,) if fill else (1.0, 3.0):
            score.add(instruments.snare(kit, random), start + beat, gain=0.8)
        for step in range(BEATS_PER_BAR * hats):
            late = swing if step % 2 else 0.0
            hit = instruments.hat(kit, random, is_open=step == hats * 2 - 1)
            gain = random.uniform(0.25, 0.45) * (1.0 if step % hats == 0 else 0.7)
            score.add(hit, start + step / hats + late, gain=gain, pan=hat_pan)
        for step in range(4 if fill else 0):
            hit = instruments.tom(kit, step)
            score.add(hit, start + 3.0 + step / 4, gain=0.7, pan=0.6 - 0.4 * step)


def _play_bass(score: Score, random: Generator, patch: Patch, harmony: Harmony) -> None:
    pattern = [
        ((0.0, 1.5), (1.5, 0.5), (2.0, 1.0), (3.0, 1.0)),
        tuple((step / 2, 0.5) for step in range(8)),
        ((0.0, 2.0), (2.5, 0.5), (3.0, 1.0)),
    ][random.integers(3)]
    for bar in _bars(score):
        for beat, beats in pattern:
            degree = harmony.root(bar) + (4 if beat > 2.0 and random.random() < 0.25 else 0)
            hz = instruments.midi_hz(harmony.note(degree, 1))
            signal = instruments.tone(patch, hz, 0.95 * beats * score.beat_s)
            score.add(signal, bar * BEATS_PER_BAR + beat, gain=random.uniform(0.8, 1.0))


def _play_chords(score: Score, random: Generator, patch: Patch, harmony: Harmony) -> None:
    rhythm = [((0.0, 4.0),), ((0.0, 1.5), (1.5, 2.5)), tuple((b + 0.5, 0.4) for b in range(4))]
    hits = rhythm[random.integers(len(rhythm))]
    for bar in _bars(score):
        for beat, beats in hits:
            for degree in (0, 2, 4):
                hz = instruments.midi_hz(harmony.note(harmony.root(bar) + degree, 4))
                for side in (-0.7, 0.7):
                    duration_s = beats * score.beat_s
                    signal = instruments.tone(patch, hz, duration_s, detuned=side > 0)
                    score.add(signal, bar * BEATS_PER_BAR + beat, gain=0.4, pan=side)


def _play_lead(score: Score, random: Generator, patch: Patch, harmony: Harmony) -> None:
    pan = float(random.uniform(-0.5, 0.5))
    degree = 7
    for bar in _bars(score):
        if bar % 4 in (1, 3):  # answers the singer, who rests there
            for step in range(4):
                degree = int(np.clip(degree + random.integers(-2, 3), 4, 14))
                hz = instruments.midi_hz(harmony.note(degree, 4))
                signal = instruments.tone(patch, hz, 0.9 * score.beat_s)
                score.add(signal, bar * BEATS_PER_BAR + step, gain=0.6, pan=pan)


def _sing(score: Score, random: Generator, voice: Voice, harmony: Harmony) -> None:
    octave = 3 if voice.tract < 1.0 else 4
    rhythms = ((1.0, 1.0, 2.0), (0.5, 0.5, 1.0, 2.0), (1.5, 0.5, 1.0, 1.0), (2.0, 2.0))
    degree = int(random.integers(0, 5))
    for bar in _bars(score):
        if bar % 4 == 3:
            continue  # a breath at the end of each phrase
        beat = float(bar * BEATS_PER_BAR)
        for beats in rhythms[random.integers(len(rhythms))]:
            degree = int(np.clip(degree + random.integers(-2, 3), -2, 7))
            vowels = list(random.choice(list(instruments.VOWELS_HZ), size=2))
            duration_s = 0.92 * beats * score.beat_s
            note = harmony.note(degree, octave)
            score.add(instruments.sing(voice, note, vowels, duration_s, random), beat)
            beat += beats


def _mix(stems: dict[str, NDArray[np.float64]], random: Generator) -> dict[str, Waveform]:
    levelled = {}
    for name, waveform in stems.items():
        level_db = LEVELS_DB[name] + random.uniform(-LEVEL_SPREAD_DB, LEVEL_SPREAD_DB)
        rms = np.sqrt(np.mean(np.square(waveform)))
        levelled[name] = waveform * (10.0 ** (level_db / 20.0) / rms)
    mixture = np.sum(list(levelled.values()), axis=0)
    gain = PEAK / np.max(np.abs(mixture))
    sources = {MIXTURE: mixture, **levelled}
    return {name: (gain * waveform).astype(np.float32) for name, waveform in sources.items()}
