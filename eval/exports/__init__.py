"""SavedModel and TFLite files of nets, and the proof that they compute the same as Keras.

- files: writing and running them
- parity: the difference between an export and Keras
- bounds: the largest allowed difference
- proof: measuring each file of a folder of exports
- vectors: golden vectors for ports to other languages
"""
