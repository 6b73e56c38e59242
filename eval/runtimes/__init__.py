"""Runs the nets: turns a model's files into a function from magnitudes to magnitudes.

- tensorflow: model directories
- litert: TFLite files, without TensorFlow
"""
