"""From the nets' estimates to the stems' spectra: masks, or a multichannel Wiener filter."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stemforge.eval.config import Mask, MaskExtension
from stemforge.eval.separation.wiener import wiener_filter
from stemforge.features.signal.masks import direct_mask, ratio_masks
from stemforge.features.signal.stft import FRAMES_AT_ONCE, Spectrum

Estimates = NDArray[np.float32]
# Spectra of the wanted stems, complex64 [frames, bins, 2], computed where they are used, so that
# threads share the work.
Spectra = Sequence[Callable[[], Spectrum]]


class Filter(Protocol):
    """Takes a song's frames in order, and returns the stems' frames in order, maybe later."""

    def push(self, spectrum: Spectrum, estimates: Estimates) -> list[Spectra]:
        """Takes complex64 [frames, bins, 2] and float32 [stems, frames, fewer bins, 2]."""
        ...

    def finish(self) -> list[Spectra]:
        """The remaining frames, after the last `push`."""
        ...


class MaskFilter:
    """Gives each stem a share of the mixture in each bin.

    Args:
        wanted: numbers of the stems to return.
        mask: "ratio" or "direct".
        exponent: of a ratio mask.
        extension: the mask above the estimates' bins.
    """

    def __init__(
        self, wanted: Sequence[int], *, mask: Mask, exponent: float, extension: MaskExtension
    ) -> None:
        self._wanted = wanted
        self._mask = mask
        self._exponent = exponent
        self._extension = extension

    def push(self, spectrum: Spectrum, estimates: Estimates) -> list[Spectra]:
        """Masks these frames, a few at a time."""
        parts = [slice(n, n + FRAMES_AT_ONCE) for n in range(0, len(spectrum), FRAMES_AT_ONCE)]
        return [self._masked(spectrum[part], estimates[:, part]) for part in parts]

    def _masked(self, spectrum: Spectrum, estimates: Estimates) -> Spectra:
        bins = estimates.shape[2]
        if self._mask == "ratio":
            masks = ratio_masks(estimates, exponent=self._exponent)
        else:
            mixture = np.abs(spectrum[:, :bins])
            masks = np.stack([direct_mask(estimate, mixture) for estimate in estimates])
        # Channels first, as the FFT needs them.
        channels = np.moveaxis(spectrum, -1, 0)

        def apply(stem: int) -> Spectrum:
            mask = np.moveaxis(masks[stem], -1, 0)
            out = np.zeros_like(channels, order="C")
            np.multiply(mask, channels[..., :bins], out=out[..., :bins])
            if self._extension == "average":
                average = mask.mean(axis=-1, keepdims=True)
                np.multiply(average, channels[..., bins:], out=out[..., bins:])
            return np.moveaxis(out, 0, -1)

        return [lambda stem=stem: apply(stem) for stem in self._wanted]  # type: ignore[misc]

    def finish(self) -> list[Spectra]:
        """Nothing: `push` has returned all frames."""
        return []


class WienerFilter:
    """Applies `wiener_filter` to consecutive windows of the song; the last may be shorter.

    Args:
        wanted: numbers of the stems to return.
        window_frames: length of a window.
    """

    def __init__(self, wanted: Sequence[int], *, window_frames: int) -> None:
        self._wanted = wanted
        self._window = window_frames
        self._held: list[tuple[Spectrum, Estimates]] = []
        self._frames = 0

    def push(self, spectrum: Spectrum, estimates: Estimates) -> list[Spectra]:
        """Filters the windows that are complete."""
        self._held.append((spectrum, estimates))
        self._frames += len(spectrum)
        return self._drain(self._frames // self._window * self._window)

    def finish(self) -> list[Spectra]:
        """Filters the last window."""
        return self._drain(self._frames)

    def _drain(self, frames: int) -> list[Spectra]:
        if not frames:
            return []
        spectrum = np.concatenate([held for held, _ in self._held])
        estimates = np.concatenate([held for _, held in self._held], axis=1)
        self._held = [(spectrum[frames:].copy(), estimates[:, frames:].copy())]
        self._frames -= frames
        return [
            self._filter(spectrum[part], estimates[:, part])
            for start in range(0, frames, self._window)
            for part in [slice(start, min(start + self._window, frames))]
        ]

    def _filter(self, spectrum: Spectrum, estimates: Estimates) -> Spectra:
        found = wiener_filter(estimates, spectrum)
        bins = estimates.shape[2]

        def extend(stem: int) -> Spectrum:
            out = np.zeros_like(spectrum)
            out[:, :bins] = found[stem]
            return out

        return [lambda stem=stem: extend(stem) for stem in self._wanted]  # type: ignore[misc]
