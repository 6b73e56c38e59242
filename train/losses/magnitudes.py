"""Losses of magnitudes: the distance between the estimates of a batch and the true stems.

Magnitudes are those of the STFT, not negative: a full-scale sine on a bin has 1024 with Spleeter's
4096 samples. A silent target is a target like others, unless a loss says otherwise.
"""

from typing import Any

import tensorflow as tf

# Magnitude, 120 dB below a full-scale sine: no bin below it decides anything.
FLOOR = 1e-3
# Magnitude that log_l1 adds, 80 dB below a full-scale sine: differences below it do not count.
LOG_FLOOR = 0.1
# Weights of the residual's energy and of its shape. Of two components: auralflow's alpha. Of
# three: those that Xu et al. trained with. (Auralflow's 0.2 and 0.8 leave nothing for the target.)
RESIDUAL_OF_2 = 0.2
RESIDUAL_OF_3, SHAPE_OF_3 = 0.1, 0.8
# Share of the residual's rms below which the shape of what is left of it fades out: -40 dB.
LEAST_RESIDUAL = 0.01
INSIDE = (1, 2, 3)  # all axes of a window


def l1(estimate: Any, target: Any) -> Any:
    """Mean absolute error, Spleeter's loss for one stem.

    Args:
        estimate: float32 [batch, frames, bins, channels], magnitudes.
        target: the same shape.

    Returns:
        float32 scalar, in units of magnitude.
    """
    return tf.reduce_mean(tf.abs(estimate - target))


def weighted_l1(estimate: Any, target: Any) -> Any:
    """Mean absolute error, each window weighted by its target's mean (Spleeter's weighted_L1_mask).

    Windows where the stem is silent have weight 0.

    Args:
        estimate: float32 [batch, frames, bins, channels], magnitudes.
        target: the same shape.

    Returns:
        float32 scalar, in units of magnitude squared.
    """
    weight = tf.reduce_mean(target, axis=[1, 2, 3], keepdims=True)
    return tf.reduce_mean(weight * tf.abs(estimate - target))


def l2(estimate: Any, target: Any) -> Any:
    """Mean squared error.

    Args:
        estimate: float32 [batch, frames, bins, channels], magnitudes.
        target: the same shape.

    Returns:
        float32 scalar, in units of magnitude squared: loud bins decide.
    """
    return tf.reduce_mean(tf.square(estimate - target))


def rmse(estimate: Any, target: Any) -> Any:
    """Root mean squared error of each window, and the mean over windows.

    sqrt(mean (e - t)^2 + FLOOR^2): a root of 0 would have no gradient. The gradient's norm is at
    most 1 / sqrt(number of values), so loud windows do not outweigh the others as in l2.

    Args:
        estimate: float32 [batch, frames, bins, channels], magnitudes.
        target: the same shape.

    Returns:
        float32 scalar, in units of magnitude; FLOOR for a perfect estimate.
    """
    error = tf.reduce_mean(tf.square(estimate - target), INSIDE)
    return tf.reduce_mean(tf.sqrt(error + FLOOR**2))


def log_l1(estimate: Any, target: Any) -> Any:
    """Mean absolute difference of log magnitudes, mean |ln(e + LOG_FLOOR) - ln(t + LOG_FLOOR)|.

    The log-scale STFT magnitude loss of Arik, Jun, Diamos: Fast spectrogram inversion using
    multi-head convolutional neural networks (IEEE Signal Processing Letters 2019). Quiet bins
    count as much as loud ones, down to LOG_FLOOR.

    Args:
        estimate: float32 [batch, frames, bins, channels], magnitudes.
        target: the same shape.

    Returns:
        float32 scalar, in nepers: 1 is 8.7 dB.
    """
    return tf.reduce_mean(tf.abs(tf.math.log((estimate + LOG_FLOOR) / (target + LOG_FLOOR))))


