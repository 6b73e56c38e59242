"""The features folder: written from a song's blocks, read by training.

- blocks: how songs are cut into blocks and assigned to shards
- validity: which tracks and blocks are kept, and why not
- encoding: how magnitudes and phases are stored
- encoding_tf: decoding in a TensorFlow graph
- examples: tf.train.Example and the framing of TFRecord files
- records: names and files of a features folder
- writing: computing one shard
- reading: a finished features folder, read by offset
- beam: the feature job's transforms
- workers: what a worker must share with the launcher: versions, code, places
- verification: checks of a features folder against its info.json
"""
