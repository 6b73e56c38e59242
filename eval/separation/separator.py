"""Separates a waveform into stems with trained nets, as Spleeter does."""

import contextlib
import dataclasses
import functools
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stemforge import tensorflow
from stemforge.errors import UserError, needs
from stemforge.eval.config import Mask, MaskExtension, Precision, Runtime
from stemforge.eval.separation.filters import Estimates, Filter, MaskFilter, WienerFilter
from stemforge.eval.separation.live import LiveSeparation, LiveSong, Window
from stemforge.eval.separation.streaming import Resampler, StereoSeparation
from stemforge.features.audio.files import as_stereo
from stemforge.features.corpus.sources import INSTRUMENTAL, VOCALS
from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft import Waveform
from stemforge.train.config import TFLiteFormat
from stemforge.train.model_files import (
    Interface,
    find_model_folders,
    find_tflite,
    read_card,
)

BLOCK_SAMPLES = 2**18  # 6 s: `separate` reports its progress this often
RESIDUAL = "residual"


class Nets(Protocol):
    """One model's nets, ready to run: eval.runtimes.tensorflow's or eval.runtimes.litert's."""

    interface: Interface

    def __call__(self, mixture: Estimates) -> dict[str, Estimates]:
        """From float32 [frames, bins, 2], magnitudes, to the same for each stem."""
        ...