def mask(estimate: Any, target: Any, mixture: Any) -> Any:
    """Mean squared distance of the net's mask to the ideal ratio mask.

    mean (m - |Y| / |X|)^2, with the ideal mask clipped to [0, 1] (mask approximation: Erdogan,
    Hershey, Watanabe, Le Roux: Phase-sensitive and recognition-boosted speech separation using
    deep recurrent neural networks, ICASSP 2015). A bin counts however quiet it is; where the
    mixture is below FLOOR both masks are 0. A silent target asks for the mask 0.

    Args:
        estimate: float32 [batch, frames, bins, channels], magnitudes.
        target: the same shape.
        mixture: the same shape.

    Returns:
        float32 scalar without a unit, in [0, 1] for masks in [0, 1].
    """
    ideal = tf.clip_by_value(mask_of(target, mixture), 0.0, 1.0)
    return tf.reduce_mean(tf.square(mask_of(estimate, mixture) - ideal))


def mask_of(estimate: Any, mixture: Any) -> Any:
    """The mask that leads from the mixture to the estimate; 0 where the mixture is below FLOOR."""
    share = estimate / tf.maximum(mixture, FLOOR)
    return tf.where(mixture < FLOOR, tf.zeros_like(share), share)


def component_2(estimate: Any, target: Any, mixture: Any) -> Any:
    """Components loss of two terms: what the mask leaves of the target, and of the rest.

    mean (1 - a) (M Y - Y)^2 + a (M R)^2 with the residual R = X - Y, the net's mask M and
    a = RESIDUAL_OF_2. Xu, Elshamy, Zhao, Fingscheidt: Components loss for neural networks in
    mask-based speech enhancement (EURASIP Journal on Audio, Speech, and Music Processing 2021).
    The best mask is (1 - a) Y^2 / ((1 - a) Y^2 + a R^2), a Wiener filter's, so that a perfect
    estimate is not the minimum. A silent target asks for the mask 0.

    Args:
        estimate: float32 [batch, frames, bins, channels], magnitudes.
        target: the same shape.
        mixture: the same shape.

    Returns:
        float32 scalar, in units of magnitude squared; 0 for a silent mixture.
    """
    return _components(estimate, target, mixture, residual=RESIDUAL_OF_2, shape=0.0)


def component_3(estimate: Any, target: Any, mixture: Any) -> Any:
    """Components loss of three terms: component_2's, and the shape of what is left of the rest.

    mean (1 - a - b) (M Y - Y)^2 + a (M R)^2 + b (M R / rms(M R) - R / rms(R))^2 with
    a = RESIDUAL_OF_3 and b = SHAPE_OF_3. Xu et al. (component_2) divide by Euclidean norms; with
    a rms over the window instead, the third term is in [0, 4] for windows of all sizes, and does
    not vanish beside the others. Both squared rms have (LEAST_RESIDUAL rms(R))^2 + FLOOR^2 added:
    a silent residual has no shape, and gives 0.

    Args:
        estimate: float32 [batch, frames, bins, channels], magnitudes.
        target: the same shape.
        mixture: the same shape.

    Returns:
        float32 scalar, in units of magnitude squared; the third term has none.
    """
    return _components(estimate, target, mixture, residual=RESIDUAL_OF_3, shape=SHAPE_OF_3)


def _components(estimate: Any, target: Any, mixture: Any, *, residual: float, shape: float) -> Any:
    """The terms that both components losses have, and the third where it has a weight."""
    share, rest = mask_of(estimate, mixture), mixture - target
    left = share * rest
    kept = (1.0 - residual - shape) * tf.square(share * target - target)
    value = tf.reduce_mean(kept + residual * tf.square(left))
    if not shape:
        return value
    energy, energy_left = (
        tf.reduce_mean(tf.square(part), INSIDE, keepdims=True) for part in (rest, left)
    )
    least = LEAST_RESIDUAL**2 * energy + FLOOR**2
    change = left / tf.sqrt(energy_left + least) - rest / tf.sqrt(energy + least)
    return value + shape * tf.reduce_mean(tf.square(change))
