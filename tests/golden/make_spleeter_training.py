"""Writes spleeter-training.npz: three steps of Spleeter 2.4.2's own training graph.

Runs in an environment with spleeter==2.4.2 (Python 3.11), not in ours:

    python tests/golden/make_spleeter_training.py tests/golden/spleeter-training.npz

Weights and batches follow from rules (spleeter_rules.py), so that the file holds results
only: for each variant losses per step and stem, and of each gradient and of each weight
after three steps a few elements and two projections; of each kernel as Spleeter initialises
it, its largest magnitude and its standard deviation.
"""

import sys
from typing import Any

import numpy as np
import spleeter.model
import tensorflow as tf
from spleeter.model import EstimatorSpecBuilder
from spleeter_rules import (
    ACTIVATIONS,
    BATCH,
    BINS,
    CONFIGURATION,
    FRAMES,
    LEARNING_RATES,
    STEMS,
    STEPS,
    VARIANTS,
    batch,
    initial,
    summary,
)


class Tensorflow1Names:
    """TensorFlow with reduce_mean's old argument name, which weighted_L1_mask still uses.

    Without it Spleeter 2.4.2 raises a TypeError for this loss on its own TensorFlow.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(tf, name)

    def reduce_mean(self, values: Any, axis: Any = None, keep_dims: bool = False) -> Any:
        return tf.reduce_mean(values, axis=axis, keepdims=keep_dims)


def run(variant: str) -> dict[str, np.ndarray]:
    model, loss_type, optimizer = VARIANTS[variant]
    tf.compat.v1.reset_default_graph()
    shape = (BATCH, FRAMES, BINS, 2)
    inputs = {
        name: tf.compat.v1.placeholder(tf.float32, shape, name=name) for name in ("mix", *STEMS)
    }
    params = {
        **CONFIGURATION,
        "model": {"type": model, "params": ACTIVATIONS},
        "loss_type": loss_type,
        "optimizer": optimizer,
        "learning_rate": LEARNING_RATES[optimizer],
    }
    builder = EstimatorSpecBuilder({"mix_spectrogram": inputs["mix"]}, params)
    labels = {f"{stem}_spectrogram": inputs[stem] for stem in STEMS}
    _ = builder.model_outputs
    variables = tf.compat.v1.global_variables()  # before the optimizer adds its own
    loss, _ = builder._build_loss(labels)
    train_op = builder._build_optimizer()
    trainable = tf.compat.v1.trainable_variables()
    used = [(g, v) for g, v in train_op.compute_gradients(loss, trainable) if g is not None]
    train = train_op.apply_gradients(used)
    results = {}
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        for variable in variables:
            name = variable.name.split(":")[0]
            if variant == "adam" and name.endswith("kernel"):
                drawn = session.run(variable)
                results[f"initial {name}"] = np.array([np.abs(drawn).max(), drawn.std()])
            variable.load(initial(name, tuple(variable.shape)), session)
        for step in range(STEPS):
            feed = {tensor: batch(name, step) for name, tensor in inputs.items()}
            found, values = session.run([loss, [g for g, _ in used]], feed)
            results[f"loss {step}"] = np.array(found, np.float64)
            if step == 0 and optimizer == "Adam":  # the others have the same
                for (_, variable), value in zip(used, values, strict=True):
                    name = variable.name.split(":")[0]
                    results[f"gradient {name}"] = summary(name, value)
            session.run(train, feed)
        for _, variable in used:
            name = variable.name.split(":")[0]
            results[f"weight {name}"] = summary(name, session.run(variable))
            if optimizer == "Adadelta":  # its first steps are below float32's last digits
                for slot in ("accum", "accum_update"):
                    value = session.run(train_op.get_slot(variable, slot))
                    results[f"{slot} {name}"] = summary(name, value)
    return {f"{variant} {name}": value for name, value in results.items()}


def main() -> None:
    tf.compat.v1.disable_eager_execution()
    spleeter.model.tf = Tensorflow1Names()
    results: dict[str, Any] = {}
    for variant in VARIANTS:
        results |= run(variant)
    np.savez_compressed(sys.argv[1], **results)
    print(len(results), "arrays", sorted(results)[:6])


if __name__ == "__main__":
    main()
