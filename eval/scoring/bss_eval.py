"""BSSEval v4: museval's numbers, many times faster.

Vincent, Gribonval, Févotte: Performance measurement in blind audio source separation (IEEE TASLP
2006); version 4, whose distortion filters are those of the whole track: Stöter, Liutkus, Ito: The
2018 Signal Separation Evaluation Campaign (LVA/ICA 2018).

An estimate is projected on all references, each delayed by 0 to filters_len - 1 samples, and on
its own reference alone. With s the reference, P the first projection, Q the second, e the estimate:

    SDR = |s|^2 / |e - s|^2        ISR = |s|^2 / |Q - s|^2
    SIR = |Q|^2 / |P - Q|^2        SAR = |P|^2 / |e - P|^2

It is faster than a direct implementation for three reasons. Correlations are computed for only a
thousand lags, from short blocks. All estimates share one factorisation. Projections and energies
of a frame are computed on its spectra (Parseval), which never return to the time domain.
"""

import functools
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stemforge.eval.config import NanPolicy
from stemforge.eval.scoring import rounding

Signal = NDArray[Any]  # float32 or float64 [samples, channels]
Signals = NDArray[Any] | Sequence[Signal]  # [sources, samples, channels], or one by one
Values = NDArray[np.float64]
Spectra = NDArray[np.complex128]
BLOCK = 2**14  # FFT length of the correlations
BLOCKS_AT_ONCE = 8


@dataclass(frozen=True)
class BssEval:
    """Scores in dB, each float64 [sources, frames]; NaN where a frame has none.

    Attributes:
        sdr: signal to distortion ratio.
        isr: image to spatial distortion ratio.
        sir: signal to interference ratio.
        sar: signal to artifacts ratio.
        undetermined: bool [sources, frames], where rounding decides: ISR, SIR or SAR of two correct
            programs, such as museval and this one, can differ by more than 1e-6 dB. SDR needs no
            filters and is never affected. False where a frame has no score.
    """

    sdr: Values
    isr: Values
    sir: Values
    sar: Values
    undetermined: NDArray[np.bool_]


def bss_eval(
    references: Signals,
    estimates: Signals,
    *,
    window: float,
    hop: float,
    filters_len: int = 512,
    framewise_filters: bool = False,
    nan_policy: NanPolicy = "museval",
    workers: int | None = None,
) -> BssEval:
    """Scores estimates of all sources of a track.

    Args:
        references: float [sources, samples, channels], or a sequence of [samples, channels],
            which saves the copy into one array.
        estimates: of the same shape.
        window: length of a frame in samples; with `samples` or more, or infinity, there is one
            frame.
        hop: distance between the starts of frames, in samples.
        filters_len: taps of the distortion filters.
        framewise_filters: separate filters for each frame, as in version 3.
        nan_policy: with "museval" no source has a score in a frame where the reference or estimate
            of any source is silent; with "per_source" only the silent source has none. A source
            that is silent throughout is NaN, and the others are scored without it; museval
            refuses it.
        workers: threads to use besides those of NumPy's BLAS; None: one per core.

    Returns:
        The same numbers as museval.metrics.bss_eval, for each source and frame, within 2e-6 dB
        where they are not undetermined.

    Raises:
        ValueError: the shapes differ or are not three-dimensional.
    """
    shapes = [[np.shape(signal) for signal in signals] for signals in (references, estimates)]
    if shapes[0] != shapes[1] or len({*shapes[0]}) != 1 or len(shapes[0][0]) != 2:
        raise ValueError(
            f"references {shapes[0]} and estimates {shapes[1]} must both be "
            "[sources, samples, channels]"
        )
    workers = workers or os.cpu_count() or 1
    pairs = [*zip(references, estimates, strict=True)]
    heard = [n for n, pair in enumerate(pairs) if not any(map(is_silent, pair))]
    parts = frames(len(references[0]), window=window, hop=hop)
    scores = np.full((4, len(references), len(parts)), np.nan)
    errors_db = np.zeros(scores.shape[1:])
    if heard:
        refs, ests = ([signals[n] for n in heard] for signals in (references, estimates))
        longest = max(part.stop - part.start for part in parts)
        size = scipy.fft.next_fast_len(longest + filters_len - 1, real=True)
        is_fitted = framewise_filters or parts == [slice(0, len(refs[0]))]
        make = functools.partial(_Filters.of, taps=filters_len, size=size, is_fitted=is_fitted)
        track = None if framewise_filters else make(refs, ests, workers=workers)

        def score(part: slice) -> tuple[Values, Values]:
            ref, est = ([signal[part] for signal in signals] for signals in (refs, ests))
            silent = [is_silent(r) or is_silent(e) for r, e in zip(ref, est, strict=True)]
            found, errors = np.full((4, len(refs)), np.nan), np.zeros(len(refs))
            if all(silent) or (any(silent) and nan_policy == "museval"):
                return found, errors
            filters = track or make(ref, est, workers=1)
            found, errors = _score_frame(ref, est, filters, size)
            found[:, silent], errors[silent] = np.nan, 0.0
            return found, errors

        with ThreadPoolExecutor(workers) as threads:
            for number, (found, errors) in enumerate(threads.map(score, parts)):
                scores[:, heard, number] = found
                errors_db[heard, number] = errors
    sdr, isr, sir, sar = scores
    # An error that is not a number is not below the limit either.
    return BssEval(sdr, isr, sir, sar, ~(errors_db < rounding.LIMIT_DB))


