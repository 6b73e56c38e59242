"""The trained U-Nets as a TFLite file, written without TensorFlow.

The operations are those of train.nets.unet.inference for XNNPACK, and the file computes the same
numbers as one that TensorFlow's converter makes of them. With it a plain install turns downloaded
weights into files that it can run.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from stemforge.train.nets.unet import LEAKY_SLOPE, Activation, UNet
from stemforge.train.nets.unet.folding import Weights, fold

SCHEMA_VERSION = 3  # of TFLite files
OPTIONS: dict[str, str] = {  # an operator's options, by the schema's name of both
    "CONV_2D": "Conv2DOptions",
    "PAD": "PadOptions",
    "MUL": "MulOptions",
    "ADD": "AddOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "CONCATENATION": "ConcatenationOptions",
    "PACK": "PackOptions",
    "UNPACK": "UnpackOptions",
    "SOFTMAX": "SoftmaxOptions",
}


def to_tflite(
    weights: Mapping[str, NDArray[np.float32]],
    net: UNet,
    stems: Sequence[str],
    *,
    signature: str,
    int8_layers: Collection[str] = (),
) -> bytes:
    """Writes the nets of one model, magnitudes in and out, for a batch of one.

    Args:
        weights: of a model directory, by name, float32.
        net: their shape, with affine or batch norms and a linear input.
        stems: what they estimate.
        signature: name of the function, from "mixture", float32 [1, frames, bins, 2], to the
            same for each stem by its name.
        int8_layers: layers whose weights are stored in 8 bits, scaled by their largest value for
            each output channel. LiteRT then computes them in int8, and scales their inputs when
            it runs.

    Raises:
        UserError: a weight is missing or of another shape than the net's.
        ValueError: the net has an instance norm or another input scale.
    """
    if net.norm == "instance" or net.input_scale != "linear":
        raise ValueError(f"norm={net.norm}, input_scale={net.input_scale}: not written here")
    graph = _Graph()
    mixture = graph.tensor((1, net.frames, net.bins, 2), "mixture")
    nets = fold(weights, net, stems, library="xnnpack")
    logits = [
        _Net(graph, net, folded, f"{stem}/", int8_layers).logits(mixture)
        for stem, folded in zip(stems, nets, strict=True)
    ]
    if net.head == "softmax":
        shape = graph.shapes[mixture]
        packed = graph.apply(
            "PACK", logits, (*shape, len(stems)), axis=len(shape), valuesCount=len(stems)
        )
        shares = graph.apply("SOFTMAX", [packed], graph.shapes[packed], beta=1.0)
        masks = graph.apply_many(
            "UNPACK", [shares], [shape] * len(stems), axis=len(shape), num=len(stems)
        )
    else:
        masks = [graph.apply("LOGISTIC", [x], graph.shapes[x]) for x in logits]
    outputs = {
        stem: graph.apply("MUL", [mask, mixture], graph.shapes[mixture], name=stem)
        for stem, mask in zip(stems, masks, strict=True)
    }
    return graph.file({"mixture": mixture}, outputs, signature=signature)


class _Net:
    """Adds one stem's net to a graph; compare train.nets.unet.inference.

    Args:
        graph: which grows.
        net: the net's shape.
        weights: folded for XNNPACK.
        prefix: of the names of its tensors.
        int8_layers: see to_tflite.
    """

    def __init__(
        self,
        graph: "_Graph",
        net: UNet,
        weights: Weights,
        prefix: str,
        int8_layers: Collection[str],
    ) -> None:
        self._int8_layers = int8_layers
        self._graph = graph
        self._net = net
        self._weights = weights
        self._prefix = prefix

    def logits(self, mixture: int) -> int:
        """The mask before its sigmoid or softmax, of the mixture's shape."""
        net, graph = self._net, self._graph
        x, skips = mixture, []
        for level in range(net.depth):
            if level == 0:
                x = self._convolution(self._space_to_depth(x), "encoder_0")
            else:
                x = self._convolution(x, f"encoder_{level}", stride=2)
            skips.append(x)
            if level < net.depth - 1:
                x = self._activation(self._norm(x, f"encoder_norm_{level}"), net.encoder_activation)
        skips.pop()
        for level in range(net.depth - 1):
            x = self._activation(self._phases(x, f"decoder_{level}"), net.decoder_activation)
            x = self._norm(self._depth_to_space(x, 2), f"decoder_norm_{level}")
            x = graph.concatenate([skips.pop(), x])
        last = net.depth - 1
        x = self._activation(self._convolution(x, f"decoder_{last}"), net.decoder_activation)
        x = self._space_to_depth(self._norm(x, f"decoder_norm_{last}"))
        return self._depth_to_space(self._convolution(x, "mask"), 4)

    def _convolution(
        self, x: int, layer: str, *, stride: int = 1, kernel: str = "kernel", same: bool = True
    ) -> int:
        values = self._weights[f"{layer}/{kernel}"]
        _, rows, columns, _ = self._graph.shapes[x]
        if not same:
            rows, columns = rows - values.shape[0] + 1, columns - values.shape[1] + 1
        name = f"{self._prefix}{layer}/"
        keep = self._graph.int8 if layer in self._int8_layers else self._graph.constant
        inputs = [
            x,
            # TFLite wants [outputs, rows, columns, inputs].
            keep(values.transpose(3, 0, 1, 2), f"{name}{kernel}"),
            self._graph.constant(self._weights[f"{layer}/bias"], f"{name}bias"),
        ]
        return self._graph.apply(
            "CONV_2D",
            inputs,
            (1, -(-rows // stride), -(-columns // stride), values.shape[3]),
            name=f"{name}{kernel}_result",
            padding=schema.Padding.SAME if same else schema.Padding.VALID,
            strideW=stride,
            strideH=stride,
        )

    def _phases(self, x: int, layer: str) -> int:
        """The four phases of a transposed convolution, as channels."""
        phases = []
        _, rows, columns, channels = self._graph.shapes[x]
        for row in (0, 1):
            for column in (0, 1):
                margins = np.array([(0, 0), (1, row), (1, column), (0, 0)], np.int32)
                inputs = [x, self._graph.constant(margins, f"margins_{row}{column}")]
                shape = (1, rows + 1 + row, columns + 1 + column, channels)
                padded = self._graph.apply("PAD", inputs, shape)
                kernel = f"kernel_{row}{column}"
                phases.append(self._convolution(padded, layer, kernel=kernel, same=False))
        return self._graph.concatenate(phases)

    def _norm(self, x: int, layer: str) -> int:
        for code, part in (("MUL", "scale"), ("ADD", "shift")):
            values = self._graph.constant(
                self._weights[f"{layer}/{part}"], f"{self._prefix}{layer}/{part}"
            )
            x = self._graph.apply(code, [x, values], self._graph.shapes[x])
        return x

    def _activation(self, x: int, name: Activation) -> int:
        more: dict[str, Any] = {"alpha": LEAKY_SLOPE} if name == "leaky_relu" else {}
        return self._graph.apply(name.upper(), [x], self._graph.shapes[x], **more)

    def _space_to_depth(self, x: int) -> int:
        _, rows, columns, channels = self._graph.shapes[x]
        shape = (1, rows // 2, columns // 2, 4 * channels)
        return self._graph.apply("SPACE_TO_DEPTH", [x], shape, blockSize=2)

    def _depth_to_space(self, x: int, size: int) -> int:
        _, rows, columns, channels = self._graph.shapes[x]
        shape = (1, rows * size, columns * size, channels // size**2)
        return self._graph.apply("DEPTH_TO_SPACE", [x], shape, blockSize=size)


class _Graph:
    """The operators and tensors of a TFLite file; a tensor is its number.

    Attributes:
        shapes: of the tensors.
    """

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self._tensors: list[Any] = []
        self._buffers = [schema.BufferT()]  # the first is that of tensors without a value
        self._operators: list[Any] = []
        self._codes: list[str] = []
        self._constants: dict[str, int] = {}

    def tensor(self, shape: tuple[int, ...], name: str, *, kind: str = "FLOAT32") -> int:
        """A tensor without a value."""
        made = schema.TensorT(
            shape=np.array(shape, np.int32),
            type=getattr(schema.TensorType, kind),
            name=name,
            hasRank=True,
        )
        self._tensors.append(made)
        self.shapes.append(shape)
        return len(self._tensors) - 1

    def constant(self, value: NDArray[Any], name: str) -> int:
        """A tensor with a value, float32, int32 or int8; equal names mean equal values."""
        if name not in self._constants:
            number = self.tensor(value.shape, name, kind=value.dtype.name.upper())
            data = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
            self._tensors[number].buffer = len(self._buffers)
            self._buffers.append(schema.BufferT(data=data.reshape(-1).view(np.uint8)))
            self._constants[name] = number
        return self._constants[name]

    def int8(self, value: NDArray[np.float32], name: str) -> int:
        """A tensor whose values are rounded to 8 bits, with a scale for each of its first axis."""
        largest = np.abs(value).max(axis=(1, 2, 3))
        scales = np.where(largest > 0.0, largest, 1.0) / np.float32(127.0)
        rounded = np.rint(value / scales[:, None, None, None]).astype(np.int8)
        number = self.constant(rounded, name)
        self._tensors[number].quantization = schema.QuantizationParametersT(
            scale=scales, zeroPoint=np.zeros(len(scales), np.int64), quantizedDimension=0
        )
        return number

    def apply(
        self,
        code: str,
        inputs: Sequence[int],
        shape: tuple[int, ...],
        *,
        name: str = "",
        **options: Any,
    ) -> int:
        """Adds an operator of one output; its options have the schema's names."""
        return self.apply_many(code, inputs, [shape], name=name, **options)[0]

    def apply_many(
        self,
        code: str,
        inputs: Sequence[int],
        shapes: Sequence[tuple[int, ...]],
        *,
        name: str = "",
        **options: Any,
    ) -> list[int]:
        """Adds an operator of several outputs."""
        named = name or f"{code.lower()}_{len(self._operators)}"
        outputs = [self.tensor(shape, named) for shape in shapes]
        if code not in self._codes:
            self._codes.append(code)
        made = schema.OperatorT(
            opcodeIndex=self._codes.index(code), inputs=list(inputs), outputs=outputs
        )
        if code in OPTIONS:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, OPTIONS[code])
            made.builtinOptions = getattr(schema, f"{OPTIONS[code]}T")(**options)
        self._operators.append(made)
        return outputs

    def concatenate(self, parts: Sequence[int]) -> int:
        """Joins tensors along their channels."""
        *sizes, _ = self.shapes[parts[0]]
        channels = sum(self.shapes[part][-1] for part in parts)
        return self.apply("CONCATENATION", parts, (*sizes, channels), axis=len(sizes))

    def file(
        self, inputs: Mapping[str, int], outputs: Mapping[str, int], *, signature: str
    ) -> bytes:
        """The TFLite file."""

        def maps(tensors: Mapping[str, int]) -> list[Any]:
            return [schema.TensorMapT(name=n, tensorIndex=t) for n, t in tensors.items()]

        numbers = [getattr(schema.BuiltinOperator, code) for code in self._codes]
        model = schema.ModelT(
            version=SCHEMA_VERSION,
            operatorCodes=[
                schema.OperatorCodeT(deprecatedBuiltinCode=number, builtinCode=number)
                for number in numbers
            ],
            subgraphs=[
                schema.SubGraphT(
                    tensors=self._tensors,
                    inputs=list(inputs.values()),
                    outputs=list(outputs.values()),
                    operators=self._operators,
                    name=signature,
                )
            ],
            description="stemforge",
            buffers=self._buffers,
            signatureDefs=[
                schema.SignatureDefT(
                    inputs=maps(inputs), outputs=maps(outputs), signatureKey=signature
                )
            ],
        )
        size = sum(len(buffer.data) for buffer in self._buffers if buffer.data is not None)
        builder = flatbuffers.Builder(size + 2**16)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())
