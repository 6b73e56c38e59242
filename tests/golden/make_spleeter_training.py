"""Writes spleeter-training.npz: three steps of Spleeter 2.4.2's own training graph.

Runs in an environment with spleeter==2.4.2 (Python 3.11), not in ours:

    python tests/golden/make_spleeter_training.py tests/golden/spleeter-training.npz

Weights and batches follow from rules (spleeter_rules.py), so that the file holds results
only: losses per step and stem, and of each gradient and of each weight after three steps a
few elements and two projections.
"""

import sys

import numpy as np
import tensorflow as tf
from spleeter.model import EstimatorSpecBuilder
from spleeter_rules import BATCH, BINS, FRAMES, LEARNING_RATE, STEMS, STEPS, batch, initial, summary

PARAMS = {
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
    "learning_rate": LEARNING_RATE,
    "model": {
        "type": "unet.unet",
        "params": {"conv_activation": "ELU", "deconv_activation": "ELU"},
    },
}


def main() -> None:
    tf.compat.v1.disable_eager_execution()
    shape = (BATCH, FRAMES, BINS, 2)
    inputs = {
        name: tf.compat.v1.placeholder(tf.float32, shape, name=name) for name in ("mix", *STEMS)
    }
    builder = EstimatorSpecBuilder({"mix_spectrogram": inputs["mix"]}, PARAMS)
    labels = {f"{stem}_spectrogram": inputs[stem] for stem in STEMS}
    outputs = builder.model_outputs
    model = tf.compat.v1.global_variables()  # before the optimizer adds its own
    loss, _ = builder._build_loss(labels)
    losses = [tf.reduce_mean(tf.abs(outputs[name] - labels[name])) for name in labels]
    optimizer = builder._build_optimizer()
    variables = tf.compat.v1.trainable_variables()
    gradients = optimizer.compute_gradients(loss, variables)
    used = [(g, v) for g, v in gradients if g is not None]
    train = optimizer.apply_gradients(used)
    results = {}
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        for variable in model:
            name = variable.name.split(":")[0]
            variable.load(initial(name, tuple(variable.shape)), session)
        for step in range(STEPS):
            feed = {tensor: batch(name, step) for name, tensor in inputs.items()}
            found, values = session.run([losses, [g for g, _ in used]], feed)
            results[f"losses {step}"] = np.array(found, np.float64)
            if step == 0:
                for (_, variable), value in zip(used, values, strict=True):
                    name = variable.name.split(":")[0]
                    results[f"gradient {name}"] = summary(name, value)
            session.run(train, feed)
        for _, variable in used:
            name = variable.name.split(":")[0]
            results[f"weight {name}"] = summary(name, session.run(variable))
    np.savez_compressed(sys.argv[1], **results)
    print(len(results), "arrays", sorted(results)[:6])


if __name__ == "__main__":
    main()
