"""Deezer's checkpoints as TFLite files, without TensorFlow."""

from pathlib import Path

from stemforge.eval.runtimes.litert import SIGNATURE, with_interface
from stemforge.train.config import TFLiteFormat
from stemforge.train.model_files import tflite_name
from stemforge.train.nets.unet.tflite import to_tflite
from stemforge.train.spleeter.checkpoints import import_nets, read_checkpoint
from stemforge.train.spleeter.configuration import official_configurations


def convert(checkpoint: Path, configuration: str, output: Path) -> None:
    """Writes STEM-float32.tflite for each stem, or joint-float32.tflite for stems with a softmax.

    Beside each is the same with its inner layers in int8, STEM-int8-mixed.tflite.

    Args:
        checkpoint: folder of the checkpoint.
        configuration: the official model's name, such as "2stems".
        output: an existing folder.

    Raises:
        UserError: the checkpoint is unreadable or does not fit.
    """
    official = official_configurations()[configuration]
    found, _ = import_nets(read_checkpoint(checkpoint), official)
    for nets in found:
        interface = official.interface(nets.stems)
        net = official.net
        layers: dict[TFLiteFormat, list[str]] = {"float32": [], "int8_mixed": net.int8_layers()}
        for kind, int8 in layers.items():
            file = to_tflite(nets.weights, net, nets.stems, signature=SIGNATURE, int8_layers=int8)
            path = output / tflite_name(interface.name, kind)
            path.write_bytes(with_interface(file, interface))
