"""TFLite files whose layers' weights are stored in float16, and computed in float32 as before.

The export writes such files by ai-edge-quantizer; this needs nothing but the schema, so that a
plain install can make them.
"""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

# Operators whose second input are weights.
LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def halve_weights(file: bytes) -> bytes:
    """Stores the weights of a TFLite file's layers in float16; all else is unchanged.

    Args:
        file: whose layers have weights in float32.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file, 0))
    layers = {getattr(schema.BuiltinOperator, name) for name in LAYERS}
    dequantize = schema.BuiltinOperator.DEQUANTIZE
    # Version 3 is the first that takes float16.
    code = schema.OperatorCodeT(deprecatedBuiltinCode=dequantize, version=3, builtinCode=dequantize)
    codes = [found.builtinCode for found in model.operatorCodes]
    model.operatorCodes.append(code)
    halved: set[int] = set()
    for graph in model.subgraphs:
        weights = {
            int(operator.inputs[1])
            for operator in graph.operators
            if codes[operator.opcodeIndex] in layers
        }
        first = []
        for number in sorted(weights):
            tensor = graph.tensors[number]
            data = model.buffers[tensor.buffer].data
            if tensor.type != schema.TensorType.FLOAT32 or data is None:
                continue
            half = np.asarray(data).view("<f4").astype("<f2")
            stored = schema.TensorT(
                shape=tensor.shape,
                type=schema.TensorType.FLOAT16,
                buffer=len(model.buffers),
                name=(tensor.name or b"") + b"/float16",
                hasRank=True,
            )
            model.buffers.append(schema.BufferT(data=half.view(np.uint8)))
            graph.tensors.append(stored)
            halved.add(tensor.buffer)
            tensor.buffer = 0
            first.append(
                schema.OperatorT(
                    opcodeIndex=len(codes), inputs=[len(graph.tensors) - 1], outputs=[number]
                )
            )
        graph.operators = [*first, *graph.operators]
    # Two tensors may have shared a buffer; another one that is no weight keeps it.
    for number in halved - {t.buffer for graph in model.subgraphs for t in graph.tensors}:
        model.buffers[number].data = None
    builder = flatbuffers.Builder(len(file))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
