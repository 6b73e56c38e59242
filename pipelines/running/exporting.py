"""Writes and measures all exports of a set of models, for the stage and for the commands."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemforge.errors import UserError
from stemforge.eval.exports import files, proof
from stemforge.eval.exports.bounds import PARITY, Bounds, segment_name
from stemforge.eval.exports.parity import Clip, KerasNets
from stemforge.eval.exports.vectors import VECTORS, write_vectors
from stemforge.eval.runtimes.tensorflow import load_nets
from stemforge.eval.separation.separator import common_interface
from stemforge.features.audio import ffmpeg
from stemforge.features.audio import files as audio
from stemforge.features.corpus.corpora import CorpusTrack
from stemforge.features.corpus.sources import (
    ACCOMPANIMENT,
    MIXTURE,
    MUSDB_STREAMS,
    VOCALS,
    mixture_without,
)
from stemforge.features.corpus.track_audio import open_corpus_track
from stemforge.pipelines.console import progress, say
from stemforge.pipelines.options import split_names
from stemforge.pipelines.running.corpora import find_test_tracks
from stemforge.pipelines.running.timings import write_timings
from stemforge.quiet import quiet_stderr
from stemforge.train.config import TFLiteFormat
from stemforge.train.model import Model, load_model
from stemforge.train.model_files import read_card, tflite_name

OPTIONAL: TFLiteFormat = "int8_mixed"  # a file that exceeds its bound is left out
CLIP_S = 24.0  # length of each clip that exports are measured on
VECTORS_S = 2.0  # length of the clip of the golden vectors


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
        clips: real music to measure them on, at the models' rate; at least one.
        frames: lengths of the TFLite files from waveform to waveforms; at least one.
        bounds: of all exports.

    Raises:
        UserError: the models have different STFTs or a stem in common, do not support such
            lengths, or an export exceeds its bound.
    """
    models = [load_model(folder) for folder in folders]
    common_interface([model.interface for model in models])
    for count in frames:
        for model in models:
            files.resized(model, count)
    found: dict[str, dict[str, Any]] = {}
    formats = [kind for model in models for kind in files.formats_of(model)]
    total = 1 + len(formats) + len(frames)
    with progress(total, label="export", unit="file") as bar:
        work = _Work(folders, models, out, clips, bounds, found, bar)
        work.saved_model()
        with quiet_stderr():  # the converter prints every pass
            converted = {model.name: files.to_tflite(model) for model in models}
        for kind in dict.fromkeys(formats):
            work.tflite(kind, converted)
        for count in frames:
            work.segments(count)
    (out / VECTORS).mkdir()
    nets = [load_nets(folder, frames=min(frames)) for folder in folders]
    rate_hz = models[0].sample_rate_hz
    write_vectors(out / VECTORS, clips[0].mixture[: round(VECTORS_S * rate_hz)], nets)
    text = json.dumps(found, indent=2, sort_keys=True) + "\n"
    (out / PARITY).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class _Work:
    """Writes exports one by one, and checks each."""

    folders: Sequence[Path]
    models: Sequence[Model]
    out: Path
    clips: Sequence[Clip]
    bounds: Bounds
    found: dict[str, dict[str, Any]]
    bar: Any

    def saved_model(self) -> None:
        path = self.out / files.SAVED_MODEL
        with quiet_stderr():
            files.write_saved_model(self.models, path)
        keras = [KerasNets(model) for model in self.models]
        self.prove(path.name, proof.measure_saved_model(path, keras, self.clips))
        self.bar.update()

    def tflite(self, kind: TFLiteFormat, converted: Mapping[str, bytes]) -> None:
        models = [model for model in self.models if kind in files.formats_of(model)]
        paths = []
        for model in models:
            path = self.out / model.name / tflite_name(model.name, kind)
            path.parent.mkdir(exist_ok=True)
            layers = model.net.int8_layers()
            path.write_bytes(files.shrink(converted[model.name], kind, int8_layers=layers))
            paths.append(path)
            self.bar.update()
        measured = proof.measure_tflite(paths, [KerasNets(m) for m in models], self.clips)
        for name, stems in measured.items():
            try:
                self.prove(f"tflite_{kind}", {name: stems})
            except UserError as error:
                if kind != OPTIONAL:
                    raise
                say(f"{error}: this file is left out")
                self.found[name] = {stem: {"refused": str(error)} for stem in stems}
                (self.out / name).unlink()

    def segments(self, frames: int) -> None:
        path = self.out / segment_name(frames)
        with quiet_stderr():
            files.write_segment_tflite(self.models, path, frames=frames)
        nets = [load_nets(folder, frames=frames) for folder in self.folders]
        self.prove("segment", proof.measure_segment(path, nets, self.clips))
        self.bar.update()

    def prove(self, kind: str, measured: proof.Measured) -> None:
        """Stores the measurements of a file; raises an error where one exceeds its bound."""
        for name, stems in measured.items():
            for stem, values in stems.items():
                self.bounds.check(f"{name}: {stem}", kind, values)
                self.found.setdefault(name, {})[stem] = dataclasses.asdict(values)


