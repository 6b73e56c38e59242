"""TFLite files with their layers' weights in float16, which are half as long to download.

A page makes float32 of them again before it loads the file: LiteRT.js 2.5.3 runs float32 eight
times as fast as a file that stores float16 itself, since its delegate takes no such weights.
"""

from collections.abc import Iterator

import numpy as np
from ai_edge_litert import schema_py_generated as schema

# Operators whose second input are weights.
LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
Ranges = list[tuple[int, int]]


def halve_weights(file: bytes) -> tuple[bytes, Ranges]:
    """Takes the layers' weights out of a TFLite file, and adds them at its end in float16.

    Args:
        file: whose layers have weights in float32.

    Returns:
        The shorter file: all other bytes in their order, and then the weights as little-endian
        float16. And where the weights were in the file: offsets and lengths in bytes, ascending.
    """
    ranges = sorted(set(_weights(file)))
    rest, halves, end = [], [], 0
    for offset, length in ranges:
        rest.append(file[end:offset])
        end = offset + length
        halves.append(np.frombuffer(file[offset:end], "<f4").astype("<f2").tobytes())
    return b"".join([*rest, file[end:], *halves]), ranges


def _weights(file: bytes) -> Iterator[tuple[int, int]]:
    """Offsets and lengths of the layers' weights in float32."""
    model = schema.Model.GetRootAs(file, 0)
    codes = [model.OperatorCodes(n).BuiltinCode() for n in range(model.OperatorCodesLength())]
    layers = {getattr(schema.BuiltinOperator, name) for name in LAYERS}
    start = np.frombuffer(file, np.uint8).__array_interface__["data"][0]
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            if codes[operator.OpcodeIndex()] not in layers:
                continue
            tensor = graph.Tensors(operator.Inputs(1))
            buffer = model.Buffers(tensor.Buffer())
            if tensor.Type() == schema.TensorType.FLOAT32 and not buffer.DataIsNone():
                data = buffer.DataAsNumpy()
                yield data.__array_interface__["data"][0] - start, data.size
