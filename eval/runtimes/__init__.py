"""What runs the nets: a model's files to a function from magnitudes to magnitudes.

- tensorflow: model directories
- litert: TFLite files, without TensorFlow
"""
