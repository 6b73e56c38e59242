"""Batches of sound: against float64 by hand, and against the stored features."""

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from stemforge.errors import UserError
from stemforge.features.corpus.corpora import find_tracks, hold_out_valid
from stemforge.features.corpus.decoding import decode_track
from stemforge.features.corpus.manifest import Manifest, Track
from stemforge.features.corpus.track_audio import DecodedAudio
from stemforge.features.shards.reading import FeatureSet, Place
from stemforge.train.augmentation import Mixer
from stemforge.train.batch import Batch
from stemforge.train.config import Augmentation
from stemforge.train.dataset import WHOLE, Dataset, Share
from stemforge.train.waveforms import Sound, find_sound
from tests.factories import CONFIG, LIMITS, STEMS, compute

RATE_HZ, SAMPLES = 44100, 60_000
SPAN = 15 * 1024 + 4096  # samples under the 16 frames of a window
ALL = Augmentation((-6.0, 6.0), 0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four songs as folders of 16-bit WAV files, whose mixture is exactly the sum of the stems."""
    root, random = tmp_path_factory.mktemp("exact"), np.random.default_rng(5)
    for number in range(4):
        folder = root / "train" / f"Song {number}"
        folder.mkdir(parents=True)
        vocals, drums = random.integers(-9000, 9000, (2, SAMPLES, 2), np.int16)
        for name, values in (("vocals", vocals), ("drums", drums), ("mixture", vocals + drums)):
            soundfile.write(folder / f"{name}.wav", values, RATE_HZ)
    return root


@pytest.fixture(scope="module")
def manifest(corpus: Path) -> Manifest:
    found = hold_out_valid(find_tracks(str(corpus), stems=STEMS), share=0.3, official=["none"])
    found = [dataclasses.replace(track, is_complete=True) for track in found]
    tracks = [decode_track(t, corpus / "no", root=str(corpus), subtype="PCM_16") for t in found]
    assert not (corpus / "no").exists()  # measured in place
    return Manifest(corpus, STEMS, tuple(track for track in tracks if isinstance(track, Track)))


@pytest.fixture(scope="module")
def stored(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    """Its features: float32, with phases."""
    limits = dataclasses.replace(LIMITS, max_clipped_ratio=1.0)
    config = dataclasses.replace(CONFIG, mixture_phase="int8", thresholds=limits)
    audio = DecodedAudio(str(manifest.audio_root))
    return compute(manifest.tracks, audio, tmp_path_factory.mktemp("stored"), config=config)


@pytest.fixture(scope="module")
def sound(stored: FeatureSet, manifest: Manifest) -> Sound:
    return find_sound(stored, manifest)


def dataset(
    features: FeatureSet,
    sound: Sound | None,
    augmentation: Augmentation | None = None,
    stems: Sequence[str] = STEMS,
) -> Dataset:
    return Dataset(
        features, stems=stems, window_frames=16, batch_size=4, sound=sound,
        augmentation=augmentation,
    )  # fmt: skip


def training(data: Dataset, share: Share = WHOLE, start: int = 0, steps: int = 3) -> list[Batch]:
    return list(
        data.training(
            sampling="windows", seed=1, start_step=start, steps=steps, share=share, phases=True,
            waveforms=True,
        )
    )  # fmt: skip


def arrays(batch: Batch) -> list[NDArray[np.float32]]:
    assert batch.waveforms is not None
    parts = (batch.mixture, *batch.stems.values(), batch.phases, *batch.waveforms.values())
    return [np.asarray(part) for part in parts]


def read_by_hand(corpus: Path, place: Place, stem: str) -> NDArray[np.float64]:
    run, first = place
    start = (run.first_frame + first) * 1024
    path = corpus / "train" / run.track / f"{stem}.wav"
    values, _ = soundfile.read(path, start=start, stop=start + SPAN, dtype="int16")
    scaled: NDArray[np.float64] = values / 2.0**15
    return scaled


def spectrum_by_hand(waveform: NDArray[np.float64]) -> NDArray[np.complex128]:
    """The 64 lowest bins of 16 frames: [frames, bins, channels]."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(4096) / 4096)
    frames = [waveform[k * 1024 : k * 1024 + 4096] * window[:, None] for k in range(16)]
    return np.fft.rfft(np.stack(frames), axis=1)[:, :64]


def assert_close(found: NDArray[np.float32], wanted: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_without_augmentation_sound_gives_what_float32_features_hold(
    stored: FeatureSet, sound: Sound
) -> None:
    ours, theirs = dataset(stored, sound), dataset(stored, None)
    pairs = [
        (
            training(ours),
            theirs.training(sampling="windows", seed=1, start_step=0, steps=3, phases=True),
        ),
        (
            ours.validation(max_windows=3, phases=True),
            theirs.validation(max_windows=3, phases=True),
        ),
    ]
    for found, wanted in pairs:
        for one, other in zip(found, wanted, strict=True):
            assert_close(np.asarray(one.mixture), np.asarray(other.mixture, np.float64))
            for stem in STEMS:
                assert_close(np.asarray(one.stems[stem]), np.asarray(other.stems[stem], np.float64))
            assert one.phases is not None
            turns = np.angle(np.exp(1j * (np.asarray(one.phases) - np.asarray(other.phases))))
            assert np.abs(turns).max() < np.pi / 256 * 1.01  # half a step of int8


def test_augmented_batches_by_hand(corpus: Path, stored: FeatureSet, sound: Sound) -> None:
    data = dataset(stored, sound, ALL)
    reader = stored.reader("train")
    sampler = data._sampler(reader, "train", sampling="windows", seed=1)
    mixer = Mixer(ALL, 1, sampler, reader.runs, STEMS, "vocals")
    batch = training(data, start=2)[0]
    assert batch.waveforms is not None
    assert batch.phases is not None
    remixed = 0
    for number, window in enumerate(sampler.batch(2, 4)):
        takes = mixer.takes(2, number, (reader.runs[window.run], window.start))
        remixed += takes["drums"].place != takes["vocals"].place
        total = np.zeros((SPAN, 2))
        for stem in STEMS:
            change = takes[stem].change
            assert change is not None
            wave = read_by_hand(corpus, takes[stem].place, stem) * change.factor
            wave = wave[:, ::-1] if change.swapped else wave
            total += wave
            assert_close(np.asarray(batch.waveforms[stem])[number], wave)
            assert_close(np.asarray(batch.stems[stem])[number], np.abs(spectrum_by_hand(wave)))
        spectrum = spectrum_by_hand(total)
        assert_close(np.asarray(batch.mixture)[number], np.abs(spectrum))
        turned = np.abs(spectrum) * np.exp(1j * np.asarray(batch.phases, np.float64)[number])
        assert np.abs(turned - spectrum).max() < 1e-5 * np.abs(spectrum).max()
    assert 0 < remixed < 4


def test_one_two_and_four_shares_and_a_late_start_give_the_same_bits(
    stored: FeatureSet, sound: Sound
) -> None:
    data = dataset(stored, sound, ALL)
    whole = [arrays(batch) for batch in training(data)]
    for count in (2, 4):
        parts = [[arrays(b) for b in training(data, Share(n, count))] for n in range(count)]
        for step in range(3):
            joined = map(np.concatenate, zip(*(part[step] for part in parts), strict=True))
            for ours, theirs in zip(joined, whole[step], strict=True):
                np.testing.assert_array_equal(ours, theirs)
    (late,) = training(data, start=2)
    for ours, theirs in zip(arrays(late), whole[2], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_validation_is_never_augmented(stored: FeatureSet, sound: Sound) -> None:
    plain, augmented = (
        next(dataset(stored, sound, how).validation(max_windows=2)) for how in (None, ALL)
    )
    np.testing.assert_array_equal(plain.mixture, augmented.mixture)
    assert plain.phases is None
    assert plain.waveforms is None


def test_one_models_targets_are_transformed_and_all_stems_summed(
    stored: FeatureSet, sound: Sound
) -> None:
    (one,), (both,) = (
        training(dataset(stored, sound, stems=stems), steps=1) for stems in (("drums",), STEMS)
    )
    assert list(one.stems) == ["drums"]
    np.testing.assert_array_equal(one.mixture, both.mixture)
    np.testing.assert_array_equal(one.stems["drums"], both.stems["drums"])


def test_where_stems_are_missing_the_rest_is_a_part_too(stored: FeatureSet, sound: Sound) -> None:
    files = {
        song: {name: files[name] for name in ("mixture", "drums")}
        for song, files in sound.files.items()
    }
    some = Sound(files, ("drums",), False)
    assert len(some.parts) == 2
    (found,), (wanted,) = (
        training(dataset(stored, how, stems=("drums",)), steps=1) for how in (some, sound)
    )
    for ours, theirs in zip(arrays(found), arrays(wanted), strict=True):
        np.testing.assert_array_equal(ours, theirs)  # sums of 16-bit integers are exact
    # The rest is augmented as a stem: it is the mixture minus the drums.
    song = next(iter(files))
    rest, vocals = some.read(song, some.parts[1], 7, 900), sound.read(song, "vocals", 7, 900)
    np.testing.assert_array_equal(rest, vocals)


def test_stored_features_have_no_sound(stored: FeatureSet) -> None:
    with pytest.raises(UserError, match=r"set train\.input=waveforms"):
        training(dataset(stored, None))


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT"])
def test_other_formats_and_mono_are_read_exactly(
    tmp_path: Path, random: np.random.Generator, subtype: str
) -> None:
    values = random.integers(-(2**23), 2**23, (5000, 1)) / 2.0**23
    soundfile.write(tmp_path / "a.wav", values, RATE_HZ, subtype=subtype)
    found = Sound({"s": {"a": tmp_path / "a.wav"}}, ("a",), True).read("s", "a", 1234, 2000)
    np.testing.assert_array_equal(found, np.repeat(values[1234:3234], 2, axis=1))


def refusal(stored: FeatureSet, manifest: Manifest) -> str:
    with pytest.raises(UserError) as error:
        find_sound(stored, manifest)
    return str(error.value)


def test_sound_that_is_not_there_or_another_is_refused(
    stored: FeatureSet, manifest: Manifest, corpus: Path, tmp_path: Path
) -> None:
    remote = dataclasses.replace(manifest, corpus="gs://bucket/corpus")
    assert "the sound is at gs://bucket/corpus: copy" in refusal(stored, remote)
    fewer = dataclasses.replace(manifest, tracks=manifest.tracks[1:])
    assert "was not made of the decoded corpus: see 'Song" in refusal(stored, fewer)
    copy = tmp_path / "copy"
    os.mkdir(copy)
    for path in corpus.rglob("*.wav"):
        (copy / path.relative_to(corpus)).parent.mkdir(parents=True, exist_ok=True)
        (copy / path.relative_to(corpus)).symlink_to(path)
    moved = dataclasses.replace(manifest, audio_root=copy)
    find_sound(stored, moved)
    drums = copy / "train" / "Song 0" / "drums.wav"
    drums.unlink()
    assert re.search(r"Song 0/drums.wav: no such file, .*dvc repro decode", refusal(stored, moved))
    soundfile.write(drums, np.zeros((SAMPLES - 1, 2)), RATE_HZ)
    assert f"{SAMPLES - 1} samples at 44100 Hz, but {SAMPLES} at" in refusal(stored, moved)


def test_a_file_that_shrinks_during_training_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((1000, 2)), RATE_HZ)
    with pytest.raises(UserError, match=r"a\.wav: changed since training began"):
        Sound({"s": {"a": path}}, ("a",), True).read("s", "a", 500, 501)
