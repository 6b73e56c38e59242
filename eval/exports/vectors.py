"""Golden vectors: what a port to another language must compute for a short clip, step by step."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stemforge.eval.separation.separator import Nets, Separator
from stemforge.features.signal.masks import direct_mask, ratio_masks
from stemforge.features.signal.stft import Waveform, magnitude_stft

VECTORS = "vectors"  # their folder among exports


def write_vectors(folder: Path, waveform: Waveform, models: Sequence[Nets]) -> None:
    """Writes a clip, its magnitudes, estimates, masks and separated stems.

    As vectors.npz, and each array also as NAME.f32, little-endian float32 in C order:

        waveform            [samples, 2]
        magnitude           [segments * frames, bins, 2], the last segment padded with zeros
        estimate_STEM       the same shape, the nets' output
        mask_STEM           the same shape, by Separator's defaults
        output_STEM         [samples, 2], Separator's output

    vectors.txt lists stems, frames, bins, frame_length_samples, frame_step_samples,
    sample_rate_hz, and the arrays' shapes.

    Args:
        folder: an existing folder.
        waveform: float32 [samples, 2], at the models' rate.
        models: nets of all stems.
    """
    interface = models[0].interface
    framing, frames = interface.framing, interface.frames
    length = framing.length_samples
    segments = -(-framing.cover(len(waveform)) // frames)
    padded = np.zeros((framing.span(segments * frames), 2), np.float32)
    padded[length : length + len(waveform)] = waveform
    magnitude = magnitude_stft(padded, framing, bins=interface.bins)
    parts: dict[str, list[np.ndarray]] = {}
    for mixture in np.split(magnitude, segments):
        for model in models:
            for stem, estimate in model(mixture).items():
                parts.setdefault(stem, []).append(estimate)
    estimates = {stem: np.concatenate(found) for stem, found in parts.items()}
    if len(estimates) > 1:
        masks = dict(zip(estimates, ratio_masks(np.stack([*estimates.values()])), strict=True))
    else:
        masks = {stem: direct_mask(e, magnitude) for stem, e in estimates.items()}
    outputs = Separator(models).separate(waveform, sample_rate_hz=interface.sample_rate_hz)
    arrays = {"waveform": waveform, "magnitude": magnitude}
    for kind, found in (("estimate", estimates), ("mask", masks), ("output", outputs)):
        arrays |= {f"{kind}_{stem}": values for stem, values in found.items()}
    lines = [" ".join(["stems", *estimates])]
    for name in ("frames", "bins", "frame_length_samples", "frame_step_samples", "sample_rate_hz"):
        lines.append(f"{name} {getattr(interface, name)}")
    for name, values in arrays.items():
        little = np.ascontiguousarray(values, "<f4")
        (folder / f"{name}.f32").write_bytes(little.tobytes())
        lines.append(" ".join(["array", name, *map(str, values.shape)]))
    (folder / "vectors.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    np.savez(folder / "vectors.npz", allow_pickle=False, **arrays)
