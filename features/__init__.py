"""What a training example is, and every signal operation that more than one part needs.

- audio: files of sound, read and written
- corpus: songs and their stems: where they lie, and the manifest of what was decoded
- signal: STFT and masks, in NumPy and as TensorFlow graphs
- shards: features on disk: blocks, validity, encoding, TFRecords, the Beam transforms
"""
