"""Starts TensorFlow without its log: code that is about to use TensorFlow calls `start` first.

Importing our modules that need TensorFlow loads it with its start-up log; importing this one
loads nothing.
"""

import os

from stemforge.quiet import quiet_stderr

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def start(*, logical_cpus: int | None = None, find_devices: bool = True) -> None:
    """Loads TensorFlow and finds its devices without its start-up log.

    TensorFlow reads its log level from the environment at its first message, and prints some lines
    before that. So the level is set in the environment, and file descriptor 2 is hidden until the
    first operation is done. A second call does nothing.

    Args:
        logical_cpus: into how many devices the CPU is divided, for replicas to run on. It cannot
            be changed after the first operation.
        find_devices: run a first operation, which looks for devices. False where a multi-worker
            strategy must run it.

    Raises:
        ModuleNotFoundError: TensorFlow is not installed.
    """
    home = os.path.expanduser("~")
    if home == "~" or not os.access(home, os.W_OK):
        # Keras writes its settings into a folder called ~ in the current one, or into /tmp; a
        # place that is no folder keeps it from that.
        os.environ.setdefault("KERAS_HOME", os.devnull)
    level = os.environ.get(LOG_LEVEL)
    os.environ.setdefault(LOG_LEVEL, "2")
    try:
        with quiet_stderr():
            import tensorflow as tf

            if logical_cpus is not None:
                tf.config.set_logical_device_configuration(
                    tf.config.list_physical_devices("CPU")[0],
                    [tf.config.LogicalDeviceConfiguration()] * logical_cpus,
                )
            if find_devices:
                tf.zeros(1)
    finally:
        if level is None:
            del os.environ[LOG_LEVEL]
