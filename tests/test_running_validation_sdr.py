"""The SDR of validation songs, against `separate`'s own path and the formula by hand."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemforge.errors import UserError
from stemforge.eval.runtimes.tensorflow import TensorFlowNets
from stemforge.eval.separation.separator import Separator
from stemforge.features.corpus.manifest import Manifest, Track, write_manifest
from stemforge.pipelines.running import validation_sdr
from stemforge.pipelines.running.validation_sdr import Song, ValidationSDR, choose, read_songs
from stemforge.train.model import Model, set_weights, weights_of
from stemforge.train.nets.unet import UNet
from tests.factories import STEMS, make_manifest

NET = UNet(16, 64, 2, 2, "affine", 0.0, "elu", "elu", "sigmoid", "linear")


@pytest.mark.parametrize("stems", [("vocals",), STEMS])
def test_it_is_the_sdr_of_what_separate_writes(
    random: np.random.Generator, stems: tuple[str, ...]
) -> None:
    model = Model(stems, NET, 4096, 1024, 44100, {}, NET.build(stems, seed=1))

    def noise(samples: int) -> np.ndarray:
        return random.normal(0, 0.1, (samples, 2)).astype(np.float32)

    # Of the second song, the drums are silent: only the vocals are measured.
    songs = [
        Song("a", noise(30_000), {stem: noise(30_000) for stem in stems}),
        Song("b", noise(12_345), {"vocals": noise(12_345)}),
    ]
    measured = ValidationSDR(model, songs)
    for scale in (1.0, 3.0):  # the net learns between two measurements
        values = {name: scale * value for name, value in weights_of(model.keras_model).items()}
        set_weights(model.keras_model, values)
        separator = Separator([TensorFlowNets(model.interface, NET, values)])
        means = []
        for song in songs:
            found = separator.separate(song.mixture, sample_rate_hz=44100)
            pairs = [(s.astype(np.float64), found[stem]) for stem, s in song.stems.items()]
            means.append(
                np.mean(
                    [
                        10 * np.log10((np.sum(s**2) + 1e-7) / (np.sum((s - e) ** 2) + 1e-7))
                        for s, e in pairs
                    ]
                )
            )
        assert measured.measure() == pytest.approx(np.mean(means), abs=1e-4)


@pytest.mark.parametrize(
    ("many", "picks"), [(1, [0]), (2, [0, 4]), (3, [0, 2, 4]), (5, [*range(5)]), (9, [*range(5)])]
)
def test_songs_are_spread_over_the_split(many: int, picks: list[int]) -> None:
    tracks = [Track(f"song {n}", "valid", 1, 44100, 1 / 44100, 0.0, "", ()) for n in range(5)]
    assert choose(tracks[::-1], many) == [tracks[pick] for pick in picks]


@pytest.fixture(scope="module")
def manifest(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return make_manifest(tiny_corpus, tmp_path_factory.mktemp("decoded"))


def test_the_middle_of_long_songs_is_read(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "tracks.parquet"
    write_manifest(place, manifest)
    (track,) = manifest.split("valid")
    (whole,) = read_songs(STEMS, 3, place=place)
    monkeypatch.setattr(validation_sdr, "MOST_S", 0.5)
    (part,) = read_songs(["drums"], 3, place=place)
    start = (track.samples - 22_050) // 2
    for source, ours, middle in (
        ("mixture", whole.mixture, part.mixture),
        ("drums", whole.stems["drums"], part.stems["drums"]),
    ):
        true, _ = soundfile.read(manifest.path(track, source), dtype="float32", always_2d=True)
        np.testing.assert_array_equal(ours, true)
        np.testing.assert_array_equal(middle, true[start : start + 22_050])
    assert part.stems.keys() == {"drums"}


def test_each_problem_is_one_line_that_says_what_to_do(manifest: Manifest, tmp_path: Path) -> None:
    place = tmp_path / "tracks.parquet"
    (track,) = manifest.split("valid")
    gone = [
        dataclasses.replace(source, path=f"gone-{source.path}") for source in track.sources
    ]  # fmt: skip
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros((track.samples, 2)), track.sample_rate_hz)
    quiet = [dataclasses.replace(source, path=str(silent)) for source in track.sources]

    def of(*tracks: Track) -> Manifest:
        return dataclasses.replace(manifest, tracks=tracks)

    for found, stem, problem in (
        (None, "vocals", "needs the decoded songs, but there is no .*: run `dvc repro decode`, or"),
        (of(), "vocals", "has no validation songs"),
        (manifest, "piano", "has no piano: run `dvc repro decode`"),
        (dataclasses.replace(manifest, corpus="gs://b"), "vocals", "but stayed in gs://b: decode"),
        (of(dataclasses.replace(track, sources=tuple(gone))), "vocals", "gone-.*wav"),
        (of(dataclasses.replace(track, samples=5)), "vocals", "another length than in data/tracks"),
        (of(dataclasses.replace(track, sources=tuple(quiet))), "vocals", "vocals: silent in the"),
    ):
        if found is not None:
            write_manifest(place, found)
        with pytest.raises(UserError, match=problem) as caught:
            read_songs([stem], 2, place=place)
        assert re.search(
            r"or set train\.sdr_songs=null, which needs train\.select_by=", str(caught.value)
        )
        assert "\n" not in str(caught.value)