def frames(samples: int, *, window: float, hop: float) -> list[slice]:
    """The frames that are scored: whole frames, or a single one where the track is shorter."""
    if window >= samples:
        return [slice(0, samples)]
    count = math.floor((samples - window + hop) / hop)
    return [
        slice(math.floor(n * hop), math.floor(min(n * hop + window, samples))) for n in range(count)
    ]


def is_silent(signal: Signal) -> bool:
    """Whether a signal is silent by museval's definition: its channels cancel throughout.

    Args:
        signal: float [samples, channels].
    """
    # Most signals are in their first few samples.
    parts = (signal[n : n + BLOCK] for n in range(0, len(signal), BLOCK))
    return not any(np.any(part.sum(axis=-1)) for part in parts)


@dataclass(frozen=True)
class _Filter:
    """Distortion filters from some channels to others, and an error that rounding may cause.

    Attributes:
        response: complex128 [inputs, outputs, bins].
        error: complex128 [inputs, outputs, bands, bins of a band].
        gain: float64 [inputs, outputs], the most by which the error amplifies any signal.
        weights: float64 [outputs], see rounding.weights.
    """

    response: Spectra
    error: Spectra
    gain: Values
    weights: Values

    @classmethod
    def of(cls, gram: Values, cross: Values, size: int) -> "_Filter":
        """Of the equations between [channels, taps, ...]; `size` is the length of a frame's FFT."""
        channels, taps, outputs = cross.shape
        unknowns = channels * taps
        gram, cross = gram.reshape(unknowns, unknowns), cross.reshape(unknowns, outputs)
        found, error = _solve(gram, cross)
        weights = rounding.weights(gram, found)
        error *= weights
        error = error.reshape(channels, taps, outputs)
        bands = rounding.Bands.of(size, taps)
        return cls(
            _response(found.reshape(channels, taps, outputs), size),
            np.ascontiguousarray(bands.cut(_response(error, size))),
            np.abs(error).sum(axis=1),
            weights,
        )

    def apply(self, spectra: Spectra, outputs: slice) -> Spectra:
        """Filters [inputs, bins]."""
        filtered: Spectra = np.einsum("pqk,pk->qk", self.response[:, outputs], spectra)
        return filtered

    def apply_error(self, bands: Spectra, outputs: slice) -> Spectra:
        """Filters [inputs, bands, bins of a band] by the error."""
        filtered: Spectra = np.einsum("pqbk,pbk->qbk", self.error[:, outputs], bands)
        return filtered

    def largest_error(self, norms: Values, outputs: slice) -> float:
        """A bound of the norm of `apply_error` for inputs of these norms."""
        return float(np.linalg.norm(norms @ self.gain[:, outputs]))


ALL = slice(None)


