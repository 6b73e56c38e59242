"""What `stemforge live` costs: time of a window, late blocks, memory, and the delay that one gets.

    python -m benchmarks.live_costs EXPORTS SONG [--cases 2:350 ...] [--minutes 60]

EXPORTS holds TFLite files of nets of Spleeter's size, such as `stemforge convert-spleeter` makes.
For two stems and four (the same nets twice), and a wanted latency: the command's own choice of
windows on this machine, and then as many minutes of the song, again and again, as it comes from a
sound server of 44.1 kHz in blocks of 256 samples. The clock is simulated, so that nothing waits,
but the time that each block takes to compute is measured: a block counts as late where a server
would have had nothing to play. Where a window takes longer than the reserve, a line below the table
says who had the processors meanwhile.

Where jackd is installed, the command itself then runs with a JACK server's dummy device, and
another client sends the song through both: the delay is where it comes back, and memory is that of
the command.
"""

import dataclasses
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from benchmarks import common, jack
from benchmarks.live_clock import again_and_again, simulate
from stemforge.eval.runtimes.litert import METADATA, read_interface, with_interface
from stemforge.eval.separation.separator import Separator, common_interface
from stemforge.features.signal.stft import Waveform
from stemforge.pipelines.live.exchange import Exchange
from stemforge.pipelines.live.planning import Delays, Server, Wishes, plan
from stemforge.pipelines.live.sources import read_song
from stemforge.train.model_files import find_tflite, tflite_name

BLOCK = 256
SOUND_SERVER = Server(2 * BLOCK / common.RATE_HZ, BLOCK / common.RATE_HZ, plays=True)
CASES = ((2, 350.0), (2, 500.0), (4, 500.0))  # stems, latency in ms
SERVER = "stemforge-benchmark"


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    parser.add_argument("exports", type=Path, help="TFLite files of two stems")
    parser.add_argument("song", type=Path)
    parser.add_argument(
        "--cases",
        nargs="+",
        type=case,
        default=CASES,
        metavar="STEMS:MS",
        help=f"({' '.join(f'{stems}:{latency_ms:g}' for stems, latency_ms in CASES)})",
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="of each case (%(default)g)")
    parser.add_argument("--seconds", type=float, default=20.0, help="through JACK (%(default)g)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {
            stems: write_models(arguments.exports, folder / f"{stems}", stems)
            for stems, _ in arguments.cases
        }

        def rows(cells: Callable[[Path, float], list[str]]) -> Iterator[list[str]]:
            for stems, latency_ms in arguments.cases:
                yield [f"{stems}", f"{latency_ms:g} ms", *cells(models[stems], latency_ms)]

        columns = ["stems", "wanted", "frames", "hop", "lookahead", "latency", "a window takes"]
        slow: list[str] = []
        simulated = functools.partial(
            measure, song=arguments.song, minutes=arguments.minutes, slow=slow
        )
        common.print_table([*columns, "at most", "load", "late blocks"], rows(simulated))
        print("\n".join(["", *slow]))
        if shutil.which("jackd"):
            wave = np.concatenate([*read_song(arguments.song, sample_rate_hz=common.RATE_HZ)])
            wave = wave[: round(arguments.seconds * common.RATE_HZ)]
            print()
            columns = ["stems", "wanted", "stated", "measured", "late blocks", "dropouts of jackd"]
            served = functools.partial(serve, wave=wave, folder=folder)
            common.print_table([*columns, "memory"], rows(served))


def case(text: str) -> tuple[int, float]:
    """Stems and latency of `2:350`."""
    stems, _, latency_ms = text.partition(":")
    return int(stems), float(latency_ms)


def write_models(exports: Path, folder: Path, stems: int) -> Path:
    """TFLite files of as many stems: those of EXPORTS, one after the other, with other names."""
    folder.mkdir(exist_ok=True)
    paths = find_tflite(exports)
    for number in range(stems):
        file = renamed(paths[number % len(paths)], f"stem_{number}")
        (folder / tflite_name(f"stem_{number}", "float32")).write_bytes(file)
    return folder


def renamed(path: Path, stem: str) -> bytes:
    """A TFLite file of one stem under another name."""
    file = path.read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file, 0))
    model.metadata = [entry for entry in model.metadata if entry.name != METADATA.encode()]
    (output,) = model.signatureDefs[0].outputs
    output.name = stem
    builder = flatbuffers.Builder(len(file))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    interface = dataclasses.replace(read_interface(path), stems=(stem,))
    return with_interface(bytes(builder.Output()), interface)


@dataclasses.dataclass(frozen=True)
class Processors:
    """Seconds of the processors since some time.

    Attributes:
        own: this process had.
        others: other programs of this system had.
        host: the host gave to other systems ("steal"); of a virtual machine.
    """

    own: float
    others: float
    host: float

    @staticmethod
    def now() -> "Processors":
        """Since the processes' and the system's start; 0 of the others where there is no /proc."""
        own, stat = time.process_time(), Path("/proc/stat")
        if not stat.exists():
            return Processors(own, 0.0, 0.0)
        line = stat.read_text(encoding="ascii").splitlines()[0]
        user, nice, system, _, _, irq, softirq, host = map(int, line.split()[1:9])
        ticks = os.sysconf("SC_CLK_TCK")
        busy = (user + nice + system + irq + softirq) / ticks
        return Processors(own, busy - own, host / ticks)

    def since(self, before: "Processors") -> "Processors":
        """The difference to another time."""
        found, then = dataclasses.astuple(self), dataclasses.astuple(before)
        return Processors(*(a - b for a, b in zip(found, then, strict=True)))


