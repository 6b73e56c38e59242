"""The checksum that TensorFlow puts beside data: in TFRecord files and in checkpoints."""

import google_crc32c


def masked_crc(data: bytes) -> int:
    """CRC-32C of data, rotated and shifted so that it can itself be part of checked data.

    The mask is that of https://www.tensorflow.org/tutorials/load_data/tfrecord.
    """
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
