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