class Separator:
    """Trained nets, ready to separate songs.

    Args:
        models: models of one or several stems each, all trained on the same STFT.
        stems: the wanted stems, in the order of the result; None: all stems of the models.
        mask: "ratio" gives each of two or more stems its share of the mixture, and runs every
            net. "direct" uses each net's own mask, estimate / mixture, and runs only the nets of
            the wanted stems. None: "ratio", or "direct" for a single stem, whose ratio mask
            would be 1 everywhere.
        exponent: of the estimates in a ratio mask, positive.
        mask_extension: the mask above the nets' highest bin: "zeros", or the "average" of the
            mask over their bins, as Spleeter's mask_extension.
        mwf_window_frames: length of the windows of a multichannel Wiener filter, which replaces
            the mask and runs every net; None: no such filter.
        overlap_frames: the nets process a song in parts; consecutive parts overlap by this many
            frames, and their estimates are cross-faded there. 0 as in Spleeter; at most half a
            part.
        residual: also return "residual", the mixture minus the wanted stems.
        instrumental: also return "instrumental", the mixture minus the vocals.

    Raises:
        UserError: no model, two models for one stem, models of different STFTs, a stem that no
            model has, a ratio mask of one stem, or options that exclude each other.
    """

    def __init__(
        self,
        models: Sequence[Nets],
        *,
        stems: Sequence[str] | None = None,
        mask: Mask | None = None,
        exponent: float = 2.0,
        mask_extension: MaskExtension = "zeros",
        mwf_window_frames: int | None = None,
        overlap_frames: int = 0,
        residual: bool = False,
        instrumental: bool = False,
    ) -> None:
        self._interface = common_interface([model.interface for model in models])
        known = self._interface.stems
        self._wanted = known if stems is None else tuple(stems)
        _check_stems(known, self._wanted)
        if instrumental and VOCALS not in known:
            raise UserError(
                f"{INSTRUMENTAL}: the models have no {VOCALS} to subtract: leave {INSTRUMENTAL} "
                "out or add such a model"
            )
        # The stems to compute: also the vocals where they are only subtracted.
        left_out = instrumental and VOCALS not in self._wanted
        self._inner = (*self._wanted, VOCALS) if left_out else self._wanted
        self._extras = (RESIDUAL,) * residual + (INSTRUMENTAL,) * instrumental
        self.stems = self._wanted + self._extras
        if mask is None and mwf_window_frames is None:
            mask = "ratio" if len(known) > 1 else "direct"
        elif mwf_window_frames is not None and (
            mask is not None or exponent != 2.0 or mask_extension != "zeros"
        ):
            raise UserError(
                "a Wiener filter does not use mask, exponent or mask_extension: leave them out"
            )
        if mask != "direct" and len(known) < 2:
            what = "ratio mask" if mask else "Wiener filter"
            raise UserError(
                f"a {what} of {known[0]} alone changes nothing: use mask=direct or more models"
            )
        _check_numbers(exponent, mwf_window_frames, overlap_frames, self._interface.frames)
        self._mask = mask
        self._exponent = exponent
        self._mask_extension = mask_extension
        self._mwf_window_frames = mwf_window_frames
        self._overlap_frames = overlap_frames
        needed = set(self._inner if mask == "direct" else known)
        self._models = [model for model in models if needed & set(model.interface.stems)]
        self._threads = ThreadPoolExecutor(max_workers=min(len(self._models), os.cpu_count() or 1))
        self._estimated = [stem for model in self._models for stem in model.interface.stems]

    @property
    def sample_rate_hz(self) -> int:
        """The rate that songs are separated at."""
        return self._interface.sample_rate_hz

    @property
    def framing(self) -> Framing:
        """Of the models' STFT."""
        return self._interface.framing

    @property
    def nets(self) -> int:
        """How many models are computed for the wanted stems."""
        return len(self._models)

    @classmethod
    def load(
        cls,
        models: Iterable[Path],
        *,
        runtime: Runtime | None = None,
        precision: Precision = "float32",
        max_frequency_hz: float | None = None,
        frames: int | None = None,
        threads: int | None = None,
        **options: Any,
    ) -> "Separator":
        """Loads models.

        Args:
            models: model directories, or .tflite files; see `find_models`.
            runtime: "tensorflow" for model directories; "litert" for .tflite files, which does
                not need TensorFlow; None: chosen by the models.
            precision: in which TensorFlow computes: "float32" or "bfloat16", which is faster
                only on CPUs that have instructions for it.
            max_frequency_hz: highest frequency that the nets process, rounded up to a size that
                they support; None: as trained. Only for TensorFlow: a .tflite file's bins are
                fixed.
            frames: number of frames that the nets process at once; None: as trained or exported.
            threads: of each model in LiteRT; None: models share the processor's cores. TensorFlow
                has its own.
            options: the constructor's.

        Raises:
            UserError: a folder or file is not a model, TensorFlow is not installed, the nets do
                not run on so many frames, or see the constructor.
        """
        models = list(models)
        if runtime is None:
            runtime = "litert" if any(path.suffix == ".tflite" for path in models) else "tensorflow"
        if runtime == "litert":
            if precision != "float32" or max_frequency_hz is not None:
                raise UserError(
                    "runtime=litert: the files fix precision and max_frequency_hz: leave them out "
                    "or use model directories"
                )
            from stemforge.eval.runtimes.litert import LiteRTNets

            threads = threads or max(1, (os.cpu_count() or 1) // max(1, len(models)))
            nets = [LiteRTNets(path, threads=threads, frames=frames) for path in models]
            return cls(nets, **options)
        if threads is not None:
            raise UserError("runtime=tensorflow: it has its own threads: leave threads out")
        for path in models:
            read_card(path)  # before TensorFlow loads, which takes seconds
        with needs("train", what=f"{models[0]}: a model directory" if models else "TensorFlow"):
            tensorflow.start()
            from stemforge.eval.runtimes.tensorflow import load_nets
        sizes: dict[str, Any] = {"max_frequency_hz": max_frequency_hz, "frames": frames}
        return cls([load_nets(f, precision=precision, **sizes) for f in models], **options)

    def separate(
        self,
        waveform: Waveform,
        *,
        sample_rate_hz: int,
        progress: Callable[[float], object] | None = None,
    ) -> dict[str, Waveform]:
        """Separates a song.

        Other rates are resampled to the models' rate and back. Mono is separated as two equal
        channels, and their mean is returned.

        Args:
            waveform: float32 [samples, 1 or 2], full scale at 1, finite.
            sample_rate_hz: its sampling rate.
            progress: called after each part with the seconds of the song that are done.

        Returns:
            float32 [samples, channels] per stem, of the input's shape.

        Raises:
            UserError: more than two channels, no samples, or samples that are not finite.
        """
        if len(waveform) == 0:
            raise UserError("no samples to separate")
        done_samples = 0

        def blocks() -> Iterator[Waveform]:
            nonlocal done_samples
            for start in range(0, len(waveform), BLOCK_SAMPLES):
                block = waveform[start : start + BLOCK_SAMPLES]
                done_samples = start + len(block)
                yield block

        parts: dict[str, list[Waveform]] = {stem: [] for stem in self.stems}
        for estimates in self.separate_stream(blocks(), sample_rate_hz=sample_rate_hz):
            for stem, part in estimates.items():
                parts[stem].append(part)
            if progress is not None:
                progress(done_samples / sample_rate_hz)
        return {stem: np.concatenate(found) for stem, found in parts.items()}

    def separate_stream(
        self, blocks: Iterable[Waveform], *, sample_rate_hz: int
    ) -> Iterator[dict[str, Waveform]]:
        """Separates a song block by block, in memory that does not grow with its length.

        The size of the blocks does not change the result.

        Args:
            blocks: float32 [samples, 1 or 2] each, full scale at 1, finite.
            sample_rate_hz: their sampling rate.

        Yields:
            float32 [samples, channels] per stem: after each block the samples that are ready,
            maybe none, and after the last block the rest. In total as long as the blocks.

        Raises:
            UserError: more than two channels, no samples at all, or samples that are not
                finite.
        """
        song: _Song | None = None
        for block in blocks:
            if not np.isfinite(block).all():
                raise UserError(f"{np.count_nonzero(~np.isfinite(block))} samples are not finite")
            if song is None and len(block):
                song = _Song(self, channels=block.shape[1], sample_rate_hz=sample_rate_hz)
            if song is not None:
                yield song.push(block)
        if song is None:
            raise UserError("no samples to separate")
        yield song.finish()

    def start(self) -> StereoSeparation:
        """Starts a song at the models' rate, in stereo."""
        interface = self._interface
        return StereoSeparation(
            self._estimate,
            self._filter(),
            wanted=len(self._inner),
            frames=interface.frames,
            bins=interface.bins,
            overlap_frames=self._overlap_frames,
            framing=interface.framing,
        )

    def start_live(
        self, *, hop: int, lookahead: int, channels: int, sample_rate_hz: int
    ) -> LiveSong:
        """Starts to separate sound while it arrives.

        Args:
            hop: see live.Window; its frames are those that the models process at once.
            lookahead: see live.Window.
            channels: of the sound, 1 or 2.
            sample_rate_hz: of the sound.

        Raises:
            UserError: more than two channels; hop or lookahead do not fit the frames; or a
                Wiener filter or overlapping parts are wanted, which need the sound that is still
                to come.
        """
        if channels not in (1, 2):
            raise UserError(f"{channels} channels: not supported; supported: mono and stereo")
        if self._mwf_window_frames is not None or self._overlap_frames:
            raise UserError(
                "live: a Wiener filter and overlapping parts need the sound that is still to "
                "come: leave them out"
            )
        interface = self._interface
        separation = LiveSeparation(
            self._estimate,
            self._filter(),
            wanted=len(self._inner),
            window=Window(interface.frames, hop, lookahead),
            bins=interface.bins,
            framing=interface.framing,
        )
        return LiveSong(
            separation,
            self.named,
            channels=channels,
            sample_rate_hz=sample_rate_hz,
            inside_hz=interface.sample_rate_hz,
        )

    def _filter(self) -> Filter:
        """From the estimates to the computed stems' spectra."""
        wanted = [self._estimated.index(stem) for stem in self._inner]
        if self._mwf_window_frames is not None:
            return WienerFilter(wanted, window_frames=self._mwf_window_frames)
        assert self._mask is not None
        return MaskFilter(
            wanted, mask=self._mask, exponent=self._exponent, extension=self._mask_extension
        )

    def _estimate(self, mixture: Estimates) -> Estimates:
        """Runs the nets that are needed: [frames, bins, 2] to [stems, frames, bins, 2]."""
        estimates = np.empty((len(self._estimated), *mixture.shape), np.float32)

        def run(model: Nets) -> None:
            for stem, found in model(mixture).items():
                estimates[self._estimated.index(stem)] = found

        # In parallel: several nets use several cores better than one net does.
        list(self._threads.map(run, self._models))
        return estimates

    def named(self, mixture: Waveform, inner: Sequence[Waveform]) -> dict[str, Waveform]:
        """Outputs by name, from the mixture and the separated stems."""
        found = dict(zip(self._inner, inner, strict=True))
        out = {stem: found[stem] for stem in self._wanted}
        if RESIDUAL in self._extras:
            out[RESIDUAL] = mixture - np.sum([found[stem] for stem in self._wanted], axis=0)
        if INSTRUMENTAL in self._extras:
            out[INSTRUMENTAL] = mixture - found[VOCALS]
        return out


def find_models(
    place: str | Path, *, runtime: Runtime | None = None, tflite: TFLiteFormat = "float32"
) -> list[Path]:
    """Finds the models for `Separator.load`.

    Args:
        place: a model directory or a folder of them (such as models/), a .tflite file or a
            folder of them (such as exports/, or what `fetch_model` returns).
        runtime: which one will run them. None: model directories if TensorFlow is installed, else
            .tflite files; where there are none, the other kind.
        tflite: format of the .tflite files; it does not matter where `place` is one.

    Returns:
        Model directories or .tflite files, sorted by name.

    Raises:
        UserError: there is neither.
    """
    place = Path(place)
    if runtime == "tensorflow":
        return find_model_folders(place)
    if runtime == "litert":
        return find_tflite(place, tflite)

    finds: list[Callable[[Path], list[Path]]]
    finds = [find_model_folders, functools.partial(find_tflite, kind=tflite)]
    if importlib.util.find_spec("tensorflow") is None or place.suffix == ".tflite":
        finds.reverse()
    for find in finds:
        with contextlib.suppress(UserError):
            return find(place)
    return find_model_folders(place)  # raises the error


def read_interface(model: Path) -> Interface:
    """Inputs and outputs of a model directory or a .tflite file.

    Raises:
        UserError: the path is neither.
    """
    if model.is_dir():
        return Interface.from_card(read_card(model))
    from stemforge.eval.runtimes import litert

    return litert.read_interface(model)


def common_interface(interfaces: Sequence[Interface]) -> Interface:
    """Inputs and outputs of several models together.

    Args:
        interfaces: of the models; they may differ only in the stems.

    Returns:
        One with all stems, in their order.

    Raises:
        UserError: no model, two models for one stem, or models of different STFTs.
    """
    if not interfaces:
        raise UserError("no model to separate with")
    first = interfaces[0]
    for other in interfaces[1:]:
        for field in dataclasses.fields(Interface):
            ours, theirs = getattr(first, field.name), getattr(other, field.name)
            if ours != theirs and field.name != "stems":
                raise UserError(
                    f"models differ: {field.name} is {ours} for {first.name}, {theirs} for "
                    f"{other.name}: use models with the same {field.name}"
                )
    stems = tuple(stem for interface in interfaces for stem in interface.stems)
    if len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise UserError(f"stem {twice!r}: two models have it: leave one of them out")
    return dataclasses.replace(first, stems=stems)


def _check_stems(known: Sequence[str], wanted: Sequence[str]) -> None:
    for stem in wanted:
        if stem not in known or wanted.count(stem) > 1:
            what = "named twice" if stem in known else "no model has it"
            raise UserError(f"stem {stem!r}: {what}: name some of {', '.join(known)}, each once")
    if not wanted:
        raise UserError(f"no stem to separate: name some of {', '.join(known)}")


def _check_numbers(exponent: float, mwf_window: int | None, overlap: int, frames: int) -> None:
    if exponent <= 0.0:
        raise UserError(f"exponent={exponent}: must be positive")
    if mwf_window is not None and mwf_window < 1:
        raise UserError(f"mwf_window_frames={mwf_window}: must be 1 or more")
    if not 0 <= overlap <= frames // 2:
        raise UserError(
            f"overlap_frames={overlap}: must be 0 to {frames // 2}, half of the {frames} frames "
            "that the nets process at once"
        )


class _Song:
    """Converts rates, channels and outputs for a StereoSeparation."""

    def __init__(self, separator: Separator, *, channels: int, sample_rate_hz: int) -> None:
        inside_hz = separator.sample_rate_hz
        self._separator = separator
        self._channels = channels
        self._into = Resampler(from_hz=sample_rate_hz, to_hz=inside_hz, channels=2)
        self._separation = separator.start()
        self._out = [
            Resampler(from_hz=inside_hz, to_hz=sample_rate_hz, channels=2)
            for _ in range(self._separation.wanted)
        ]
        self._mixture = [np.zeros((0, channels), np.float32)]  # not separated yet

    def push(self, block: Waveform) -> dict[str, Waveform]:
        self._mixture.append(block)
        ready = self._separation.push(self._into.push(as_stereo(block)))
        return self._named([r.push(part) for r, part in zip(self._out, ready, strict=True)])

    def finish(self) -> dict[str, Waveform]:
        last = self._separation.push(self._into.finish())
        rest = self._separation.finish()
        ends = []
        for resampler, *parts in zip(self._out, last, rest, strict=True):
            ends.append(
                np.concatenate([*(resampler.push(part) for part in parts), resampler.finish()])
            )
        return self._named(ends)

    def _named(self, parts: list[Waveform]) -> dict[str, Waveform]:
        mixture = np.concatenate(self._mixture)
        samples = min(len(parts[0]), len(mixture))  # resampling rounds up
        self._mixture = [mixture[samples:]]
        parts = [part[:samples] for part in parts]
        if self._channels == 1:
            parts = [part.mean(axis=1, keepdims=True) for part in parts]
        return self._separator.named(mixture[:samples], parts)
