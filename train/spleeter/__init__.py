"""Conversion of what Deezer published with Spleeter.

- bundle: TensorFlow's checkpoints, read without TensorFlow
- checkpoints: official checkpoints as models
- configuration: JSON configurations as nets and parameters
"""
