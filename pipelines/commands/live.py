"""`stemforge live`: stems while the music plays."""

import argparse
import contextlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from stemforge.errors import UserError
from stemforge.eval.config import Mask, Runtime
from stemforge.features.audio.formats import SUBTYPES
from stemforge.pipelines.options import add_model_options, local_path, split_names
from stemforge.pipelines.pretrained.catalogue import DEFAULT
from stemforge.train.config import TFLITE_FORMATS, TFLiteFormat

if TYPE_CHECKING:
    from stemforge.pipelines.live.planning import Wishes

LATENCY_MS = 500.0
MOST_MS = 10_000


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "live",
        help="split music into stems while it plays",
        description="Separates what an input device hears or a file holds while it plays, and "
        "plays a mix of the stems, half a second later. While it runs: keys 1, 2, ... choose a "
        "stem, + and - change its gain, m mutes it, q ends.",
    )
    option = parser.add_argument
    option("--list-devices", action="store_true", help="show the sound devices, and end")
    add_model_options(option, default=DEFAULT)
    option(
        "--input",
        metavar="DEVICE|FILE",
        help="the device to hear, by number or a part of its name, or a song to play (default: "
        "the system's input)",
    )
    option(
        "--output",
        metavar="DEVICE|FILE",
        help="the device to play the mix on, or a WAV file to write; where both are files, it runs "
        "as fast as it can (default: the system's output)",
    )
    option(
        "--mix",
        metavar="STEM=GAIN,...",
        help="factors of the stems in the mix, such as vocals=0,drums=1.2 (default: 1 each, and 0 "
        "for residual, what a single stem leaves)",
    )
    option("--record", type=local_path, metavar="DIR", help="also write each stem to DIR/STEM.wav")
    option("--subtype", choices=SUBTYPES, default="PCM_16", help="of the files (%(default)s)")
    option("--runtime", choices=get_args(Runtime), help="what runs the nets (default: LiteRT)")
    option(
        "--tflite",
        choices=TFLITE_FORMATS,
        help="which files of a folder (float32); int8_mixed is the fastest",
    )
    option("--stems", metavar="A,B,...", help="separate only these stems (default: all)")
    option(
        "--mask",
        choices=get_args(Mask),
        help="as of `stemforge separate` (default: ratio, or direct for a single stem)",
    )
    group = parser.add_argument_group(
        "how long it waits",
        "The less, the worse it sounds. By default the machine is measured, and of what it can "
        "hold the best is taken. Windows can also be chosen, with all three of their options.",
    ).add_argument
    group("--latency-ms", type=float, help=f"the longest delay, all in all ({LATENCY_MS:g})")
    group("--frames", type=int, help="of the nets' window")
    group("--hop", type=int, help="new frames in each window")
    group("--lookahead", type=int, help="frames that are newer than those that are separated")
    group("--reserve-ms", type=float, help="time for the computing itself (default: as measured)")
    parser.set_defaults(run=run_live, extra="live")


def run_live(arguments: argparse.Namespace) -> None:
    """`stemforge live`.

    Raises:
        UserError: an option does not fit, a device is missing or stops, or a file cannot be read
            or written.
    """
    if arguments.list_devices:
        from stemforge.pipelines.live.devices import devices

        print("\n".join(map(str, devices())) or "no sound devices: start a sound server")
        return
    wishes = _wishes(arguments)
    from stemforge.eval.separation.separator import (
        RESIDUAL,
        Separator,
        common_interface,
        read_interface,
    )
    from stemforge.pipelines.live.running import Live, run

    models = _find(arguments)
    of_litert = models[0].is_file()
    if arguments.tflite is not None and not of_litert:
        raise UserError(f"--tflite {arguments.tflite}: {models[0]} is a model directory: export it")
    interface = common_interface([read_interface(model) for model in models])
    stems = interface.stems
    if arguments.stems is not None:
        stems = tuple(split_names(arguments.stems, option="--stems"))
    one = len(stems) == 1  # then the rest can be heard too

    def load(frames: int, threads: int | None) -> Separator:
        return Separator.load(
            models,
            runtime="litert" if of_litert else "tensorflow",
            frames=frames,
            threads=threads,
            stems=stems,
            mask=arguments.mask,
            residual=one,
        )

    usual = dict.fromkeys(stems, 1.0) | ({RESIDUAL: 0.0} if one else {})
    run(
        Live(
            load,
            (os.cpu_count() or 1) if of_litert else None,
            interface,
            wishes,
            gains=_gains(arguments.mix, usual),
            source=arguments.input,
            sink=arguments.output,
            record=arguments.record,
            subtype=arguments.subtype,
        )
    )


