"""Imports TensorFlow without its start-up log: import this before anything that needs it.

STEMFORGE_LOGICAL_CPUS makes so many devices of the CPU, which replicas can run on; it has to be
known before TensorFlow's first operation.
"""

import os

from pipelines.console import quiet_libraries, quiet_stderr

quiet_libraries()
with quiet_stderr():
    import tensorflow as tf

    if count := os.environ.get("STEMFORGE_LOGICAL_CPUS"):
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * int(count),
        )
    # The first operation looks for devices, and logs about GPUs that are not there.
    tf.zeros(1)

__all__ = ["tf"]
