"""What the options of separation do to the scores, on real music.

    python -m benchmarks.separation_quality MODELS CORPUS_ROOT

MODELS holds models of vocals and accompaniment, such as `stemforge import-spleeter` makes of
Deezer's 2stems. Of each song of the corpus (MUSDB's stem files), the seconds from 20 to 40 are
separated with each option and scored by museval: medians over frames of 1 s, then over songs.
Also with a post-filter behind the separation, where the environment has noisereduce
(`pip install noisereduce`): its spectral gating of each estimate, stationary or not.
"""

import argparse
import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stemforge.features.ffmpeg import find_ffmpeg

START_S, SECONDS = 20, 20
STEMS = ("vocals", "accompaniment")
OPTIONS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"precision": "bfloat16"},
    "LiteRT float32": {"runtime": "litert"},
    "exponent 1": {"exponent": 1.0},
    "direct masks": {"mask": "direct"},
    "mask extension average": {"mask_extension": "average"},
    "up to 16 kHz": {"max_frequency_hz": 16_000.0},
    "Wiener filter": {"mwf_window_frames": 300},
    "overlap of 128 frames": {"overlap_frames": 128},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, help="of vocals and accompaniment")
    parser.add_argument("corpus", type=Path, help="folder of MUSDB18 stem files")
    arguments = parser.parse_args()
    songs = sorted(arguments.corpus.glob("*/*.stem.mp4"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        export_models(arguments.models, root / "exports")
        for song in songs:
            references = read(song)
            np.savez(root / f"{song.name}.npz", **references)
            mixture = sum(references.values())
            for number, (name, options) in enumerate(OPTIONS.items()):
                print(song.name, name, file=sys.stderr)
                found = separate(arguments.models, root / "exports", mixture, options)
                np.savez(root / f"{song.name} {number}.npz", **found)
        filters = post_filters()
        names = [*OPTIONS, *filters]
        for song in songs:
            plain = dict(np.load(root / f"{song.name} 0.npz"))
            for number, post in enumerate(filters.values(), len(OPTIONS)):
                found = {stem: post(plain[stem]) for stem in STEMS}
                np.savez(root / f"{song.name} {number}.npz", **found)
        jobs = [(root, song.name, number) for song in songs for number in range(len(names))]
        with multiprocessing.Pool() as pool:
            rows = pool.starmap(score, jobs)
    table = pd.DataFrame([row for part in rows for row in part])
    report(table, names)


def read(song: Path) -> dict[str, np.ndarray]:
    find_ffmpeg()
    import stempeg  # which looks for ffmpeg as it loads

    stems, _ = stempeg.read_stems(str(song), start=START_S, duration=SECONDS, dtype=np.float32)
    _, drums, bass, other, vocals = stems
    return {"vocals": vocals, "accompaniment": drums + bass + other}


def export_models(models: Path, folder: Path) -> None:
    import stemforge.pipelines.tensorflow_quietly  # noqa: F401  # isort: skip
    from stemforge.eval import export
    from stemforge.features.models import find_models
    from stemforge.train.unet import load_model

    folder.mkdir()
    for place in find_models(models):
        model = load_model(place)
        path = folder / export.tflite_name(model.name, "float32")
        path.write_bytes(export.to_tflite(model))


def separate(
    models: Path, exports: Path, mixture: np.ndarray, options: dict[str, Any]
) -> dict[str, np.ndarray]:
    from stemforge.eval.litert import find_tflite
    from stemforge.eval.separation import Separator
    from stemforge.features.models import find_models

    litert = options.get("runtime") == "litert"
    folders = find_tflite(exports) if litert else find_models(models)
    separator = Separator.load(folders, **options)
    return separator.separate(np.asarray(mixture, np.float32), sample_rate_hz=44100)


def post_filters() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    try:
        import noisereduce
    except ImportError:
        return {}

    def gate(stationary: bool) -> Callable[[np.ndarray], np.ndarray]:
        return lambda wave: noisereduce.reduce_noise(
            y=wave.T, sr=44100, stationary=stationary, n_fft=2048
        ).T.astype(np.float32)

    return {"spectral gating, stationary": gate(True), "spectral gating, adaptive": gate(False)}


def score(root: Path, song: str, number: int) -> list[dict[str, Any]]:
    from stemforge.eval.scores import score_track

    references = dict(np.load(root / f"{song}.npz"))
    estimates = dict(np.load(root / f"{song} {number}.npz"))
    values, _ = score_track(references, estimates, sample_rate_hz=44100, window_s=1.0, hop_s=1.0)
    return [
        {"song": song, "option": number, "stem": stem}
        | {metric: float(np.nanmedian(frames)) for metric, frames in metrics.items()}
        for stem, metrics in values.items()
    ]


def report(table: pd.DataFrame, names: list[str]) -> None:
    columns = [f"{stem} {metric}" for stem in STEMS for metric in ("SDR", "SIR", "SAR")]
    print(f"| median of {table['song'].nunique()} songs, dB | {' | '.join(columns)} |")
    print(f"| {' | '.join(['---'] * (len(columns) + 1))} |")
    medians = table.groupby(["option", "stem"])[["SDR", "SIR", "SAR"]].median()
    for number, name in enumerate(names):
        values = [medians.loc[(number, s), m] for s in STEMS for m in ("SDR", "SIR", "SAR")]
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |")
    plain = table[table["option"] == 0].set_index(["song", "stem"])["SDR"]
    for number, name in enumerate(names[1:], 1):
        other = table[table["option"] == number].set_index(["song", "stem"])["SDR"]
        worst = (other - plain).abs().max()
        print(f"\n{name}: SDR differs by at most {worst:.3f} dB on a song", end="")
    print()


if __name__ == "__main__":
    main()