def _find(arguments: argparse.Namespace) -> list[Path]:
    """The models: TFLite files, or where there are none, model directories.

    Raises:
        UserError: there are neither, or not those of the wanted runtime.
    """
    from stemforge.eval.separation.separator import find_models
    from stemforge.pipelines.pretrained.places import resolve

    place = resolve(arguments.model, runtime=arguments.runtime, offline=arguments.offline)
    tflite: TFLiteFormat = arguments.tflite or "float32"
    if arguments.tflite is not None and place.is_file():
        raise UserError(f"--tflite {tflite}: {place} is a file: leave it out")
    if arguments.runtime is None and arguments.tflite is None:
        with contextlib.suppress(UserError):
            return find_models(place, runtime="litert")
        with contextlib.suppress(UserError):
            return find_models(place, runtime="tensorflow")
        raise UserError(
            f"--model {place}: no *-float32.tflite and no model directories in it: name others, or "
            "another --tflite"
        )
    if tflite == "int8_mixed":
        from stemforge.pipelines.pretrained.precision import find_int8

        return find_int8(place)
    return find_models(place, runtime=arguments.runtime or "litert", tflite=tflite)


def _wishes(arguments: argparse.Namespace) -> "Wishes":
    """What the options say about the delay.

    Raises:
        UserError: they are no numbers that can be, or exclude each other.
    """
    for option in ("latency_ms", "reserve_ms"):
        value = getattr(arguments, option)
        if value is not None and not 0.0 <= value <= MOST_MS:
            raise UserError(f"--{option.replace('_', '-')} {value:g}: must be 0 to {MOST_MS}")
    sizes = {name: getattr(arguments, name) for name in ("frames", "hop", "lookahead")}
    window = None
    if given := [name for name, value in sizes.items() if value is not None]:
        if missing := [f"--{name}" for name in sizes if name not in given]:
            raise UserError(f"--{given[0]}: name {' and '.join(missing)} too, or none of the three")
        if arguments.latency_ms is not None:
            raise UserError(f"--latency-ms: chooses a window: leave it or --{given[0]} out")
        if arguments.frames < 1:
            raise UserError(f"--frames {arguments.frames}: must be 1 or more")
        from stemforge.eval.separation.live import Window

        window = Window(**sizes)
    from stemforge.pipelines.live.planning import Wishes

    latency_ms = LATENCY_MS if arguments.latency_ms is None else arguments.latency_ms
    reserve_ms = arguments.reserve_ms
    return Wishes(latency_ms / 1000.0, window, None if reserve_ms is None else reserve_ms / 1000.0)


def _gains(text: str | None, usual: dict[str, float]) -> dict[str, float]:
    """Factors of all stems, in their order.

    Args:
        text: what the option says.
        usual: what it does not.

    Raises:
        UserError: a stem is unknown, or a factor is not a number from 0 on.
    """
    gains = dict(usual)
    for part in filter(None, (text or "").split(",")):
        name, _, value = part.partition("=")
        if name not in gains:
            raise UserError(f"--mix {part}: no such stem: name some of {', '.join(usual)}")
        try:
            gains[name] = float(value)
        except ValueError:
            gains[name] = math.nan
        if not 0.0 <= gains[name] < math.inf:
            raise UserError(f"--mix {part}: must be {name}= and a number from 0 on")
    return gains
