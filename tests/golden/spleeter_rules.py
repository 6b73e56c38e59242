"""Weights and batches of the training that make_spleeter_training.py and its test both run."""

import zlib

import numpy as np

FRAMES = BINS = 64
BATCH = 2
STEPS = 3
STEMS = ("vocals", "accompaniment")
# Adadelta takes no rate from Spleeter's configuration: TensorFlow 1's default.
LEARNING_RATES = {"Adam": 1e-4, "Adadelta": 1e-3, "SGD": 1e-2}
# Spleeter's names of model, loss and optimizer.
VARIANTS = {
    "adam": ("unet.unet", "L1_mask", "Adam"),
    "weighted": ("unet.unet", "weighted_L1_mask", "Adam"),
    "adadelta": ("unet.unet", "L1_mask", "Adadelta"),
    "sgd": ("unet.unet", "L1_mask", "SGD"),
    "softmax": ("unet.softmax_unet", "L1_mask", "Adam"),
}


CONFIGURATION = {
    "mix_name": "mix",
    "instrument_list": list(STEMS),
    "sample_rate": 44100,
    "frame_length": 4096,
    "frame_step": 1024,
    "T": FRAMES,
    "F": BINS,
    "n_channels": 2,
    "separation_exponent": 2,
    "mask_extension": "zeros",
}
ACTIVATIONS = {"conv_activation": "ELU", "deconv_activation": "ELU"}


def random(name: str) -> np.random.Generator:
    """Numbers that depend on a name alone."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def initial(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A variable's initial value."""
    part = name.rsplit("/", 1)[1]
    if part in ("moving_mean", "moving_variance"):  # as in every model Deezer released
        return np.full(shape, float(part == "moving_variance"), np.float32)
    if part == "gamma":
        return random(name).uniform(0.5, 1.5, shape).astype(np.float32)
    limit = np.sqrt(6 / np.prod(shape[:-1])) if part == "kernel" else 0.1
    return random(name).uniform(-limit, limit, shape).astype(np.float32)


def batch(name: str, step: int) -> np.ndarray:
    """Magnitudes of a source, float32 [batch, frames, bins, 2]."""
    values = random(f"{name} {step}").exponential(size=(BATCH, FRAMES, BINS, 2))
    return values.astype(np.float32)


def summary(name: str, values: np.ndarray) -> np.ndarray:
    """Ten elements and two projections of an array, float64 [12]."""
    flat = values.astype(np.float64).ravel()
    draw = random(f"{name} summary")
    picks = draw.integers(0, flat.size, 10)
    directions = draw.standard_normal((2, flat.size)) / np.sqrt(flat.size)
    return np.concatenate([flat[picks], directions @ flat])


SEPARATION_FRAMES, SEPARATION_BINS = 64, 1536
SEPARATION_FILTERS = [1, 2, 4, 8, 16, 32]
# Samples, mask extension, exponent: one sample, less than a window, just over one part.
SEPARATIONS = (
    (1, "zeros", 2),
    (4095, "zeros", 2),
    (61441, "zeros", 2),
    (61441, "average", 2),
    (61441, "average", 1),
)


def waveform(samples: int) -> np.ndarray:
    """Noise that rises and falls, float32 [samples, 2]."""
    noise = random("waveform").uniform(-0.5, 0.5, (70_000, 2))[:samples]
    return (noise * np.cos(np.arange(samples) / 5000)[:, None]).astype(np.float32)


def official_names(number: int) -> dict[str, str]:
    """Name in the checkpoint of each of our layers of the stem with that number."""

    def name(layer: str, index: int) -> str:
        return f"{layer}_{index}" if index else layer

    names = {"mask": name("conv2d", 7 * number + 6)}
    for level in range(6):
        names[f"encoder_{level}"] = name("conv2d", 7 * number + level)
        names[f"decoder_{level}"] = name("conv2d_transpose", 6 * number + level)
        names[f"encoder_norm_{level}"] = name("batch_normalization", 12 * number + level)
        names[f"decoder_norm_{level}"] = name("batch_normalization", 12 * number + 6 + level)
    return names


def official(path: str, stems: tuple[str, ...]) -> str:
    """Name in the checkpoint of a weight of a model of those stems."""
    stem = next((s for s in stems if path.startswith(f"{s}_")), stems[0])
    layer, part = path.removeprefix(f"{stem}_").split("/")
    return f"{official_names(STEMS.index(stem))[layer]}/{part}"
