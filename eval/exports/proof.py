"""Measures the files of a folder of exports, when they are written and when they are verified.

Each function returns a Parity for each entry of parity.json (a file's name in the folder, and
the signature where there are two) and each stem.
"""

from collections.abc import Sequence
from pathlib import Path

from stemforge.eval.exports import files, parity
from stemforge.eval.exports.parity import Clip, ExportedNets, Parity
from stemforge.eval.runtimes.litert import SIGNATURE, LiteRTNets
from stemforge.eval.separation.separator import Nets, common_interface
from stemforge.quiet import quiet_stderr

Measured = dict[str, dict[str, Parity]]


def measure_saved_model(path: Path, reference: Sequence[Nets], clips: Sequence[Clip]) -> Measured:
    """Measures both signatures of a SavedModel.

    Args:
        path: its folder.
        reference: nets of all stems.
        clips: the input.
    """
    with quiet_stderr():
        estimate = files.runner(path, SIGNATURE)
        separate = files.runner(path, files.SEPARATE)
    nets = ExportedNets(
        common_interface([n.interface for n in reference]),
        lambda mixture: estimate(mixture=mixture),
    )
    return {
        f"{path.name}, {SIGNATURE}": parity.measure_nets([nets], reference, clips),
        f"{path.name}, {files.SEPARATE}": parity.measure_separation(
            lambda waveform: separate(waveform=waveform), reference, clips
        ),
    }


def measure_tflite(
    paths: Sequence[Path], reference: Sequence[Nets], clips: Sequence[Clip]
) -> Measured:
    """Measures TFLite files of one format, from magnitudes to magnitudes.

    Args:
        paths: one file per model.
        reference: nets of the same stems.
        clips: the input; the stems of all files share its mixture.
    """
    nets = [LiteRTNets(path, threads=1) for path in paths]
    measured = parity.measure_nets(nets, reference, clips)
    return {
        f"{path.parent.name}/{path.name}": {stem: measured[stem] for stem in own.interface.stems}
        for path, own in zip(paths, nets, strict=True)
    }


def measure_segment(path: Path, reference: Sequence[Nets], clips: Sequence[Clip]) -> Measured:
    """Measures a TFLite file from waveform to waveforms.

    Args:
        path: of the file.
        reference: nets of all stems, of the file's number of frames.
        clips: the input.
    """
    interface = common_interface([nets.interface for nets in reference])
    with quiet_stderr():
        run = files.runner(path, files.SEPARATE)
    measured = parity.measure_separation(
        lambda song: parity.add_segments(lambda part: run(waveform=part), song, interface),
        reference,
        clips,
    )
    return {path.name: measured}