@dataclass(frozen=True)
class _Filters:
    """Distortion filters of all estimates.

    Attributes:
        everyone: from all references to all estimates.
        own: for each source, from its reference to its estimate.
        bands: in which errors are estimated.
        taps: of a filter.
        is_fitted: whether they are fitted to the very frame that they are used for.
    """

    everyone: _Filter
    own: list[_Filter]
    bands: rounding.Bands
    taps: int
    is_fitted: bool

    @classmethod
    def of(
        cls,
        references: Signals,
        estimates: Signals,
        *,
        taps: int,
        size: int,
        is_fitted: bool,
        workers: int,
    ) -> "_Filters":
        """Computes them from whole signals; `size` is the length of a frame's FFT."""
        sources, channels = len(references), references[0].shape[1]
        count = sources * channels
        left = [source[:, channel] for source in references for channel in range(channels)]
        right = [source[:, channel] for source in estimates for channel in range(channels)]
        lags = correlations(left, right, reach=taps - 1, workers=workers)
        gram = np.empty((count, taps, count, taps))
        for p in range(count):
            for q in range(count):
                # <s_p delayed by a, s_q delayed by b> is their correlation at lag a - b.
                gram[p, :, q] = sliding_window_view(lags[p, q], taps)[:, ::-1]
        cross = lags[:, count:, taps - 1 :].swapaxes(1, 2)  # [p, tap, estimate]
        own = []
        for source in range(sources):
            part = slice(source * channels, (source + 1) * channels)
            own.append(_Filter.of(gram[part, :, part], cross[part, :, part], size))
        bands = rounding.Bands.of(size, taps)
        return cls(_Filter.of(gram, cross, size), own, bands, taps, is_fitted)

    def error_db(
        self, spectra: Spectra, source: int, parts: Sequence[Spectra], energies: Sequence[float]
    ) -> float:
        """How far rounding may shift one of ISR, SIR and SAR of a source in a frame.

        Args:
            spectra: of the references, [sources, channels, bins].
            source: its number.
            parts: Q - s, P - Q, e - P, Q and P, each [channels, bins].
            energies: theirs.
        """
        channels = spectra.shape[1]
        part = slice(source * channels, (source + 1) * channels)
        flat = spectra.reshape(-1, spectra.shape[-1])
        norms = np.array([math.sqrt(_energy(channel)) for channel in flat])
        bound = self.everyone.largest_error(norms, part)
        bound += self.own[source].largest_error(norms[part], ALL)
        if rounding.is_negligible(bound, min(energies)):
            return 0.0
        cut = self.bands.cut
        of_p = self.everyone.apply_error(cut(flat), part)
        of_q = self.own[source].apply_error(cut(spectra[source]), ALL)
        known: Sequence[float | None] = [None] * 5
        if self.is_fitted:  # e - P is orthogonal to the error of P
            by_p = rounding.level(len(flat) * self.taps) * _square(self.everyone.weights[part])
            by_q = rounding.level(channels * self.taps) * _square(self.own[source].weights)
            known = [by_q, by_p + by_q, 0.0, by_q, by_p]
        errors = (of_q, of_p - of_q, of_p, of_q, of_p)
        spatial, interference, artifacts, own, everyone = (
            rounding.energy_error_db(cut(signal), error, energy, step=self.bands.step, first=first)
            for signal, error, energy, first in zip(parts, errors, energies, known, strict=True)
        )
        return max(spatial, interference + own, artifacts + everyone)