def export_for_people(
    folders: Sequence[Path], out: Path, *, frames: str, corpus: str | None, timings: bool
) -> None:
    """What `stemforge export` and `stemforge convert-spleeter` do with models.

    Args:
        folders: model directories, of all stems.
        out: an existing, empty folder.
        frames: lengths of the TFLite files from waveform to waveforms, such as "512,128".
        corpus: MUSDB folder; its test tracks are used for measuring; None: stempeg's example.
        timings: also write timings.json.

    Raises:
        UserError: see export_all and real_clips, or `frames` is not a list of numbers.
    """
    try:
        lengths = [int(text) for text in split_names(frames, option="--frames")]
    except ValueError:
        raise UserError(f"--frames {frames}: must be numbers, such as 512,128") from None
    rate_hz = read_card(folders[0])["sample_rate_hz"]
    clips = real_clips(corpus, sample_rate_hz=rate_hz)
    export_all(folders, out, clips=clips, frames=lengths, bounds=Bounds())
    if timings:
        write_timings(out, out / "timings.json")


def read_clip(sources: Mapping[str, Path]) -> Clip:
    """The middle of a track.

    Args:
        sources: files of the mixture and the stems.

    Raises:
        AudioError: a file cannot be read.
    """
    info = audio.file_info(sources[MIXTURE])
    samples = min(info.samples, round(CLIP_S * info.sample_rate_hz))
    start = (info.samples - samples) // 2
    parts = {
        name: audio.as_stereo(audio.read_audio(path, start=start, samples=samples))
        for name, path in sources.items()
    }
    return Clip(parts.pop(MIXTURE), parts)


def real_clips(corpus: str | None, *, sample_rate_hz: int) -> list[Clip]:
    """The middle of each test track of a corpus, or stempeg's example, with their stems.

    Raises:
        UserError: there is no test track, or one has another rate.
    """
    stems = [name for name in MUSDB_STREAMS if name != MIXTURE]
    if corpus is None:
        ffmpeg.put_ffmpeg_on_path()  # stempeg needs it to load
        import stempeg

        place = str(stempeg.example_stem_path())
        tracks = [
            CorpusTrack(
                "example",
                "test",
                dict.fromkeys(MUSDB_STREAMS, (place,)),
                {name: (number,) for name, number in MUSDB_STREAMS.items()},
                is_complete=True,
                is_decoded=True,
            )
        ]
    else:
        tracks, _ = find_test_tracks(corpus, stems, can_map=False)
    return [_corpus_clip(track, sample_rate_hz) for track in tracks]


def _corpus_clip(track: CorpusTrack, sample_rate_hz: int) -> Clip:
    with open_corpus_track(track, "PCM_16") as sources:
        info = audio.file_info(sources[MIXTURE])
        if info.sample_rate_hz != sample_rate_hz:
            raise UserError(
                f"{track.name}: its rate is {info.sample_rate_hz} Hz, the models' "
                f"{sample_rate_hz}: use a corpus of that rate"
            )
        clip = read_clip(sources)
    return Clip(
        clip.mixture, {**clip.stems, ACCOMPANIMENT: mixture_without(VOCALS, clip.stems, None)}
    )
