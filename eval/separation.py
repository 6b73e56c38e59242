"""Separating a waveform into stems with trained nets, as Spleeter does it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eval.streaming import Resampler, StereoSeparation
from features.audio import as_stereo
from features.errors import UserError
from features.masks import direct_mask, ratio_masks
from features.stft import Framing, Spectrum, Waveform
from train.unet import Model, load_model

BLOCK_SAMPLES = 2**18  # 6 s: how often a whole song reports its progress
Mask = Literal["ratio", "direct"]
MaskExtension = Literal["zeros", "average"]


class Separator:
    """Trained nets, ready to separate songs.

    Args:
        models: of one stem or several each, all trained on the same STFT.
        stems: wanted ones, in the order of the result; None: all that the models have.
        mask: "ratio" gives each of two or more stems its share of the mixture and runs every
            net; "direct" uses a net's own mask, estimate / mixture, and runs the wanted stems'
            nets only. None: "ratio", or "direct" for a single stem, whose ratio mask would
            be 1 everywhere.
        exponent: of the estimates in a ratio mask, positive.
        mask_extension: what the mask is above the nets' highest bin: "zeros", or its "average"
            over their bins, as Spleeter's mask_extension.

    Raises:
        UserError: no model, two for one stem, models of different STFTs, a stem that no model
            has, or a ratio mask of one stem.
    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        stems: Sequence[str] | None = None,
        mask: Mask | None = None,
        exponent: float = 2.0,
        mask_extension: MaskExtension = "zeros",
    ) -> None:
        if not models:
            raise UserError("no model to separate with")
        known = tuple(stem for model in models for stem in model.stems)
        if len(set(known)) < len(known):
            raise UserError(f"two models for one stem among {', '.join(known)}")
        self.stems = known if stems is None else tuple(stems)
        for stem in self.stems:
            if stem not in known or self.stems.count(stem) > 1:
                raise UserError(f"stem {stem!r}: name once each of {', '.join(known)} at most")
        if not self.stems:
            raise UserError(f"no stem to separate: name some of {', '.join(known)}")
        self._mask: Mask = mask or ("ratio" if len(known) > 1 else "direct")
        if self._mask == "ratio" and len(known) < 2:
            raise UserError(
                f"a ratio mask of {known[0]} alone is 1 everywhere: use mask=direct or more models"
            )
        if exponent <= 0.0:
            raise UserError(f"exponent={exponent}: must be positive")
        self._exponent = exponent
        self._mask_extension = mask_extension
        first = models[0]
        for model in models[1:]:
            for name in ("frame_length_samples", "frame_step_samples", "sample_rate_hz"):
                ours, theirs = getattr(first, name), getattr(model, name)
                if ours != theirs:
                    raise UserError(
                        f"models differ: {name} is {ours} for {first.name}, "
                        f"{theirs} for {model.name}"
                    )
            if (first.net.frames, first.net.bins) != (model.net.frames, model.net.bins):
                raise UserError(
                    f"models differ: {first.name} takes {first.net.frames} x {first.net.bins}, "
                    f"{model.name} {model.net.frames} x {model.net.bins}"
                )
        self.sample_rate_hz = first.sample_rate_hz
        self._framing = Framing(first.frame_length_samples, first.frame_step_samples)
        self._frames, self._bins = first.net.frames, first.net.bins
        wanted = set(known if self._mask == "ratio" else self.stems)
        self._models = [model for model in models if wanted & set(model.stems)]

    @classmethod
    def load(cls, folders: Iterable[Path], **options: Any) -> "Separator":
        """Loads model directories; the options are the constructor's."""
        return cls([load_model(folder) for folder in folders], **options)

    def separate(
        self,
        waveform: Waveform,
        *,
        sample_rate_hz: int,
        progress: Callable[[float], object] | None = None,
    ) -> dict[str, Waveform]:
        """Separates a song.

        Other rates are resampled to the models' and back; mono is separated as two equal
        channels and returned as their mean.

        Args:
            waveform: float32 [samples, 1 or 2], full scale at 1, finite.
            sample_rate_hz: its sampling rate.
            progress: called after each part with the seconds of the song that are done.

        Returns:
            float32 [samples, channels] per stem, as long and as wide as the input.

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
        """Separates a song that comes block by block, in memory that does not grow with it.

        How the song is cut into blocks changes nothing.

        Args:
            blocks: float32 [samples, 1 or 2] each, full scale at 1, finite.
            sample_rate_hz: their sampling rate.

        Yields:
            float32 [samples, channels] per stem: what is ready after each block, which may be
            nothing, and the rest after the last. Together as long as the blocks.

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
        """Begins a song at the models' rate, in stereo."""
        return StereoSeparation(
            self._estimate, stems=len(self.stems), frames=self._frames, framing=self._framing
        )

    def _estimate(self, spectrum: Spectrum) -> list[Spectrum]:
        """Masked spectra of the wanted stems, complex64 [frames, bins, 2]."""
        low, high = spectrum[:, : self._bins], spectrum[:, self._bins :]
        mixture = np.abs(low)
        estimates = {stem: e[0] for stem, e in self.magnitudes(mixture[None]).items()}
        if self._mask == "ratio":
            shares = ratio_masks(np.stack(list(estimates.values())), exponent=self._exponent)
            masks = dict(zip(estimates, shares, strict=True))
        else:
            masks = {stem: direct_mask(estimates[stem], mixture) for stem in self.stems}
        out = []
        for stem in self.stems:
            mask = masks[stem]
            masked = np.zeros_like(spectrum)
            masked[:, : self._bins] = mask * low
            if self._mask_extension == "average":
                masked[:, self._bins :] = mask.mean(axis=1, keepdims=True) * high
            out.append(masked)
        return out

    def magnitudes(self, mixture: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Runs the nets that the masks need.

        Args:
            mixture: float32 [batch, frames, bins, 2], magnitudes, T and F of the nets.

        Returns:
            float32 [batch, frames, bins, 2] per stem.
        """
        estimates: dict[str, NDArray[np.float32]] = {}
        for model in self._models:
            found = model.keras_model(mixture, training=False)
            estimates |= {stem: np.asarray(found[stem]) for stem in model.stems}
        return estimates


class _Song:
    """Rates and channels around a StereoSeparation."""

    def __init__(self, separator: Separator, *, channels: int, sample_rate_hz: int) -> None:
        inside_hz = separator.sample_rate_hz
        self._stems = separator.stems
        self._mono = channels == 1
        self._into = Resampler(from_hz=sample_rate_hz, to_hz=inside_hz, channels=2)
        self._separation = separator.start()
        self._out = [
            Resampler(from_hz=inside_hz, to_hz=sample_rate_hz, channels=2) for _ in self._stems
        ]
        self._samples = 0  # in
        self._done = 0  # out

    def push(self, block: Waveform) -> dict[str, Waveform]:
        self._samples += len(block)
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
        parts = [part[: self._samples - self._done] for part in parts]  # resampling rounds up
        self._done += len(parts[0])
        if self._mono:
            parts = [part.mean(axis=1, keepdims=True) for part in parts]
        return dict(zip(self._stems, parts, strict=True))
