"""Imports TensorFlow without its start-up log: import this before anything that needs it.

STEMFORGE_LOGICAL_CPUS makes so many devices of the CPU, which replicas can run on; it has to be
known before TensorFlow's first operation. So has the strategy of several workers, which TF_CONFIG
tells of: where that is set, the first operation is left to it.
"""

import os

from stemforge.pipelines.console import fail, quiet_libraries, quiet_stderr

LOGICAL_CPUS = os.environ.get("STEMFORGE_LOGICAL_CPUS")
if LOGICAL_CPUS and not (LOGICAL_CPUS.isdecimal() and int(LOGICAL_CPUS)):
    raise SystemExit(fail(f"STEMFORGE_LOGICAL_CPUS={LOGICAL_CPUS}: must be 1, 2, ..."))
quiet_libraries()
with quiet_stderr():
    import tensorflow as tf

    if LOGICAL_CPUS:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * int(LOGICAL_CPUS),
        )
    if "TF_CONFIG" not in os.environ:
        # The first operation looks for devices, and logs about GPUs that are not there.
        tf.zeros(1)

__all__ = ["tf"]
