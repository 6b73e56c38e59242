"""Stage export: models/ -> exports/<model>/ (SavedModel, TFLite) and exports/parity.json."""

import pipelines.tensorflow_quietly  # noqa: F401  # isort: skip (before all that imports it)

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from eval import export
from features import audio
from features.errors import UserError
from features.stft import Framing, stft
from features.tracks import MIXTURE, Manifest, read_manifest
from pipelines.console import progress, quiet_stderr, run_main
from pipelines.params import Export, read_params
from pipelines.paths import EXPORTS, MODELS, TRACKS
from pipelines.separate import models_identity
from pipelines.work import file_sha256, publish, work_folder
from train.unet import Model, load_model


def main() -> None:
    """Exports each model and compares it with Keras on the test tracks' mixtures."""
    params = read_params()
    bounds = params.export
    manifest = read_manifest(TRACKS)
    folders = [MODELS / name for name in params.train.models]
    identity = (bounds.model_dump(), models_identity(folders), file_sha256(TRACKS))
    with work_folder("export", *identity) as work:
        out = work / "exports"
        shutil.rmtree(out, ignore_errors=True)
        parity: dict[str, dict[str, Any]] = {}
        total = len(folders) * len(export.FORMATS)
        with progress(total, label="export", unit="file") as bar:
            for folder in folders:
                model = load_model(folder)
                (out / model.name).mkdir(parents=True)
                inputs = real_inputs(manifest, model)
                for kind in export.FORMATS:
                    path = out / model.name / export.export_name(model.name, kind)
                    with quiet_stderr():  # the converter narrates every pass
                        export.write_export(model, path, kind)
                        measured = measure(model, path, kind, inputs)
                    check_parity(model.name, kind, measured, bounds)
                    parity.setdefault(model.name, {})[kind] = dataclasses.asdict(measured)
                    bar.update()
        text = json.dumps(parity, indent=2, sort_keys=True) + "\n"
        (out / "parity.json").write_text(text, encoding="utf-8")
        publish(out, EXPORTS)


def real_inputs(manifest: Manifest, model: Model) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The middle of each test track's mixture: float32 [tracks, frames, bins, 2]."""
    framing = Framing(model.frame_length_samples, model.frame_step_samples)
    samples = framing.span(model.net.frames)
    inputs = []
    for track in manifest.split("test"):
        start = max(0, (track.samples - samples) // 2)
        waveform = audio.as_stereo(
            audio.read_audio(manifest.path(track, MIXTURE), start=start, samples=samples)
        )
        padded = np.zeros((samples, 2), np.float32)
        padded[: len(waveform)] = waveform
        inputs.append(np.abs(stft(padded, framing)[:, : model.net.bins]))
    if not inputs:
        raise UserError(f"{TRACKS}: no test track to prove the exports on")
    return np.stack(inputs)


def measure(
    model: Model, path: Path, kind: export.Format, inputs: np.ndarray[Any, Any]
) -> export.Parity:
    """Compares an export with Keras over all inputs and stems."""
    ours, theirs = [], []
    for mixture in inputs[:, None]:
        found = export.run_export(path, kind, mixture)
        truth = model.keras_model(mixture, training=False)
        ours += [found[stem] for stem in model.stems]
        theirs += [np.asarray(truth[stem]) for stem in model.stems]
    return export.compare(np.stack(ours), np.stack(theirs))


def check_parity(name: str, kind: export.Format, parity: export.Parity, bounds: Export) -> None:
    """Refuses an export that is not what Keras computes.

    Raises:
        UserError: an output is not finite, or differs by more than the bound.
    """
    parameter = f"max_difference_{kind}"
    bound = getattr(bounds, parameter)
    if not parity.finite:
        raise UserError(f"export: {name} as {kind}: the output is not finite")
    if parity.relative_difference > bound:
        raise UserError(
            f"export: {name} as {kind}: differs from Keras by {parity.relative_difference:.2e} of "
            f"its rms, more than export.{parameter}={bound:.1e}"
        )


if __name__ == "__main__":
    raise SystemExit(run_main(main))
