"""Writes spleeter-separation.npz: waveforms as Spleeter 2.4.2's own graph separates them.

Runs in an environment with spleeter==2.4.2 (Python 3.11), not in ours:

    python tests/golden/make_spleeter_separation.py tests/golden/spleeter-separation.npz

Small nets of two stems at the -16kHz models' 1536 bins, weights and waveforms by rule
(spleeter_rules.py); every seventh sample of each estimate is kept.
"""

import sys
from typing import Any

import numpy as np
import tensorflow as tf
from spleeter.model import EstimatorSpecBuilder
from spleeter_rules import (
    ACTIVATIONS,
    CONFIGURATION,
    SEPARATION_BINS,
    SEPARATION_FILTERS,
    SEPARATION_FRAMES,
    SEPARATIONS,
    initial,
    waveform,
)

PARAMS = {
    **CONFIGURATION,
    "T": SEPARATION_FRAMES,
    "F": SEPARATION_BINS,
    "model": {
        "type": "unet.unet",
        "params": {**ACTIVATIONS, "conv_n_filters": SEPARATION_FILTERS},
    },
}


def main() -> None:
    tf.compat.v1.disable_eager_execution()
    results: dict[str, Any] = {}
    for samples, extension, exponent in SEPARATIONS:
        tf.compat.v1.reset_default_graph()
        features = {"waveform": tf.constant(waveform(samples))}
        params = {**PARAMS, "mask_extension": extension, "separation_exponent": exponent}
        outputs = EstimatorSpecBuilder(features, params).outputs
        with tf.compat.v1.Session() as session:
            for variable in tf.compat.v1.global_variables():
                name = variable.name.split(":")[0]
                variable.load(initial(name, tuple(variable.shape)), session)
            for stem, estimate in session.run(outputs).items():
                key = f"{samples} {extension} {exponent} {stem}"
                results[f"{key} length"] = np.array(len(estimate))
                results[key] = estimate[::7]
    np.savez_compressed(sys.argv[1], **results)


if __name__ == "__main__":
    main()
