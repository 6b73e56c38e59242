"""Encodings against formulas by hand, the TensorFlow twin, and real music."""

from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from stemforge.features.audio import ffmpeg
from stemforge.features.corpus.sources import MUSDB_STREAMS
from stemforge.features.shards import encoding, encoding_tf
from stemforge.features.shards.encoding import Encoding
from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft import magnitude_stft
from tests.conftest import CC0_MUSDB

ENCODINGS: tuple[Encoding, ...] = ("float32", "float16", "uint8")
FRAMING = Framing(4096, 1024)


def round_trip(magnitudes: np.ndarray, kind: Encoding) -> np.ndarray:
    encoded = encoding.encode(magnitudes, kind)
    segments = np.zeros(len(magnitudes), np.int32)
    return encoding.decode(encoded.values, encoded.scale[None], segments)


def test_uint8_by_hand() -> None:
    # One bin, one channel, maximum 4: steps of sqrt(m / 4) * 255 are 255, 0 and 127.5 -> 128.
    magnitudes = np.array([4.0, 0.0, 1.0], np.float32).reshape(3, 1, 1)
    encoded = encoding.encode(magnitudes, "uint8")
    assert encoded.values.ravel().tolist() == [255, 0, 128]
    assert encoded.scale.tolist() == [[4.0]]
    found = round_trip(magnitudes, "uint8").ravel()
    truth = [4 * (255**2 + 1 / 12) / 255**2, 0, 4 * (128**2 + 1 / 12) / 255**2]
    np.testing.assert_allclose(found, truth, rtol=1e-6)


def test_silence_stays_silence() -> None:
    assert not round_trip(np.zeros((5, 3, 2), np.float32), "uint8").any()


@given(st.integers(0, 2**32 - 1))
def test_uint8_is_within_half_a_step_of_the_root(seed: int) -> None:
    random = np.random.default_rng(seed)
    magnitudes = (random.exponential(size=(16, 4, 2)) ** 3).astype(np.float32)
    scale = magnitudes.max(axis=0)
    found = round_trip(magnitudes, "uint8")
    roots = np.abs(np.sqrt(found / scale) - np.sqrt(magnitudes / scale)) * 255
    assert roots.max() < 0.5 + 0.05  # decoding moves a value by 1 / (24 q) of a step at most


def test_uint8_is_unbiased() -> None:
    # Rayleigh magnitudes, as noise has them: the mean survives to 2e-4 (0.002 dB).
    random = np.random.default_rng(0)
    magnitudes = random.rayleigh(size=(512, 256, 2)).astype(np.float32)
    assert round_trip(magnitudes, "uint8").mean() / magnitudes.mean() == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize("kind", ENCODINGS)
def test_the_tensorflow_twin_agrees(kind: Encoding, random: np.random.Generator) -> None:
    blocks = [random.exponential(size=(8, 5, 2)).astype(np.float32) for _ in range(2)]
    encoded = [encoding.encode(block, kind) for block in blocks]
    values = np.concatenate([e.values[2:6] for e in encoded])
    scales = np.stack([e.scale for e in encoded])
    segments = np.repeat([0, 1], 4).astype(np.int32)
    ours = encoding.decode(values, scales, segments)
    theirs = encoding_tf.decode(
        tf.constant(values[None]), tf.constant(scales[None]), tf.constant(segments[None])
    )
    np.testing.assert_allclose(theirs[0], ours, rtol=1e-5)


def test_phase_is_within_half_a_step() -> None:
    angles = np.linspace(-np.pi, np.pi, 10_001)
    found = encoding.decode_phase(encoding.encode_phase(np.exp(1j * angles).astype(np.complex64)))
    error = np.angle(np.exp(1j * (found - angles)))
    assert np.abs(error).max() <= np.pi / 256 + 1e-6


def real_blocks() -> Iterator[tuple[str, np.ndarray]]:
    """Every source of every real song: float32 [samples, 2]."""
    for path in sorted(CC0_MUSDB.rglob("*.stem.mp4")):
        streams = ffmpeg.probe_streams(path)
        for source, number in MUSDB_STREAMS.items():
            pieces = list(ffmpeg.decode_stream(path, number, streams[number]))
            yield f"{path.name} {source}", np.concatenate(pieces)


@pytest.mark.skipif(not CC0_MUSDB.is_dir(), reason="needs ../shared/data/cc0-musdb")
def test_real_music_equals_tf_signal_and_uint8_keeps_46_db() -> None:
    worst = np.inf
    for name, waveform in real_blocks():
        energy = noise = ours = theirs = 0.0
        for start in range(0, len(waveform) - 4096, 512 * 1024):
            part = waveform[start : start + FRAMING.span(512)]
            magnitudes = magnitude_stft(part, FRAMING, bins=1024)
            if start == 0:
                truth = tf.abs(tf.signal.stft(part.T, 4096, 1024))[..., :1024].numpy()
                np.testing.assert_allclose(magnitudes, np.moveaxis(truth, 0, -1), atol=1e-4)
            decoded = round_trip(magnitudes, "uint8").astype(np.float64)
            energy += np.sum(np.square(magnitudes, dtype=np.float64))
            noise += np.sum(np.square(decoded - magnitudes))
            ours, theirs = ours + decoded.sum(), theirs + magnitudes.sum(dtype=np.float64)
        if energy == 0:
            continue  # a stem that is silent throughout has no ratio
        worst = min(worst, 10 * np.log10(energy / noise))
        assert abs(20 * np.log10(ours / theirs)) < 0.01, name  # no bias
    assert worst > 46
