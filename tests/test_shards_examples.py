import struct
from pathlib import Path

import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from stemforge.checksums import masked_crc
from stemforge.features.shards.examples import (
    frame_record,
    make_example,
    parse_example,
    unframe_record,
)


@given(st.binary(max_size=50), st.integers(-(2**63), 2**63 - 1))
def test_examples_are_tensorflows(data: bytes, number: int) -> None:
    fields: dict[str, bytes | int] = {"values": data, "block": number}
    ours = make_example(fields)
    theirs = tf.train.Example.FromString(ours)
    assert theirs.features.feature["values"].bytes_list.value[0] == data
    assert theirs.features.feature["block"].int64_list.value[0] == number
    assert theirs.SerializeToString(deterministic=True) == ours
    assert parse_example(ours) == fields


def test_framing_is_tensorflows(tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "a")) as writer:
        writer.write(b"some bytes")
    framed = (tmp_path / "a").read_bytes()
    assert framed == frame_record(b"some bytes")
    assert struct.unpack("<I", framed[-4:])[0] == masked_crc(b"some bytes")


def test_every_changed_bit_is_found() -> None:
    framed = frame_record(b"data")
    assert unframe_record(framed) == b"data"
    for bit in range(8 * len(framed)):
        changed = bytearray(framed)
        changed[bit // 8] ^= 1 << bit % 8
        assert unframe_record(bytes(changed)) is None
    assert unframe_record(framed[:-1]) is None
    assert unframe_record(b"") is None
