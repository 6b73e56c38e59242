"""Which layers of the nets bear to be computed in int8, and what that gains.

    python -m benchmarks.int8_layers MODELS [CORPUS]

Each layer alone, then sets of them: latency against float32 with two threads, turn by turn in the
same run, medians of nine; and what the SDR of each test track's middle 24 s loses, all stems' nets
in int8 alike. And the float32 file against the plain conversion of the Keras model. docs/export.md
holds the table for Deezer's 2stems.
"""

import stemforge.pipelines.tensorflow_quietly  # noqa: F401  # isort: skip

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.nets import convert_as_it_stands
from stemforge.eval import export, parity
from stemforge.eval.litert import LiteRTNets
from stemforge.eval.track_metrics import utterance_sdr
from stemforge.features.models import find_models
from stemforge.pipelines.console import quiet_stderr
from stemforge.pipelines.export_models import real_clips
from stemforge.train import unet
from stemforge.train.unet import Model

THREADS = 2
TURNS = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path)
    parser.add_argument("corpus", nargs="?", help="default: the song that stempeg comes with")
    arguments = parser.parse_args()
    models = [unet.load_model(folder) for folder in find_models(arguments.models)]
    depth = models[0].net.depth
    clips = real_clips(arguments.corpus, sample_rate_hz=models[0].sample_rate_hz)
    encoders = [f"encoder_{level}" for level in range(depth)]
    decoders = [f"decoder_{level}" for level in range(depth)]
    chosen = export.int8_layers(depth)
    sets = [[layer] for layer in (*encoders, *decoders, "mask")]
    sets += [chosen, [*chosen, f"decoder_{depth - 3}"], [*encoders, *decoders, "mask"]]
    with tempfile.TemporaryDirectory() as folder, quiet_stderr():
        files = {model.name: export.to_tflite(model) for model in models}
        float32 = load(files, Path(folder) / "float32")
        truth = sdr(float32, clips)
        rows = [row(["plain"], plain(models[0], Path(folder)), float32[0], None)]
        for layers in sets:
            small = {
                name: export.shrink(file, "int8_mixed", depth=depth, layers=layers)
                for name, file in files.items()
            }
            nets = load(small, Path(folder) / "int8")
            found = sdr(nets, clips)
            losses = {stem: np.subtract(truth[stem], found[stem]) for stem in truth}
            rows.append(row(layers, nets[0], float32[0], losses))
    stems = [stem for model in models for stem in model.stems]
    print(f"| in int8 | against float32 | {' | '.join(f'{s}: mean, worst loss' for s in stems)} |")
    print("| --- |" + " --- |" * (1 + len(stems)))
    print("\n".join(rows))


def load(files: dict[str, bytes], folder: Path) -> list[LiteRTNets]:
    folder.mkdir(exist_ok=True)
    nets = []
    for name, file in files.items():
        path = folder / f"{name}-{len(file)}-{time.monotonic_ns()}.tflite"
        path.write_bytes(file)
        nets.append(LiteRTNets(path, threads=THREADS))
    return nets


def plain(model: Model, folder: Path) -> Callable[[np.ndarray], Any]:
    """The Keras model with Keras' own transposed convolutions, converted as it stands."""
    ours = unet.OneFilterDeconvolution
    unet.OneFilterDeconvolution = keras.layers.Conv2DTranspose  # type: ignore[misc,assignment]
    try:
        same = unet.build(model.net, model.stems)
    finally:
        unet.OneFilterDeconvolution = ours  # type: ignore[misc]
    unet.set_weights(same, unet.weights(model.keras_model))
    fields = {name: getattr(model, name) for name in Model.__dataclass_fields__}
    path = folder / "plain.tflite"
    convert_as_it_stands(Model(**fields | {"keras_model": same}), path)
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path), num_threads=THREADS).get_signature_runner()
    (name,) = runner.get_input_details()
    return lambda mixture: runner(**{name: mixture[None]})


def sdr(nets: Sequence[LiteRTNets], clips: Sequence[parity.Clip]) -> dict[str, list[float]]:
    sounds = parity.separate_clips(nets, clips)
    return {
        stem: [utterance_sdr(c.stems[stem], s[stem]) for c, s in zip(clips, sounds, strict=True)]
        for stem in sounds[0]
    }


def row(
    layers: Sequence[str],
    nets: Callable[[np.ndarray], Any],
    float32: LiteRTNets,
    losses: dict[str, np.ndarray] | None,
) -> str:
    interface = float32.interface
    mixture = np.abs(np.random.default_rng(0).normal(0, 5, (interface.frames, interface.bins, 2)))
    mixture = mixture.astype(np.float32)
    seconds: list[list[float]] = [[], []]
    for turn in range(TURNS + 1):
        for taken, run in zip(seconds, (nets, float32), strict=True):
            started = time.perf_counter()
            run(mixture)
            if turn:
                taken.append(time.perf_counter() - started)
    mine, theirs = map(statistics.median, seconds)
    cells = [f"{mine * 1e3:.0f} ms, {theirs / mine:.2f}x"]
    cells += [f"{v.mean():.2f}, {v.max():.2f} dB" for v in losses.values()] if losses else ["", ""]
    return f"| {', '.join(layers)} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
