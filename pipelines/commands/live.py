"""`stemforge live`: stems while the music plays."""

import argparse
import math
from typing import Any, get_args

from stemforge.errors import UserError
from stemforge.eval.config import Mask, Runtime
from stemforge.features.audio.formats import SUBTYPES
from stemforge.pipelines.options import local_path, split_names

# 348 ms; what longer windows would give in sound is not measured yet (docs/live.md).
FRAMES, HOP, LOOKAHEAD = 128, 8, 4
RESERVE_MS = 150.0


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "live",
        help="split music into stems while it plays",
        description="Separates what an input device hears or a file holds while it plays, and "
        "plays a mix of the stems half a second later. While it runs: keys 1, 2, ... choose a "
        "stem, + and - change its gain, m mutes it, q ends.",
    )
    option = parser.add_argument
    option("--list-devices", action="store_true", help="show the sound devices, and end")
    option(
        "--model",
        type=local_path,
        metavar="DIR",
        help="a .tflite file or a folder of them (such as exports/), or model directories, which "
        "need TensorFlow",
    )
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
        help="factors of the stems in the mix, such as vocals=0,drums=1.2 (default: 1 each)",
    )
    option("--record", type=local_path, metavar="DIR", help="also write each stem to DIR/STEM.wav")
    option("--subtype", choices=SUBTYPES, default="PCM_16", help="of the files (%(default)s)")
    option("--runtime", choices=get_args(Runtime), help="what runs the nets (default: LiteRT)")
    option("--stems", metavar="A,B,...", help="separate only these stems (default: all)")
    option(
        "--mask",
        choices=get_args(Mask),
        help="as of `stemforge separate` (default: ratio, or direct for a single stem)",
    )
    group = parser.add_argument_group("how long it waits; less is worse to hear").add_argument
    group("--frames", type=int, default=FRAMES, help="of the nets' window (%(default)s)")
    group("--hop", type=int, default=HOP, help="new frames in each window (%(default)s)")
    group(
        "--lookahead",
        type=int,
        default=LOOKAHEAD,
        help="frames that are newer than those that are separated (%(default)s)",
    )
    group(
        "--reserve-ms",
        type=float,
        default=RESERVE_MS,
        help="time for the computing itself (%(default)g)",
    )
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
    if arguments.model is None:
        raise UserError("--model: missing: name a .tflite file or a folder of them")
    if arguments.frames < 1:
        raise UserError(f"--frames {arguments.frames}: must be 1 or more")
    if not 0.0 <= arguments.reserve_ms < math.inf:
        raise UserError(f"--reserve-ms {arguments.reserve_ms:g}: must be 0 or more")
    from stemforge.eval.separation.separator import (
        Separator,
        common_interface,
        find_models,
        read_interface,
    )
    from stemforge.pipelines.live.running import Live, run

    models = find_models(arguments.model, runtime=arguments.runtime or "litert")
    interface = common_interface([read_interface(model) for model in models])
    stems = None if arguments.stems is None else split_names(arguments.stems, option="--stems")
    separator = Separator.load(
        models,
        runtime=arguments.runtime,
        frames=arguments.frames,
        stems=stems,
        mask=arguments.mask,
        # Of one stem the rest can be heard too.
        residual=len(stems or interface.stems) == 1,
    )
    run(
        Live(
            separator,
            hop=arguments.hop,
            lookahead=arguments.lookahead,
            reserve_s=arguments.reserve_ms / 1000.0,
            gains=_gains(arguments.mix, separator.stems),
            source=arguments.input,
            sink=arguments.output,
            record=arguments.record,
            subtype=arguments.subtype,
        )
    )


def _gains(text: str | None, stems: tuple[str, ...]) -> dict[str, float]:
    """Factors of all stems, in their order.

    Raises:
        UserError: a stem is unknown, or a factor is not a number from 0 on.
    """
    gains = dict.fromkeys(stems, 1.0)
    for part in filter(None, (text or "").split(",")):
        name, _, value = part.partition("=")
        if name not in gains:
            raise UserError(f"--mix {part}: no such stem: name some of {', '.join(stems)}")
        try:
            gains[name] = float(value)
        except ValueError:
            gains[name] = math.nan
        if not 0.0 <= gains[name] < math.inf:
            raise UserError(f"--mix {part}: must be {name}= and a number from 0 on")
    return gains