def measure(
    models: Path, latency_ms: float, *, song: Path, minutes: float, slow: list[str]
) -> list[str]:
    """A case's row, by a simulated clock; adds a line to `slow` where windows were."""
    paths = find_tflite(models)
    interface = common_interface([read_interface(path) for path in paths])

    def load(frames: int, threads: int | None) -> Separator:
        return Separator.load(paths, frames=frames, threads=threads)

    wishes = Wishes(latency_ms / 1000.0)
    delays = Delays(interface, common.RATE_HZ)
    chosen = plan(load, wishes, delays, SOUND_SERVER, cores=os.cpu_count() or 1)
    window = chosen.window
    engine = chosen.separator.start_live(
        hop=window.hop, lookahead=window.lookahead, channels=2, sample_rate_hz=common.RATE_HZ
    )
    reserve = round(chosen.reserve_s * common.RATE_HZ)
    exchange = Exchange(interface.stems, channels=2, reserve=reserve, capacity=4 * common.RATE_HZ)
    exchange.set_gains(dict.fromkeys(interface.stems, 1.0))
    taken = []
    longer: list[tuple[float, Processors]] = []

    def push(block: Waveform) -> tuple[Mapping[str, Waveform], float]:
        before = Processors.now()
        began = time.perf_counter()
        outputs = engine.push(block)
        taken.append(time.perf_counter() - began)
        if taken[-1] > chosen.reserve_s:
            longer.append((taken[-1], Processors.now().since(before)))
        return outputs, taken[-1]

    blocks = round(minutes * 60.0 * common.RATE_HZ / BLOCK)
    for _ in simulate(exchange, again_and_again(song, BLOCK), push, blocks=blocks):
        pass
    hops = blocks * BLOCK // (window.hop * interface.frame_step_samples)
    computed = sorted(taken)[-hops:]  # the other blocks only wait for a hop's end
    if longer:
        seconds = sum(found for found, _ in longer)
        own, others, host = (
            sum(getattr(found, name) for _, found in longer) for name in ("own", "others", "host")
        )
        slow.append(
            f"{len(interface.stems)} stems at {latency_ms:g} ms: {len(longer)} windows of {hops} "
            f"took longer than the reserve of {1000 * chosen.reserve_s:.0f} ms, {seconds:.2f} s in "
            f"all; of the processors this process had {own:.2f} s in them, other programs "
            f"{others:.2f} s, and the host {host:.2f} s"
        )
    return [
        *map(str, (window.frames, window.hop, window.lookahead)),
        f"{1000 * chosen.times.latency_s(window, wishes):.0f} ms",
        f"{1000 * float(np.median(computed)):.0f} ms",
        f"{1000 * max(computed):.0f} ms",
        f"{100 * sum(taken) / (minutes * 60.0):.0f} %",
        f"{exchange.late}",
    ]


def serve(models: Path, latency_ms: float, *, wave: Waveform, folder: Path) -> list[str]:
    """A case's row, by a sound server."""
    command = [sys.executable, "-m", "stemforge.pipelines.commands.main", "live"]
    command += ["--model", str(models), "--latency-ms", f"{latency_ms:g}"]
    command += ["--input", "system", "--output", "system"]
    with jack.server(SERVER, period=BLOCK), jack.client(folder) as send_around:
        environment = common.environment() | os.environ
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert process.stderr is not None
        try:
            text = process.stderr.readline() + process.stderr.readline()
            stated = re.search(r"latency (\d+) ms", text)
            if stated is None:
                raise RuntimeError(text)
            heard = send_around(wave)
            memory = memory_mb(process.pid)
            process.send_signal(signal.SIGTERM)  # a shell's background ignores SIGINT
            _, last = process.communicate(timeout=jack.ANSWER_S)
        finally:
            process.kill()
    counts = re.search(r"(\d+) blocks were late.* dropped out (\d+) times", last)
    if counts is None:
        raise RuntimeError(last)
    delay = delay_of(wave.mean(axis=1), heard.mean(axis=1))
    return [
        f"{stated[1]} ms",
        f"{1000 * delay / common.RATE_HZ:.1f} ms",
        *counts.groups(),
        f"{memory:.0f} MB",
    ]


def memory_mb(process: int) -> float:
    """What a process has in memory, without what it shares: JACK's server has 107 MB for itself."""
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    values = dict(re.findall(r"^(\w+):\s*(\d+) kB$", text, re.M))
    return (int(values["VmRSS"]) - int(values["RssShmem"])) * 1024 / 1e6


def delay_of(sent: np.ndarray, heard: np.ndarray) -> int:
    """How many samples the second is late: where the cross-correlation is greatest."""
    size = 2 * max(len(sent), len(heard))
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(sent, size))
    return int(np.argmax(np.fft.irfft(spectrum, size)[: size // 2]))


if __name__ == "__main__":
    main()
