"""Which layers of the nets tolerate int8, and what that gains.

    python -m benchmarks.int8_layers MODELS [CORPUS_ROOT]

Each layer alone, then sets of layers: latency against float32 with two threads, turn by turn in
the same run, medians of the turns; and the loss of SDR on each test track's middle 24 s, with the
same layers of all stems' nets in int8. Also the float32 file against the plain conversion of the
Keras model.
docs/export.md holds the table for Deezer's 2stems.
"""

import functools
import tempfile
import unittest.mock
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from benchmarks import common
from benchmarks.nets import convert_as_it_stands, run_tflite
from stemforge.eval.exports import files as export
from stemforge.eval.exports import parity
from stemforge.eval.runtimes.litert import LiteRTNets
from stemforge.eval.scoring.track_metrics import utterance_sdr
from stemforge.pipelines.running.exporting import real_clips
from stemforge.quiet import quiet_stderr
from stemforge.train.model import Model, load_model, set_weights, weights_of
from stemforge.train.model_files import find_model_folders
from stemforge.train.nets.unet import UNet, training

THREADS = 2


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("corpus", nargs="?", help="default: the song that stempeg comes with")
    parser.add_argument("--turns", type=int, default=9)
    arguments = parser.parse_args(argv)
    models = [load_model(folder) for folder in find_model_folders(arguments.models)]
    net = models[0].net
    assert isinstance(net, UNet)
    clips = real_clips(arguments.corpus, sample_rate_hz=models[0].sample_rate_hz)
    mixture = np.abs(np.random.default_rng(0).normal(0, 5, (net.frames, net.bins, 2)))
    mixture = mixture.astype(np.float32)
    rows = []
    with tempfile.TemporaryDirectory() as place, quiet_stderr():
        folder = Path(place)
        files = {model.name: export.to_tflite(model) for model in models}
        float32 = load(files, folder / "float32")
        truth = sdr(float32, clips)
        latencies = functools.partial(gain, float32[0], mixture, arguments.turns)
        rows.append(("plain", latencies(plain(models[0], folder)), *[""] * len(truth)))
        for number, layers in enumerate(layer_sets(net)):
            small = {
                name: export.shrink(file, "int8_mixed", int8_layers=layers)
                for name, file in files.items()
            }
            nets = load(small, folder / f"int8 {number}")
            losses = [np.subtract(truth[stem], now) for stem, now in sdr(nets, clips).items()]
            cells = [f"{loss.mean():.2f}, {loss.max():.2f} dB" for loss in losses]
            rows.append((", ".join(layers), latencies(nets[0]), *cells))
    stems = [f"{stem}: mean, worst loss" for stem in truth]
    common.print_table(("in int8", "latency, gain", *stems), rows)


def layer_sets(net: UNet) -> list[list[str]]:
    """Each layer alone, what `int8_mixed` chooses, one layer more, and all."""
    encoders = [f"encoder_{level}" for level in range(net.depth)]
    decoders = [f"decoder_{level}" for level in range(net.depth)]
    every = [*encoders, *decoders, "mask"]
    chosen = net.int8_layers()
    return [*([layer] for layer in every), chosen, [*chosen, f"decoder_{net.depth - 3}"], every]


def load(files: dict[str, bytes], folder: Path) -> list[LiteRTNets]:
    folder.mkdir()
    for name, file in files.items():
        (folder / f"{name}.tflite").write_bytes(file)
    return [LiteRTNets(folder / f"{name}.tflite", threads=THREADS) for name in files]


def plain(model: Model, folder: Path) -> Callable[[np.ndarray], object]:
    """The Keras model with Keras' own transposed convolutions, converted as it stands."""
    ordinary = keras.layers.Conv2DTranspose
    with unittest.mock.patch.object(training, "OneFilterDeconvolution", ordinary):
        same = model.net.build(model.stems)
    set_weights(same, weights_of(model.keras_model))
    fields = {name: getattr(model, name) for name in Model.__dataclass_fields__}
    path = folder / "plain.tflite"
    convert_as_it_stands(Model(**fields | {"keras_model": same}), path)
    return run_tflite(path, threads=THREADS)


def sdr(nets: Sequence[LiteRTNets], clips: Sequence[parity.Clip]) -> dict[str, list[float]]:
    sounds = parity.separate_clips(nets, clips)
    return {
        stem: [utterance_sdr(c.stems[stem], s[stem]) for c, s in zip(clips, sounds, strict=True)]
        for stem in sounds[0]
    }


def gain(
    float32: LiteRTNets, mixture: np.ndarray, turns: int, nets: Callable[[np.ndarray], object]
) -> str:
    """Milliseconds of a net, and how many times as fast as the float32 file it is."""
    runs = {"nets": lambda: nets(mixture), "float32": lambda: float32(mixture)}
    timers = {name: functools.partial(common.timed, run) for name, run in runs.items()}
    found = common.turn_by_turn(timers, turns, warm_up=1)
    return f"{found['nets'] * 1e3:.0f} ms, {common.against(found['float32'], found['nets'])}"


if __name__ == "__main__":
    main()
