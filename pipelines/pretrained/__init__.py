"""Models that are called by a name or an address, fetched once and kept on this machine.

- catalogue: the names: what each model is, and the checksums of what is downloaded
- sources: where Deezer's checkpoints come from
- converting: a checkpoint as TFLite files, without TensorFlow
- home: the folder that keeps them
- precision: which files, and which number format: int8 inside, where it is close enough
- places: from what a user names to a folder of models
- litertjs: LiteRT for browsers
- releases: releases of stemforge by their address
"""
