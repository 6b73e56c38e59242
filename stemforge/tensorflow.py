"""The one quiet door to TensorFlow: what is about to use it calls `start` first.

Importing our modules that need TensorFlow loads it with its start-up log; importing this one
loads nothing.
"""

import os

from stemforge.quiet import quiet_stderr

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def start(*, logical_cpus: int | None = None, find_devices: bool = True) -> None:
    """Loads TensorFlow and finds its devices without its start-up log.

    TensorFlow reads its log level from the environment once, at its first message, and logs
    before it does; so its environment has the level, and file descriptor 2 is held back, until
    the first operation is done. A second call does nothing.

    Args:
        logical_cpus: how many devices the CPU becomes, which replicas can run on; it has to be
            known before the first operation.
        find_devices: run that first operation, which looks for devices. False where a strategy
            of several workers has to do it.

    Raises:
        ModuleNotFoundError: TensorFlow is not installed.
    """
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
