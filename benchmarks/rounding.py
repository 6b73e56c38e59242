"""Undetermined frames against the differences between museval and this program, frame by frame.

    python -m benchmarks.rounding CORPUS_ROOT [--songs 20] [--seconds 3]

From the middle of each of the first test songs, a few seconds are scored by both, in frames of 1 s:
all four stems together, and several kinds of estimates. A frame of a stem differs where its ISR,
SIR or SAR does by more than 1e-6 dB (of infinite ones, where only one is infinite). It should be
flagged as undetermined there, and only there. museval takes 5 to 15 s for a song and a kind.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import scipy.fft

from benchmarks import common
from benchmarks.common import RATE_HZ
from stemforge.eval.scoring.bss_eval import bss_eval, is_silent
from stemforge.eval.scoring.oracles import METHODS
from stemforge.eval.scoring.rounding import LIMIT_DB
from stemforge.features.audio import ffmpeg
from stemforge.features.corpus.sources import MIXTURE, MUSDB_STREAMS

METRICS = ("ISR", "SIR", "SAR")
CUTOFF_HZ = 11_000  # of Spleeter's published models
Stems = dict[str, np.ndarray]  # [samples, channels]


def noisy(stems: Stems, *, noise_db: float) -> Stems:
    """0.8 of each stem, 0.1 of the mixture, and noise over the whole band, in dB of full scale."""
    random = np.random.default_rng(0)
    mixture = np.sum([*stems.values()], axis=0)
    level = 10.0 ** (noise_db / 20.0)
    return {
        name: 0.8 * stem + 0.1 * mixture + level * random.normal(size=stem.shape)
        for name, stem in stems.items()
    }


def masked(stems: Stems, *, cutoff_hz: float | None = None) -> Stems:
    """IRM1, with nothing above a frequency."""
    found = METHODS["IRM1"](np.sum([*stems.values()], axis=0), stems)
    if cutoff_hz is None:
        return found
    return {name: low_passed(estimate, cutoff_hz) for name, estimate in found.items()}


def low_passed(signal: np.ndarray, cutoff_hz: float) -> np.ndarray:
    spectrum = scipy.fft.rfft(signal, axis=0)
    spectrum[round(cutoff_hz * len(signal) / RATE_HZ) :] = 0.0
    return np.asarray(scipy.fft.irfft(spectrum, n=len(signal), axis=0), np.float32)


KINDS: dict[str, Callable[[Stems], Stems]] = {
    "noise at -40 dB": functools.partial(noisy, noise_db=-40.0),
    "noise at -60 dB": functools.partial(noisy, noise_db=-60.0),
    "IRM1 below 11 kHz": functools.partial(masked, cutoff_hz=CUTOFF_HZ),
    "IRM1": masked,
}


def main(argv: list[str] | None = None) -> None:
    arguments = parsed(argv)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {kind: [] for kind in arguments.kinds}
    for song in songs(arguments.corpus, arguments.songs):
        stems = excerpt(song, arguments.seconds)
        for kind, frames in found.items():
            print(song.name, kind, file=sys.stderr)
            frames.append(compare(stems, KINDS[kind](stems)))
    columns = ("differ", "flagged", "false alarms", "misses")
    sizes = ("median of flagged, dB", "largest of flagged, dB", "largest of others, dB")
    rows = []
    for kind, frames in found.items():
        differences, flags = (np.concatenate(part, axis=-1) for part in zip(*frames, strict=True))
        rows.append((kind, *summary(differences.max(axis=0), flags)))
        rows += [
            (f"{kind}: {metric}", *summary(of_metric, flags))
            for metric, of_metric in zip(METRICS, differences, strict=True)
        ]
    common.print_table(("estimates", "frames", *columns, *sizes), rows)


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = common.parser_of(__doc__)
    common.add_corpus(parser)
    parser.add_argument("--songs", type=int, default=20, help="how many (%(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="of each song (%(default)s)")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=KINDS,
        default=[*KINDS],
        metavar="KIND",
        help=f"of estimates, from {', '.join(map(repr, KINDS))} (all)",
    )
    arguments = parser.parse_args(argv)
    if not songs(arguments.corpus, arguments.songs):
        parser.error(f"{arguments.corpus}: no test/*.stem.mp4: name a folder of MUSDB18 stem files")
    return arguments


def songs(corpus: Path, count: int) -> list[Path]:
    return sorted(corpus.glob("test/*.stem.mp4"))[:count]


def excerpt(song: Path, seconds: int) -> Stems:
    """True stems in the middle of a song, of 16 bits as musdb reads them, without silent ones."""
    streams = ffmpeg.probe_streams(song)
    stems = {}
    for name, number in MUSDB_STREAMS.items():
        if name != MIXTURE:
            whole = np.concatenate([*ffmpeg.decode_stream(song, number, streams[number])])
            start = max(0, (len(whole) - seconds * RATE_HZ) // 2)
            stem = as_16_bits(whole[start : start + seconds * RATE_HZ])
            if not is_silent(stem):  # museval refuses it
                stems[name] = stem
    return stems


def as_16_bits(signal: np.ndarray) -> np.ndarray:
    values: np.ndarray = np.clip(np.rint(signal * 2**15), -(2**15), 2**15 - 1)
    return values / 2**15


def compare(stems: Stems, estimates: Stems) -> tuple[np.ndarray, np.ndarray]:
    """Differences of ISR, SIR and SAR in dB, [3, frames of stems], and which frames are flagged."""
    ffmpeg.put_ffmpeg_on_path()
    import museval.metrics  # which looks for ffmpeg as it loads

    pair = [np.stack([*signals.values()], dtype=np.float64) for signals in (stems, estimates)]
    theirs = np.stack(museval.metrics.bss_eval(*pair, window=RATE_HZ, hop=RATE_HZ)[1:4])
    found = bss_eval(*pair, window=RATE_HZ, hop=RATE_HZ)
    ours = np.stack([found.isr, found.sir, found.sar])
    scored = ~np.isnan(ours).any(axis=0)
    ours, theirs = ours[:, scored], theirs[:, scored]
    same = ours == theirs  # infinite ones too
    differences = np.zeros_like(ours)
    np.subtract(ours, theirs, out=differences, where=~same)
    return np.abs(differences), found.undetermined[scored]


def summary(differences_db: np.ndarray, flags: np.ndarray) -> Iterator[str]:
    """A row of the table: what differs, what is flagged, where these two disagree, and sizes."""
    differ = ~(differences_db <= LIMIT_DB)
    counts = (differ, flags, flags & ~differ, differ & ~flags)
    yield str(len(flags))
    yield from (str(count.sum()) for count in counts)
    flagged, others = differences_db[flags], differences_db[~flags]
    yield f"{np.median(flagged):.1e}" if flagged.size else ""
    yield from (f"{part.max():.1e}" if part.size else "" for part in (flagged, others))


if __name__ == "__main__":
    main()
