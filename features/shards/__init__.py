"""Features on disk, from a song's blocks to what training reads.

- blocks: how songs are cut and dealt out to shards
- validity: which tracks and blocks are fit for training
- encoding: how magnitudes and phases are stored
- encoding_tf: decoding in a TensorFlow graph
- examples: tf.train.Example and the framing of TFRecord files
- records: names and files of a features folder
- writing: computing one shard
- reading: a finished features folder, read by offset
- beam: the feature job's transforms
- verification: a features folder against its own account
"""
