"""Training examples, and every signal operation that more than one package needs.

- audio: reading and writing audio files
- corpus: songs and their stems: finding them, decoding them, the manifest
- signal: STFT and masks, in NumPy and as TensorFlow graphs
- shards: features on disk: blocks, validity, encoding, TFRecords, the Beam transforms
"""
