"""Signal-to-noise ratio, bias and size of each encoding on real music.

    python -m benchmarks.encodings CORPUS_ROOT

Over all songs and sources of a MUSDB18 corpus that are not silent throughout. Bias
is the ratio of the sums of decoded and true magnitudes.
"""

import numpy as np

from benchmarks import common
from stemforge.features.audio import ffmpeg
from stemforge.features.corpus.sources import MUSDB_STREAMS
from stemforge.features.shards import encoding
from stemforge.features.shards.encoding import Encoding
from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft import magnitude_stft

FRAMING = Framing(4096, 1024)
BINS = 1024
BLOCK_FRAMES = 512
ENCODINGS: tuple[Encoding, ...] = ("float32", "float16", "uint8")


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    common.add_corpus(parser)
    arguments = parser.parse_args(argv)
    ffmpeg.put_ffmpeg_on_path()
    ratios_db: dict[str, list[float]] = {kind: [] for kind in ENCODINGS}
    biases_db: dict[str, list[float]] = {kind: [] for kind in ENCODINGS}
    for path in sorted(arguments.corpus.rglob("*.stem.mp4")):
        streams = ffmpeg.probe_streams(path)
        for number in MUSDB_STREAMS.values():
            pieces = list(ffmpeg.decode_stream(path, number, streams[number]))
            waveform = np.concatenate(pieces)
            if not waveform.any():
                continue
            for kind in ENCODINGS:
                ratio_db, bias_db = measure(waveform, kind)
                ratios_db[kind].append(ratio_db)
                biases_db[kind].append(bias_db)
    rows = []
    for kind in ENCODINGS:
        worst, middle = min(ratios_db[kind]), float(np.median(ratios_db[kind]))
        bias_db = max(biases_db[kind], key=abs)
        size = np.dtype(encoding.DTYPES[kind]).itemsize
        rows.append((kind, f"{worst:.1f}", f"{middle:.1f}", f"{bias_db:+.4f}", size))
    columns = ("encoding", "SNR, dB, worst", "SNR, dB, median", "bias, dB, worst", "bytes a value")
    common.print_table(columns, rows)


def measure(waveform: np.ndarray, kind: Encoding) -> tuple[float, float]:
    """SNR and bias in dB over all blocks of a source."""
    energy = noise = decoded_sum = true_sum = 0.0
    frames = FRAMING.count(len(waveform))
    for start in range(0, frames, BLOCK_FRAMES):
        here = min(BLOCK_FRAMES, frames - start)
        first = start * FRAMING.step_samples
        part = waveform[first : first + FRAMING.span(here)]
        magnitudes = magnitude_stft(part, FRAMING, bins=BINS)
        stored = encoding.encode(magnitudes, kind)
        segments = np.zeros(here, np.int32)
        decoded = encoding.decode(stored.values, stored.scale[None], segments).astype(float)
        energy += float(np.sum(np.square(magnitudes, dtype=float)))
        noise += float(np.sum(np.square(decoded - magnitudes)))
        decoded_sum += float(decoded.sum())
        true_sum += float(magnitudes.sum(dtype=float))
    with np.errstate(divide="ignore"):
        return 10 * float(np.log10(energy / noise)) if noise else np.inf, 20 * float(
            np.log10(decoded_sum / true_sum)
        )


if __name__ == "__main__":
    main()
