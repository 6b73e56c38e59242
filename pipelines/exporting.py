"""Writing all exports of a set of models, and proving each: for the stage and for people."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemforge.eval import export, parity
from stemforge.eval.inference import load_nets
from stemforge.eval.litert import SIGNATURE, LiteRTNets
from stemforge.eval.parity import Clip, ExportedNets, KerasNets, Parity
from stemforge.eval.separation import common_interface
from stemforge.eval.vectors import write_vectors
from stemforge.features import audio
from stemforge.features.errors import UserError
from stemforge.features.tracks import MIXTURE
from stemforge.pipelines.console import progress, say
from stemforge.quiet import quiet_stderr
from stemforge.train.unet import Model, load_model

if TYPE_CHECKING:
    from stemforge.pipelines.params import Export  # `stemforge export` has no params.yaml

VECTORS = "vectors"
OPTIONAL: export.TFLiteFormat = "int8_mixed"  # what misses its bound is left out, and said
CLIP_S = 24.0  # of each song that exports are measured on
VECTORS_S = 2.0  # of the clip that golden vectors are made of


@dataclass(frozen=True)
class Bounds:
    """What an export must keep to; see eval.parity.Parity.

    Attributes:
        max_difference: relative, by format: saved_model, tflite_float32, tflite_float16,
            tflite_int8_weights, tflite_int8_mixed, segment.
        max_sdr_loss_db: of all but tflite_int8_mixed.
        max_sdr_loss_int8_mixed_db: of that one.
    """

    max_difference: Mapping[str, float]
    max_sdr_loss_db: float
    max_sdr_loss_int8_mixed_db: float


def bounds(config: "Export") -> Bounds:
    """The stage's bounds, by the names of the formats."""
    prefix = "max_difference_"
    values = config.model_dump()
    return Bounds(
        {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)},
        config.max_sdr_loss_db,
        config.max_sdr_loss_int8_mixed_db,
    )


def export_all(
    folders: Sequence[Path],
    out: Path,
    *,
    clips: Sequence[Clip],
    frames: Sequence[int],
    bounds: Bounds,
) -> None:
    """Writes every export of the models into a folder, with parity.json.

    Args:
        folders: model directories, of all stems.
        out: an existing, empty folder.
        clips: real music to prove them on, at the models' rate; one at least.
        frames: lengths of the TFLite files from waveform to waveforms; one at least.
        bounds: for all of them.

    Raises:
        UserError: the models do not go together, cannot take so many frames, or an export misses
            its bound.
    """
    models = [load_model(folder) for folder in folders]
    interface = common_interface([model.interface for model in models])
    for count in frames:
        for model in models:
            export.check_frames(interface, count, depth=model.net.depth)
    found: dict[str, dict[str, Any]] = {}
    total = 1 + len(models) * len(export.TFLITE_FORMATS) + len(frames)
    with progress(total, label="export", unit="file") as bar:
        work = _Work(folders, models, out, clips, bounds, found, bar)
        work.saved_model()
        with quiet_stderr():  # the converter narrates every pass
            converted = {model.name: export.to_tflite(model) for model in models}
        for kind in export.TFLITE_FORMATS:
            work.tflite(kind, converted)
        for count in frames:
            work.segments(count)
    (out / VECTORS).mkdir()
    nets = [load_nets(folder, frames=min(frames)) for folder in folders]
    rate_hz = models[0].sample_rate_hz
    write_vectors(out / VECTORS, clips[0].mixture[: round(VECTORS_S * rate_hz)], nets)
    text = json.dumps(found, indent=2, sort_keys=True) + "\n"
    (out / "parity.json").write_text(text, encoding="utf-8")


def read_clip(files: Mapping[str, Path]) -> Clip:
    """The middle of a track.

    Args:
        files: the mixture's and the stems'.

    Raises:
        AudioError: one cannot be read.
    """
    info = audio.file_info(files[MIXTURE])
    samples = min(info.samples, round(CLIP_S * info.sample_rate_hz))
    start = (info.samples - samples) // 2
    parts = {
        name: audio.as_stereo(audio.read_audio(path, start=start, samples=samples))
        for name, path in files.items()
    }
    return Clip(parts.pop(MIXTURE), parts)


