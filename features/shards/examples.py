"""tf.train.Examples and TFRecord framing without TensorFlow, so that workers need none.

The messages are those of tensorflow/core/example/example.proto and feature.proto. The
framing of TFRecord is: length as uint64, masked CRC-32C of the length, data, masked CRC-32C
of the data, little endian (https://www.tensorflow.org/tutorials/load_data/tfrecord).
"""

import struct
from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from stemforge.checksums import masked_crc

FRAME_OVERHEAD_BYTES = 16
_Field = descriptor_pb2.FieldDescriptorProto


def _example_class() -> Any:
    """The Example message in a separate pool, so that it does not clash with TensorFlow's."""
    file = descriptor_pb2.FileDescriptorProto(
        name="example.proto", package="tensorflow", syntax="proto3"
    )

    def field(message: Any, name: str, number: int, kind: int, **more: Any) -> None:
        message.field.add(name=name, number=number, type=kind, **more)

    repeated, single = _Field.LABEL_REPEATED, _Field.LABEL_OPTIONAL
    for name, kind in (("BytesList", _Field.TYPE_BYTES), ("Int64List", _Field.TYPE_INT64)):
        field(file.message_type.add(name=name), "value", 1, kind, label=repeated)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    # Number 2, float_list, is not used here.
    for name, number, message in (("bytes_list", 1, "BytesList"), ("int64_list", 3, "Int64List")):
        field(
            feature, name, number, _Field.TYPE_MESSAGE,
            label=single, type_name=f".tensorflow.{message}", oneof_index=0,
        )  # fmt: skip
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    field(entry, "key", 1, _Field.TYPE_STRING, label=single)
    field(
        entry, "value", 2, _Field.TYPE_MESSAGE, label=single, type_name=".tensorflow.Feature"
    )  # fmt: skip
    field(
        features, "feature", 1, _Field.TYPE_MESSAGE,
        label=repeated, type_name=".tensorflow.Features.FeatureEntry",
    )  # fmt: skip
    field(
        file.message_type.add(name="Example"), "features", 1, _Field.TYPE_MESSAGE,
        label=single, type_name=".tensorflow.Features",
    )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


_Example = _example_class()


def make_example(fields: Mapping[str, bytes | int]) -> bytes:
    """Serialises a tf.train.Example; the same fields give the same bytes."""
    example = _Example()
    for name, value in fields.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.int64_list.value.append(value)
    return bytes(example.SerializeToString(deterministic=True))


def parse_example(data: bytes) -> dict[str, Any]:
    """Inverse of `make_example`."""
    example = _Example.FromString(data)
    return {
        name: (feature.bytes_list if feature.HasField("bytes_list") else feature.int64_list).value[
            0
        ]
        for name, feature in example.features.feature.items()
    }


def read_record(framed: bytes) -> dict[str, Any] | None:
    """The fields of a framed record, or None where it is damaged."""
    data = unframe_record(framed)
    try:
        return None if data is None else parse_example(data)
    except (DecodeError, IndexError):  # IndexError: a field without a value
        return None


def frame_record(data: bytes) -> bytes:
    """Wraps a record's data as a TFRecord file stores it."""
    return b"".join((_header(data), data, struct.pack("<I", masked_crc(data))))


def unframe_record(framed: bytes) -> bytes | None:
    """The data of a framed record, or None where its length or a checksum is wrong."""
    data = framed[12:-4]
    good = framed[:12] == _header(data) and framed[-4:] == struct.pack("<I", masked_crc(data))
    return data if good else None


def _header(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length))