def correlations(
    left: Sequence[NDArray[Any]], right: Sequence[NDArray[Any]], *, reach: int, workers: int = 1
) -> Values:
    """Sums over n of left[p, n] * (left and right)[q, n + lag], zeros outside.

    Args:
        left: float [samples] each.
        right: float [samples] each, as long.
        reach: the largest lag.
        workers: threads to use.

    Returns:
        float64 [left, left and right, 2 reach + 1], lags from -reach to reach.
    """
    samples, count = len(left[0]), len(left)
    signals = [*left, *right]
    size = max(BLOCK, scipy.fft.next_fast_len(4 * reach + 4, real=True))
    step = size - 2 * reach
    starts = range(0, samples, step)

    def spectra_of(group: Sequence[int]) -> Spectra:
        """Cross spectra of a few blocks, [left, left and right, bins]."""
        a = np.zeros((count, len(group), size))
        b = np.zeros((len(signals), len(group), size))
        for number, start in enumerate(group):
            begin = max(0, start - reach)
            offset = begin - (start - reach)
            for q, signal in enumerate(signals):
                piece = signal[begin : start + step + reach]
                b[q, number, offset : offset + len(piece)] = piece
                if q < count:
                    length = min(step, samples - start)
                    a[q, number, reach : reach + length] = signal[start : start + length]
        conjugate, other = scipy.fft.rfft(a).conj(), scipy.fft.rfft(b)
        found = np.zeros((count, len(signals), size // 2 + 1), np.complex128)
        for p in range(count):  # the rest by symmetry
            np.einsum("bf,qbf->qf", conjugate[p], other[p:], out=found[p, p:])
        return found

    groups = [starts[n : n + BLOCKS_AT_ONCE] for n in range(0, len(starts), BLOCKS_AT_ONCE)]
    with ThreadPoolExecutor(workers) as threads:
        total = np.zeros((count, len(signals), size // 2 + 1), np.complex128)
        for found in threads.map(spectra_of, groups):
            total += found
    circular = scipy.fft.irfft(total, n=size)
    lags = np.concatenate([circular[..., size - reach :], circular[..., : reach + 1]], axis=-1)
    for p in range(count):
        lags[p + 1 :, p] = lags[p, p + 1 : count, ::-1]
    return lags


def _solve(gram: Values, cross: Values) -> tuple[Values, Values]:
    """Solves (gram + eps I) x = cross, and with rounding.draw as right-hand side."""
    epsilon = np.finfo(float).eps  # museval's regularisation
    outputs = cross.shape[1]
    sides = np.concatenate([cross, rounding.draw(gram, outputs)], axis=1)
    factor = np.array(gram)
    factor.flat[:: len(gram) + 1] += epsilon
    # A symmetric matrix is its transpose, whose memory is laid out as LAPACK wants it.
    factor, failed = scipy.linalg.lapack.dpotrf(factor.T, lower=True, overwrite_a=True)
    if not failed:
        found = scipy.linalg.cho_solve((factor, True), sides)
    else:
        del factor
        try:
            found = np.linalg.solve(gram + epsilon * np.eye(len(gram)), sides)
        except np.linalg.LinAlgError:
            found = np.asarray(np.linalg.lstsq(gram, cross, rcond=None)[0], np.float64)
            return found, np.full_like(found, np.nan)
    found = np.asarray(found, np.float64)
    found, error = found[:, :outputs], found[:, outputs:]
    return found, error


def _score_frame(
    references: Signals, estimates: Signals, filters: _Filters, size: int
) -> tuple[Values, Values]:
    """SDR, ISR, SIR and SAR of one frame, float64 [4, sources], and their error in dB [sources]."""
    sources, channels = len(references), references[0].shape[1]
    s, e = (_spectra(signals, size) for signals in (references, estimates))
    flat = s.reshape(sources * channels, -1)
    scores, errors_db = np.empty((4, sources)), np.empty(sources)
    for source in range(sources):
        part = slice(source * channels, (source + 1) * channels)
        p = filters.everyone.apply(flat, part)
        q = filters.own[source].apply(s[source], ALL)
        parts = (q - s[source], p - q, e[source] - p, q, p)
        energies = [*map(_energy, parts)]
        spatial, interference, artifacts, own, everyone = energies
        true = _energy(s[source])
        scores[:, source] = (
            _decibels(true, _energy(e[source] - s[source])),
            _decibels(true, spatial),
            _decibels(own, interference),
            _decibels(everyone, artifacts),
        )
        errors_db[source] = filters.error_db(s, source, parts, energies)
    return scores, errors_db


def _spectra(signals: Signals, size: int) -> Spectra:
    """[sources, channels, bins], scaled so that energies are sums over bins (Parseval)."""
    waves = np.array([signal.T for signal in signals], dtype=np.float64)
    spectra = scipy.fft.rfft(waves, n=size, axis=-1)
    spectra *= math.sqrt(2.0 / size)  # a bin stands for its negative frequency too
    spectra[..., 0] *= math.sqrt(0.5)
    if size % 2 == 0:
        spectra[..., -1] *= math.sqrt(0.5)
    return spectra


def _response(taps: Values, size: int) -> Spectra:
    """[inputs, taps, outputs] to [inputs, outputs, bins]."""
    spectra: Spectra = scipy.fft.rfft(taps.swapaxes(1, 2), n=size, axis=-1)
    return spectra


def _energy(spectra: Spectra) -> float:
    values = np.ascontiguousarray(spectra).view(np.float64).ravel()
    return float(np.einsum("n,n->", values, values))  # BLAS would start threads for it


def _square(values: Values) -> float:
    return float(values @ values)


def _decibels(signal: float, error: float) -> float:
    if error == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / error) if signal > 0.0 else -math.inf
