"""Spleeter's own separation by nets of random weights.

Runs in Spleeter's environment, not ours (benchmarks/separate.py talks to it):

    python benchmarks/spleeter_separate.py make FOLDER
    python benchmarks/spleeter_separate.py serve FOLDER

`make` writes FOLDER/configuration.json and the checkpoint FOLDER/model/, which
`MODEL_PATH=FOLDER spleeter separate -p FOLDER/configuration.json` uses. `serve` says `ready`;
for each line with a number of seconds on its standard input it separates that much noise
with Spleeter's graph, built and loaded once, and prints the seconds that it took.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from spleeter.model import EstimatorSpecBuilder, InputProviderFactory
from spleeter_setup import AUDIO

PARAMS = {
    **AUDIO,
    "model_dir": "model",
    "separation_exponent": 2,
    "mask_extension": "zeros",
    "model": {
        "type": "unet.unet",
        "params": {"conv_activation": "ELU", "deconv_activation": "ELU"},
    },
}


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what else prints goes to standard error
    tf.compat.v1.disable_eager_execution()
    folder = Path(sys.argv[2])
    provider = InputProviderFactory.get(PARAMS)
    features = provider.get_input_dict_placeholders()
    outputs = EstimatorSpecBuilder(features, PARAMS).outputs
    saver = tf.compat.v1.train.Saver()
    with tf.compat.v1.Session() as session:
        if sys.argv[1] == "make":
            tf.compat.v1.train.create_global_step()
            session.run(tf.compat.v1.global_variables_initializer())
            (folder / "model").mkdir(parents=True)
            tf.compat.v1.train.Saver().save(session, str(folder / "model" / "model"))
            (folder / "model" / ".probe").write_text("OK")
            (folder / "configuration.json").write_text(json.dumps(PARAMS))
            return
        saver.restore(session, str(folder / "model" / "model"))
        noise = np.random.default_rng(0).uniform(-0.3, 0.3, (44100 * 600, 2)).astype(np.float32)
        print("ready", file=out, flush=True)
        for line in sys.stdin:
            waveform = noise[: int(line) * 44100]
            feed = provider.get_feed_dict(features, waveform, "noise")
            started = time.perf_counter()
            session.run(outputs, feed_dict=feed)
            print(time.perf_counter() - started, file=out, flush=True)


if __name__ == "__main__":
    main()
