"""Conversion of what Deezer published with Spleeter.

- checkpoints: official checkpoints as models
- configuration: JSON configurations as nets and parameters
"""
