"""What the options of separation do to the scores, on real music.

    python -m benchmarks.separation_quality MODELS CORPUS_ROOT

MODELS holds models of vocals and accompaniment, such as `stemforge import-spleeter` makes of
Deezer's 2stems. Of each song of the corpus (MUSDB's stem files), the seconds from 20 to 40 are
separated with each option and scored as museval does: medians over frames of 1 s, then over songs.
Where the environment has noisereduce (`pip install noisereduce`), also with its spectral gating
of each estimate after the separation, stationary or not.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import common

PLAIN = "float32"
METRICS = ("SDR", "SIR", "SAR")
OPTIONS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "bfloat16": {"precision": "bfloat16"},
    "LiteRT float32": {"runtime": "litert"},
    "exponent 1": {"exponent": 1.0},
    "direct masks": {"mask": "direct"},
    "mask extension average": {"mask_extension": "average"},
    "up to 16 kHz": {"max_frequency_hz": 16_000.0},
    "Wiener filter": {"mwf_window_frames": 300},
    "overlap of 128 frames": {"overlap_frames": 128},
}


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    parser.add_argument("models", type=Path, help="of vocals and accompaniment")
    common.add_corpus(parser)
    parser.add_argument("--start", type=float, default=20.0, help="of each song, s (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of it (%(default)s)")
    arguments = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        exports = Path(folder)
        export_models(arguments.models, exports)
        for song in sorted(arguments.corpus.glob("*/*.stem.mp4")):
            references = common.vocals_and_rest(song, arguments.start, arguments.seconds)
            mixture = np.sum([*references.values()], axis=0)
            for name, estimates in variants(arguments.models, exports, mixture):
                print(song.name, name, file=sys.stderr)
                rows += [
                    {"song": song.name, "option": name, "stem": stem} | values
                    for stem, values in common.medians(
                        song.name, references, estimates, METRICS
                    ).items()
                ]
    report(pd.DataFrame(rows))


def variants(
    models: Path, exports: Path, mixture: np.ndarray
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Estimates by each option, and by post-filters of what comes without any."""
    for name, options in OPTIONS.items():
        found = separate(models, exports, mixture, options)
        if name == PLAIN:
            plain = found
        yield name, found
    for name, post in post_filters().items():
        yield name, {stem: post(estimate) for stem, estimate in plain.items()}


def export_models(models: Path, folder: Path) -> None:
    from stemforge import tensorflow

    tensorflow.start()
    from stemforge.eval.exports import files as export
    from stemforge.train.model import load_model
    from stemforge.train.model_files import find_model_folders, tflite_name

    for place in find_model_folders(models):
        model = load_model(place)
        path = folder / tflite_name(model.name, "float32")
        path.write_bytes(export.to_tflite(model))


def separate(
    models: Path, exports: Path, mixture: np.ndarray, options: dict[str, Any]
) -> dict[str, np.ndarray]:
    from stemforge import Separator, find_models

    place = exports if options.get("runtime") == "litert" else models
    separator = Separator.load(find_models(place), **options)
    return separator.separate(np.asarray(mixture, np.float32), sample_rate_hz=common.RATE_HZ)


def post_filters() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    try:
        import noisereduce
    except ImportError:
        return {}

    def gate(stationary: bool) -> Callable[[np.ndarray], np.ndarray]:
        return lambda wave: noisereduce.reduce_noise(
            y=wave.T, sr=common.RATE_HZ, stationary=stationary, n_fft=2048
        ).T.astype(np.float32)

    return {"spectral gating, stationary": gate(True), "spectral gating, adaptive": gate(False)}


def report(table: pd.DataFrame) -> None:
    cells = [(stem, metric) for stem in common.PAIR for metric in METRICS]
    medians = table.groupby(["option", "stem"])[list(METRICS)].median()
    names = list(dict.fromkeys(table["option"]))
    rows = [
        (name, *(f"{medians[metric][name, stem]:.2f}" for stem, metric in cells)) for name in names
    ]
    columns = [f"{stem} {metric}" for stem, metric in cells]
    common.print_table((f"median of {table['song'].nunique()} songs, dB", *columns), rows)
    sdr = table.set_index(["option", "song", "stem"])["SDR"]
    for name in names[1:]:
        worst = (sdr[name] - sdr[PLAIN]).abs().max()
        print(f"\n{name}: SDR differs by at most {worst:.3f} dB on a song", end="")
    print()


if __name__ == "__main__":
    main()
