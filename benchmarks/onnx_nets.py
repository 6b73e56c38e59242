"""Spleeter's nets by onnxruntime, as sherpa-onnx converts them.

Runs in onnxruntime's environment, not ours (benchmarks/peers.py talks to it):

    python benchmarks/onnx_nets.py serve FOLDER sequence|parallel
    python benchmarks/onnx_nets.py once FOLDER SEGMENTS
    python benchmarks/onnx_nets.py check FOLDER

FOLDER has STEM.npz, a net's weights by our names, and input.npy, magnitudes [frames, bins, 2].
Layers are Conv, BatchNormalization, LeakyRelu, ConvTranspose, Concat and Sigmoid on [batch,
channels, frames, bins]. `serve` says `ready`, and for a number on its standard input runs all nets
so often and prints the seconds: one after the other on all cores, or side by side on one thread
each. `once` does that in a process of its own. `check` writes FOLDER/STEM.npy, the nets' estimates.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

DEPTH = 6
EPSILON = 1e-3


def build(weights: dict[str, np.ndarray], shape: tuple[int, ...]) -> bytes:
    """A net as an ONNX model."""
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def add(kind: str, inputs: list[str], name: str, **options: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], **options))
        return name

    def norm(x: str, name: str) -> str:
        gamma, beta = weights[f"{name}/gamma"], weights[f"{name}/beta"]
        parts = (gamma, beta, np.zeros_like(gamma), np.ones_like(gamma))
        inputs = [x, *(constant(f"{name}/{k}", part) for k, part in enumerate(parts))]
        return add("BatchNormalization", inputs, name, epsilon=EPSILON)

    def layer(kind: str, x: str, name: str, **options: Any) -> str:
        kernel = constant(f"{name}/kernel", weights[f"{name}/kernel"].transpose(3, 2, 0, 1))
        bias = constant(f"{name}/bias", weights[f"{name}/bias"])
        return add(kind, [x, kernel, bias], name, **options)

    x, skips = "x", []
    for level in range(DEPTH):
        pads = [1, 1, 2, 2]
        x = layer("Conv", x, f"encoder_{level}", strides=[2, 2], pads=pads)
        skips.append(x)
        if level < DEPTH - 1:
            x = norm(x, f"encoder_norm_{level}")
            x = add("LeakyRelu", [x], f"encoder_act_{level}", alpha=0.2)
    skips.pop()
    for level in range(DEPTH):
        name = f"decoder_{level}"
        # Keras' "same": of 2n + 3 rows those from 1 to 2n.
        x = layer("ConvTranspose", x, name, strides=[2, 2], pads=[1, 1, 2, 2])
        x = norm(add("Relu", [x], f"{name}_act"), f"decoder_norm_{level}")
        if skips:
            x = add("Concat", [skips.pop(), x], f"{name}_skip", axis=1)
    x = layer("Conv", x, "mask", dilations=[2, 2], pads=[3, 3, 3, 3])
    x = add("Sigmoid", [x], "share")
    add("Mul", [x, "x"], "y")
    frames, bins, channels = shape
    sizes = [1, channels, frames, bins]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, sizes)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def load(folder: Path, threads: int) -> dict[str, Any]:
    """A session for each net."""
    shape = np.load(folder / "input.npy").shape
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    sessions: dict[str, Any] = {}
    for path in sorted(folder.glob("*.npz")):
        model = build(dict(np.load(path)), shape)
        sessions[path.stem] = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
    return sessions


def main() -> None:
    what, folder = sys.argv[1], Path(sys.argv[2])
    mixture = np.load(folder / "input.npy").transpose(2, 0, 1)[None].copy()
    parallel = sys.argv[3:] == ["parallel"]
    sessions = load(folder, 1 if parallel else os.cpu_count() or 1)
    pool = ThreadPoolExecutor(len(sessions))

    def run(segments: int) -> None:
        for _ in range(segments):
            work = [*sessions.values()]
            if parallel:
                list(pool.map(lambda session: session.run(None, {"x": mixture}), work))
            else:
                for session in work:
                    session.run(None, {"x": mixture})

    if what == "check":
        for stem, session in sessions.items():
            (found,) = session.run(None, {"x": mixture})
            np.save(folder / f"{stem}.npy", found[0].transpose(1, 2, 0))
    elif what == "once":
        run(int(sys.argv[3]))
    else:
        print("ready", flush=True)
        for line in sys.stdin:
            started = time.perf_counter()
            run(int(line))
            print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
