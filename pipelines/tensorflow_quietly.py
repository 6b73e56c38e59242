"""Imports TensorFlow without its start-up log: import this before anything that needs it."""

from pipelines.console import quiet_libraries, quiet_stderr

quiet_libraries()
with quiet_stderr():
    import tensorflow as tf

    # The first operation looks for devices, and logs about GPUs that are not there.
    tf.zeros(1)

__all__ = ["tf"]
