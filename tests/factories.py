"""What several tests make: features of a small corpus, and a folder like a checkout."""

import contextlib
import dataclasses
import functools
import operator
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import soundfile
from numpy.typing import NDArray
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from stemforge.features.corpus.corpora import find_tracks, hold_out_valid
from stemforge.features.corpus.decoding import decode_track
from stemforge.features.corpus.manifest import Manifest, Reject, Track
from stemforge.features.corpus.track_audio import DecodedAudio, TrackAudio
from stemforge.features.shards.beam import Progress, WriteFeatures
from stemforge.features.shards.reading import FeatureSet
from stemforge.features.shards.validity import Thresholds
from stemforge.features.shards.workers import launching
from stemforge.features.shards.writing import FeatureConfig
from stemforge.features.signal.framing import Framing
from stemforge.pipelines.commands.main import main
from stemforge.pipelines.console import run_main
from stemforge.pipelines.running.beam import pipeline_options, run_pipeline
from stemforge.pipelines.running.feature_job import compute_features
from stemforge.pipelines.stages import decode
from tests.conftest import RATE_HZ, ROOT

STEMS = ("vocals", "drums")
LIMITS = Thresholds(
    min_duration_s=1.0, max_residual_db=0.0, silence_db=-60.0, max_clipped_ratio=0.05
)
CONFIG = FeatureConfig(
    stems=STEMS,
    framing=Framing(4096, 1024),
    bins=64,
    block_frames=32,
    encoding="float32",
    mixture_phase=None,
    thresholds=LIMITS,
    max_failed_tracks_ratio=0.0,
)


def make_manifest(corpus: Path, out: Path, *, subtype: str = "PCM_16") -> Manifest:
    """Decodes a corpus' vocals and drums."""
    out.mkdir(exist_ok=True)
    found = hold_out_valid(find_tracks(str(corpus), stems=STEMS), share=0.3, official=["none"])
    decoded = [
        decode_track(t, out, root=str(corpus), subtype=subtype)  # type: ignore[arg-type]
        for t in found
    ]
    tracks = tuple(track for track in decoded if isinstance(track, Track))
    return Manifest(out, STEMS, tracks)


def compute(
    tracks: Sequence[Track | Reject],
    audio: TrackAudio,
    root: Path | str,
    *,
    config: FeatureConfig = CONFIG,
    flags: Sequence[str] = (),
) -> FeatureSet:
    """Runs the feature job into a folder."""
    if isinstance(root, Path):
        root.mkdir(parents=True, exist_ok=True)
    pipeline = beam.Pipeline(options=pipeline_options(flags))
    with launching(str(root), decodes=False) as launcher:
        _ = (
            pipeline
            | beam.Create(tracks)
            | WriteFeatures(audio, config, launcher, shards=2, progress=Progress(None))
        )
        run_pipeline(pipeline, watch=lambda counters: None)
    return FeatureSet.open(str(root))


def make_features(corpus: Path, folder: Path, *, bins: int = 64) -> FeatureSet:
    """Features of a corpus' vocals and drums: float32, blocks of 32 frames."""
    manifest = make_manifest(corpus, folder / "wav")
    limits = dataclasses.replace(LIMITS, max_clipped_ratio=1.0)
    config = dataclasses.replace(CONFIG, bins=bins, thresholds=limits)
    audio = DecodedAudio(str(manifest.audio_root))
    return compute(manifest.tracks, audio, folder / "features", config=config)


def copy_checkout(root: Path) -> None:
    """Copies all that `dvc repro` needs of this tree: stages depend on their code."""
    root.mkdir()
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "params.yaml"):
        shutil.copy(ROOT / name, root / name)
    own = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
    for name in ("comparisons", "stemforge", "features", "train", "eval", "pipelines", ".dvc"):
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=own)


def make_project(root: Path, corpus: Path) -> Path:
    """A checkout's params.yaml for nets of a moment, and a corpus decoded by it."""
    root.mkdir()
    shutil.copy(ROOT / "params.yaml", root)
    set_params(
        root,
        corpus__root=str(corpus),
        corpus__stems=list(STEMS),
        features__bins=64,
        features__block_frames=32,
        features__mixture_phase="int8",
        features__shards=4,  # by size, such short songs would share one
        models=list(STEMS),
        train__net__frames=16,
        train__net__width=2,
        train__net__depth=2,
        train__steps=2,
        train__validation_windows=2,
    )
    with contextlib.chdir(root):
        assert run_main(decode.main) == 0
    return root


def compute_project(root: Path) -> Path:
    """The project's features."""
    with contextlib.chdir(root):
        assert run_main(compute_features) == 0
    return root


def untrained(original: Path, root: Path) -> Path:
    """A project with another's parameters and features, which it shares."""
    root.mkdir()
    shutil.copy(original / "params.yaml", root)
    (root / "data").mkdir()
    (root / "data" / "features").symlink_to(original / "data" / "features")
    return root


def set_params(project: Path, **values: object) -> None:
    """Changes values of params.yaml, named section__key or section__section__key."""
    yaml = YAML()
    path = project / "params.yaml"
    params = yaml.load(path.read_text(encoding="utf-8"))
    for name, value in values.items():
        *sections, key = name.split("__")
        section = functools.reduce(operator.getitem, sections, params)
        if isinstance(value, list):
            value = CommentedSeq(value)
            value.fa.set_flow_style()  # a block would clash with the line's comment
        section[key] = value
    yaml.dump(params, path)


# Songs of a report: names that are HTML, and one that is played whole.
REPORT_SONGS = ('Ä <b>& "Ö" - \'<script>', "Short")


def write_scored_songs(root: Path) -> None:
    """A corpus of two songs of two stems, estimates of two methods, and their scores.

    Args:
        root: folder for corpus/, first/, second/ and scores/; the methods' names are first and
            second.
    """
    for number, song in enumerate(REPORT_SONGS):
        random = np.random.default_rng(number)
        samples = (2 if song == "Short" else 6) * RATE_HZ
        seconds = np.arange(samples) / RATE_HZ
        # Tones that swell differently, so that frames and stems can be told apart.
        tones = {"vocals": 440.0, "drums": 110.0}
        stems = {
            stem: np.stack([np.sin(2 * np.pi * hz * seconds * k) for k in (1.0, 1.5)], axis=1)
            * (0.1 + 0.1 * np.sin(seconds + hz)[:, None])
            for stem, hz in tones.items()
        }
        folder = root / "corpus" / "test" / song
        write_wavs(folder, {**stems, "mixture": stems["vocals"] + stems["drums"]})
        for method, noise in (("first", 0.03), ("second", 0.01)):
            noisy = {stem: w + random.normal(0, noise, w.shape) for stem, w in stems.items()}
            write_wavs(root / method / song, noisy)
    for method in ("second", "first"):
        arguments = ["score", root / method, "--corpus", root / "corpus", "--name", method]
        arguments += ["--output", root / "scores", "--stems", "vocals,drums"]
        assert main([str(argument) for argument in arguments]) == 0


def write_wavs(folder: Path, waveforms: Mapping[str, NDArray[np.float64]]) -> None:
    """A float WAV file for each."""
    folder.mkdir(parents=True)
    for name, waveform in waveforms.items():
        soundfile.write(folder / f"{name}.wav", waveform, RATE_HZ, subtype="FLOAT")
