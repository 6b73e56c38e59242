"""Separating a waveform into stems with trained nets, as Spleeter does it."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.audio import as_stereo, resample
from features.errors import UserError
from features.masks import direct_mask, ratio_masks
from features.stft import Framing, Spectrum, Waveform, inverse_stft, stft
from train.unet import Model, load_model


class Separator:
    """Trained nets, ready to separate songs.

    With two or more stems each gets its share of the mixture by a ratio mask; a single one
    uses its own mask, estimate / mixture, since a ratio mask would be 1 everywhere.

    Args:
        models: of one stem or several each, all trained on the same STFT.

    Raises:
        UserError: no model, two for one stem, or models of different STFTs.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        if not models:
            raise UserError("no model to separate with")
        self.stems = tuple(stem for model in models for stem in model.stems)
        if len(set(self.stems)) < len(self.stems):
            raise UserError(f"two models for one stem among {', '.join(self.stems)}")
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
        self._models = list(models)

    @classmethod
    def load(cls, folders: Iterable[Path]) -> "Separator":
        """Loads model directories."""
        return cls([load_model(folder) for folder in folders])

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
        samples, channels = waveform.shape
        if samples == 0:
            raise UserError("no samples to separate")
        if not np.isfinite(waveform).all():
            raise UserError(f"{np.count_nonzero(~np.isfinite(waveform))} samples are not finite")
        stereo = resample(as_stereo(waveform), from_hz=sample_rate_hz, to_hz=self.sample_rate_hz)
        separated = self._separate_stereo(stereo, progress or (lambda _: None))
        out = {}
        for stem, estimate in zip(self.stems, separated, strict=True):
            estimate = resample(estimate, from_hz=self.sample_rate_hz, to_hz=sample_rate_hz)
            estimate = estimate[:samples]
            out[stem] = estimate.mean(axis=1, keepdims=True) if channels == 1 else estimate
        return out

    def _separate_stereo(
        self, waveform: Waveform, progress: Callable[[float], object]
    ) -> list[Waveform]:
        """Part by part of T frames; memory beside the songs is that of one part."""
        framing, samples = self._framing, len(waveform)
        length, step = framing.length_samples, framing.step_samples
        # Spleeter puts one window of zeros in front and lets a frame start at every hop
        # that begins before the end; whole parts of T frames, so zeros behind as well.
        frames = -(-(length + samples) // step)
        parts = -(-frames // self._frames)
        padded = np.zeros((framing.span(parts * self._frames), 2), np.float32)
        padded[length : length + samples] = waveform
        outs = [np.zeros_like(padded) for _ in self.stems]
        for part in range(parts):
            start = part * self._frames * step
            span = slice(start, start + framing.span(self._frames))
            spectrum = stft(padded[span], framing)
            for out, estimate in zip(outs, self._estimate(spectrum), strict=True):
                out[span] += inverse_stft(estimate, framing)
            progress(min((part + 1) * self._frames * step, samples) / self.sample_rate_hz)
        return [out[length : length + samples] for out in outs]

    def _estimate(self, spectrum: Spectrum) -> list[Spectrum]:
        """Masked spectra, complex64 [frames, bins, 2]; bins above F are zero."""
        low = spectrum[:, : self._bins]
        mixture = np.abs(low)
        estimates = self.magnitudes(mixture[None])[:, 0]
        if len(estimates) > 1:
            masks = ratio_masks(estimates)
        else:
            masks = direct_mask(estimates, mixture[None])
        masked = np.zeros((len(estimates), *spectrum.shape), np.complex64)
        masked[:, :, : self._bins] = masks * low
        return list(masked)

    def magnitudes(self, mixture: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs every net.

        Args:
            mixture: float32 [batch, frames, bins, 2], magnitudes, T and F of the nets.

        Returns:
            float32 [stems, batch, frames, bins, 2].
        """
        estimates = []
        for model in self._models:
            found = model.keras_model(mixture, training=False)
            estimates += [np.asarray(found[stem]) for stem in model.stems]
        return np.stack(estimates)
