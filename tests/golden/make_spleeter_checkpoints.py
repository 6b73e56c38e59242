"""Writes small checkpoints by Spleeter 2.4.2's own graph, and what it estimates with them.

Runs in an environment with spleeter==2.4.2 (Python 3.11), not in ours:

    python tests/golden/make_spleeter_checkpoints.py tests/golden

makes spleeter-4stems/ and spleeter-5stems/: a TensorFlow 1 checkpoint of random weights (also
moving statistics that are not 0 and 1), the JSON configuration, and estimates.npz, all
stems' magnitudes for a random mixture.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from spleeter.model import EstimatorSpecBuilder
from spleeter_rules import ACTIVATIONS, CONFIGURATION, batch, initial, random

MODELS = {
    "spleeter-4stems": ("unet.unet", ["vocals", "drums", "bass", "other"]),
    "spleeter-5stems": ("unet.softmax_unet", ["vocals", "piano", "drums", "bass", "other"]),
}
FILTERS = [1, 2, 4, 8, 16, 32]  # a sixteenth of the released models' width


def configuration(kind: str, stems: list[str]) -> dict[str, object]:
    return {
        **CONFIGURATION,
        "instrument_list": stems,
        "model": {"type": kind, "params": {**ACTIVATIONS, "conv_n_filters": FILTERS}},
    }


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("moving_mean"):
        return random(name).uniform(-0.1, 0.1, shape).astype(np.float32)
    if name.endswith("moving_variance"):
        return random(name).uniform(0.5, 2.0, shape).astype(np.float32)
    return initial(name, shape)


def write(folder: Path, kind: str, stems: list[str]) -> None:
    tf.compat.v1.reset_default_graph()
    folder.mkdir(exist_ok=True)
    params = configuration(kind, stems)
    tf.compat.v1.train.create_global_step()
    mixture = tf.constant(batch("mix", 0))
    outputs = EstimatorSpecBuilder({"mix_spectrogram": mixture}, params).model_outputs
    saver = tf.compat.v1.train.Saver()
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        for variable in tf.compat.v1.global_variables():
            name = variable.name.split(":")[0]
            if name != "global_step":
                variable.load(value(name, tuple(variable.shape)), session)
        estimates = session.run(outputs)
        saver.save(session, str(folder / "model"), write_meta_graph=False)
    (folder / "checkpoint").write_text('model_checkpoint_path: "model"\n')
    (folder / "configuration.json").write_text(json.dumps(params, indent=2) + "\n")
    stored = {name.removesuffix("_spectrogram"): value for name, value in estimates.items()}
    np.savez_compressed(folder / "estimates.npz", **stored)


def main() -> None:
    tf.compat.v1.disable_eager_execution()
    for name, (kind, stems) in MODELS.items():
        write(Path(sys.argv[1]) / name, kind, stems)


if __name__ == "__main__":
    main()
