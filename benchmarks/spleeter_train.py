"""Seconds of Spleeter's own training steps, input from its filled cache included.

Runs in Spleeter's environment, not ours (benchmarks/train_step.py talks to it):

    python benchmarks/spleeter_train.py TRAIN_CSV CACHE_FOLDER BATCH_SIZE

It says `ready`; for each line with a number of steps on its standard input it prints the
seconds that they took.
"""

import os
import sys
import time
from pathlib import Path

import tensorflow as tf
from spleeter.audio.adapter import AudioAdapter
from spleeter.dataset import DatasetBuilder
from spleeter.model import EstimatorSpecBuilder
from spleeter_setup import AUDIO

PARAMS = {
    **AUDIO,
    "separation_exponent": 2,
    "mask_extension": "zeros",
    "learning_rate": 1e-4,
    "model": {
        "type": "unet.unet",
        "params": {"conv_activation": "ELU", "deconv_activation": "ELU"},
    },
}


def main() -> None:
    csv, cache, batch = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what else prints goes to standard error
    tf.compat.v1.disable_eager_execution()
    builder = DatasetBuilder(PARAMS, AudioAdapter.default(), str(csv.parent), chunk_duration=20.0)
    dataset = builder.build(
        str(csv), batch_size=batch, n_chunks_per_song=12, cache_directory=str(cache / str(batch))
    )
    iterator = tf.compat.v1.data.make_initializable_iterator(dataset)
    features, labels = iterator.get_next()
    spec = EstimatorSpecBuilder(features, PARAMS)
    loss, _ = spec._build_loss(labels)
    train = spec._build_optimizer().minimize(loss)
    with tf.compat.v1.Session() as session:
        session.run([tf.compat.v1.global_variables_initializer(), iterator.initializer])
        for _ in range(4):
            session.run(train)  # fills the cache and the shuffle buffer
        print("ready", file=out, flush=True)
        for line in sys.stdin:
            started = time.perf_counter()
            for _ in range(int(line)):
                session.run(train)
            print(time.perf_counter() - started, file=out, flush=True)


if __name__ == "__main__":
    main()
