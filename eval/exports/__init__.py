"""SavedModel and TFLite files of nets, and the proof of what they compute.

- files: writing and running them
- parity: how far an export is from Keras
- bounds: how far it may be
- proof: measuring each file of a folder of exports against its bound
- vectors: golden vectors for ports to other languages
"""