@dataclass(frozen=True)
class _Work:
    """One export after the other, each with its proof."""

    folders: Sequence[Path]
    models: Sequence[Model]
    out: Path
    clips: Sequence[Clip]
    bounds: Bounds
    found: dict[str, dict[str, Any]]
    bar: Any

    def saved_model(self) -> None:
        path = self.out / export.SAVED_MODEL
        with quiet_stderr():
            export.write_saved_model(self.models, path)
        keras = [KerasNets(model) for model in self.models]
        run = export.runner(path, SIGNATURE)
        nets = ExportedNets(
            common_interface([model.interface for model in self.models]),
            lambda mixture: run(mixture=mixture),
        )
        measured = parity.measure_nets([nets], keras, self.clips)
        self.prove(f"{path.name}, {SIGNATURE}", path.name, measured)
        whole = export.runner(path, export.SEPARATE)
        measured = parity.measure_separation(
            lambda waveform: whole(waveform=waveform), keras, self.clips
        )
        self.prove(f"{path.name}, {export.SEPARATE}", path.name, measured)
        self.bar.update()

    def tflite(self, kind: export.TFLiteFormat, converted: Mapping[str, bytes]) -> None:
        nets = []
        for model in self.models:
            path = self.out / model.name / export.tflite_name(model.name, kind)
            path.parent.mkdir(exist_ok=True)
            depth = model.net.depth
            path.write_bytes(export.shrink(converted[model.name], kind, depth=depth))
            nets.append(LiteRTNets(path, threads=1))
            self.bar.update()
        keras = [KerasNets(model) for model in self.models]
        for stem, measured in parity.measure_nets(nets, keras, self.clips).items():
            owner = next(model.name for model in self.models if stem in model.stems)
            name = f"{owner}/{export.tflite_name(owner, kind)}"
            try:
                self.prove(name, f"tflite_{kind}", {stem: measured})
            except UserError as error:
                if kind != OPTIONAL:
                    raise
                say(f"{error}: this file is left out")
                self.found.setdefault(name, {})[stem] = {"refused": str(error)}
                (self.out / name).unlink(missing_ok=True)

    def segments(self, frames: int) -> None:
        path = self.out / export.segment_name(frames)
        with quiet_stderr():
            export.write_segment_tflite(self.models, path, frames=frames)
        nets = [load_nets(folder, frames=frames) for folder in self.folders]
        interface = common_interface([n.interface for n in nets])
        with quiet_stderr():
            run = export.runner(path, export.SEPARATE)
        measured = parity.measure_separation(
            lambda song: parity.add_segments(lambda part: run(waveform=part), song, interface),
            nets,
            self.clips,
        )
        self.prove(path.name, "segment", measured)
        self.bar.update()

    def prove(self, name: str, kind: str, measured: Mapping[str, Parity]) -> None:
        """Keeps what was measured of a file, and refuses what misses its bound."""
        for stem, values in measured.items():
            check(f"{name}: {stem}", kind, values, self.bounds)
            self.found.setdefault(name, {})[stem] = dataclasses.asdict(values)


def check(name: str, kind: str, measured: Parity, bounds: Bounds) -> None:
    """Refuses an export that is not what Keras computes.

    Raises:
        UserError: an output is not finite, or differs by more than its bound.
    """
    if not measured.finite:
        raise UserError(f"export: {name}: the output is not finite")
    bound = bounds.max_difference[kind]
    if measured.relative_difference > bound:
        raise UserError(
            f"export: {name}: differs from the trained nets by {measured.relative_difference:.2e} "
            f"of their rms, more than max_difference_{kind}={bound:.1e}"
        )
    mixed = kind == f"tflite_{OPTIONAL}"
    limit = bounds.max_sdr_loss_int8_mixed_db if mixed else bounds.max_sdr_loss_db
    if measured.sdr_change_db is not None and -measured.sdr_change_db > limit:
        raise UserError(
            f"export: {name}: loses {-measured.sdr_change_db:.3f} dB of SDR, more than "
            f"max_sdr_loss{'_int8_mixed' * mixed}_db={limit}"
        )
