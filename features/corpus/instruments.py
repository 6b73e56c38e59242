"""The instruments of the starter corpus: additive tones, drums and a singing voice.

Every function is pure: noise comes from the generator that is passed in. Signals are
float64 [samples] at 44.1 kHz, around full scale 1.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.signal
from numpy.random import Generator
from numpy.typing import NDArray

from stemforge.features.audio.formats import SAMPLE_RATE_HZ

Signal = NDArray[np.float64]
# Formants 1 to 4 of sung vowels, Hz, and their bandwidths, after Peterson and Barney's
# averages (1952) with a raised, singer-like fourth.
VOWELS_HZ = {
    "a": (730, 1090, 2440, 3400),
    "e": (530, 1840, 2480, 3500),
    "i": (270, 2290, 3010, 3600),
    "o": (570, 840, 2410, 3300),
    "u": (300, 870, 2240, 3200),
}
FORMANT_BANDWIDTHS_HZ = (90.0, 110.0, 170.0, 250.0)
FORMANT_GAINS = (1.0, 0.6, 0.35, 0.25)


@dataclass(frozen=True)
class Patch:
    """A tone colour for bass, chords and leads.

    Attributes:
        rolloff: the k-th partial has amplitude k ** -rolloff.
        odd: keep odd partials only, like a square wave or a clarinet.
        attack_s: rise time.
        decay_s: time constant of the decay while held.
        detune_cents: distance of the second voice, heard on the other side.
        brightness_hz: partials above this fade at 12 dB an octave.
    """

    rolloff: float
    odd: bool
    attack_s: float
    decay_s: float
    detune_cents: float
    brightness_hz: float


@dataclass(frozen=True)
class Kit:
    """A drum kit.

    Attributes:
        kick_hz: pitch that the bass drum falls to.
        snare_hz: pitch of the snare's skin.
        snare_noise: share of the snare wires' noise.
        hat_hz: lower edge of the hi-hat's noise.
        decay: factor on all decay times.
    """

    kick_hz: float
    snare_hz: float
    snare_noise: float
    hat_hz: float
    decay: float


@dataclass(frozen=True)
class Voice:
    """A singer.

    Attributes:
        tract: factor on all formants; above 1 a shorter vocal tract.
        vibrato_hz: rate of the vibrato.
        vibrato_cents: its depth, to either side.
        breath: level of breath noise against the tone.
        tilt: the glottal source's k-th partial has amplitude k ** -tilt.
    """

    tract: float
    vibrato_hz: float
    vibrato_cents: float
    breath: float
    tilt: float


def midi_hz(note: float) -> float:
    """Frequency of a MIDI note number: 440 Hz at 69, 12 to the octave."""
    return float(440.0 * 2.0 ** ((note - 69.0) / 12.0))


def _times(duration_s: float) -> Signal:
    return np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ


def _envelope(t: Signal, *, attack_s: float, decay_s: float, release_s: float = 0.02) -> Signal:
    rise = np.minimum(1.0, t / max(attack_s, 1e-4))
    fall = np.clip((t[-1] - t) / release_s, 0.0, 1.0)
    envelope: Signal = rise * np.exp(-t / decay_s) * fall
    return envelope


@functools.lru_cache(maxsize=128)  # a song repeats its notes
def tone(patch: Patch, frequency_hz: float, duration_s: float, *, detuned: bool = False) -> Signal:
    """One note of a patch, band-limited by construction (partials below 16 kHz); read-only."""
    t = _times(duration_s)
    frequency_hz *= 2.0 ** (patch.detune_cents * detuned / 1200.0)
    out = np.zeros_like(t)
    for k in range(1, 40, 2 if patch.odd else 1):
        partial_hz = k * frequency_hz
        if partial_hz > 16000.0:
            break
        amplitude = k**-patch.rolloff / (1.0 + (partial_hz / patch.brightness_hz) ** 2)
        out += amplitude * np.sin(2.0 * np.pi * partial_hz * t)
    out *= _envelope(t, attack_s=patch.attack_s, decay_s=patch.decay_s)
    out.flags.writeable = False
    return out


def kick(kit: Kit) -> Signal:
    """Bass drum: a sine that falls to its pitch, with a click."""
    t = _times(0.35)
    phase = 2.0 * np.pi * (kit.kick_hz * t - 4.0 * np.exp(-t / 0.025) * kit.kick_hz * 0.025)
    click = np.exp(-t / 0.002) * 0.3
    return (np.sin(phase) + click) * _envelope(t, attack_s=0.001, decay_s=0.11 * kit.decay)


def snare(kit: Kit, random: Generator) -> Signal:
    """Snare: a skin of two partials under band-passed noise."""
    t = _times(0.3)
    skin = np.sin(2 * np.pi * kit.snare_hz * t) + 0.5 * np.sin(2 * np.pi * 1.6 * kit.snare_hz * t)
    noise = _band(random.standard_normal(len(t)), 900.0, 9000.0)
    skin *= np.exp(-t / (0.05 * kit.decay))
    noise *= np.exp(-t / (0.09 * kit.decay))
    mixed = (1.0 - kit.snare_noise) * skin + kit.snare_noise * noise
    return mixed * _envelope(t, attack_s=0.001, decay_s=1.0)


def hat(kit: Kit, random: Generator, *, is_open: bool) -> Signal:
    """Hi-hat: high-passed noise, short or open."""
    t = _times(0.35 if is_open else 0.09)
    noise = _band(random.standard_normal(len(t)), kit.hat_hz, 16000.0)
    decay_s = (0.12 if is_open else 0.025) * kit.decay
    return 0.6 * noise * _envelope(t, attack_s=0.0005, decay_s=decay_s)


def tom(kit: Kit, step: int) -> Signal:
    """A tom, lower with each step."""
    t = _times(0.3)
    pitch_hz = kit.snare_hz * 0.8**step
    phase = 2.0 * np.pi * (pitch_hz * t - 0.5 * np.exp(-t / 0.05) * pitch_hz * 0.05)
    return np.sin(phase) * _envelope(t, attack_s=0.001, decay_s=0.12 * kit.decay)


def _band(noise: Signal, low_hz: float, high_hz: float) -> Signal:
    sections = scipy.signal.butter(
        2, (low_hz, high_hz), btype="bandpass", fs=SAMPLE_RATE_HZ, output="sos"
    )
    return np.asarray(scipy.signal.sosfilt(sections, noise))


def sing(
    voice: Voice, note: float, vowels: Sequence[str], duration_s: float, random: Generator
) -> Signal:
    """One sung note that glides through vowels: partials under a moving formant envelope.

    Args:
        voice: the singer.
        note: MIDI note number.
        vowels: keys of VOWELS_HZ, spread evenly over the note.
        duration_s: length.
        random: for breath noise and the phase of the vibrato.

    Returns:
        float64 [samples].
    """
    t = _times(duration_s)
    onset = np.clip(t / 0.3, 0.0, 1.0)  # vibrato grows, the pitch scoops up from below
    wobble = np.sin(2 * np.pi * (voice.vibrato_hz * t + random.random()))
    cents = voice.vibrato_cents * onset * wobble - 60.0 * np.exp(-t / 0.04)
    f0_hz = midi_hz(note) * 2.0 ** (cents / 1200.0)
    phase = 2.0 * np.pi * np.cumsum(f0_hz) / SAMPLE_RATE_HZ
    # Formants move slowly: amplitudes on a grid of 10 ms, interpolated.
    grid = np.linspace(0.0, len(t) - 1.0, max(2, round(duration_s * 100)))
    stops = np.linspace(0.0, len(t) - 1.0, len(vowels))
    targets = np.array([VOWELS_HZ[vowel] for vowel in vowels], float) * voice.tract
    formants = np.stack([np.interp(grid, stops, targets[:, k]) for k in range(4)])
    out = np.zeros_like(t)
    for k in range(1, 60):
        if k * midi_hz(note) > 7000.0:
            break
        amplitude = k**-voice.tilt * _formant_gain(k * f0_hz[grid.astype(int)], formants)
        out += np.interp(np.arange(len(t)), grid, amplitude) * np.sin(k * phase)
    breath = _band(random.standard_normal(len(t)), 1500.0, 7000.0)
    out += voice.breath * breath * np.std(out)
    return out * _envelope(t, attack_s=0.04, decay_s=4.0, release_s=0.06)


def _formant_gain(frequency_hz: Signal, formants_hz: Signal) -> Signal:
    gain = np.zeros_like(frequency_hz)
    for centre_hz, bandwidth_hz, level in zip(
        formants_hz, FORMANT_BANDWIDTHS_HZ, FORMANT_GAINS, strict=True
    ):
        gain += level / (1.0 + ((frequency_hz - centre_hz) / bandwidth_hz) ** 2)
    return gain
