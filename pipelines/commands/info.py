"""`stemforge info`: what a model estimates, what input it takes, how it was trained."""

import argparse
import json
from typing import Any

from stemforge.pipelines.options import local_path


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    info = commands.add_parser(
        "info",
        help="describe a model directory",
        description="Prints what a model estimates, what input it takes and how it was trained.",
    )
    info.add_argument(
        "model", type=local_path, metavar="MODEL_DIR", help="a model directory, or a folder of them"
    )
    info.set_defaults(run=print_info, extra="repro")


def print_info(arguments: argparse.Namespace) -> None:
    """`stemforge info`."""
    from stemforge.train.model_files import WEIGHTS, Interface, find_model_folders, read_card

    for folder in find_model_folders(arguments.model):
        card = read_card(folder)
        net, interface = card["net"], Interface.from_card(card)
        framing, rate_hz = interface.framing, interface.sample_rate_hz
        seconds = net.frames * framing.step_samples / rate_hz
        size = (folder / WEIGHTS).stat().st_size
        print(f"{folder}")
        print(f"  stems       {', '.join(interface.stems)}")
        print(f"  audio       {rate_hz} Hz stereo; estimates up to {interface.top_hz:.0f} Hz")
        print(f"  STFT        {framing.length_samples} samples, hop {framing.step_samples}")
        print(f"  input       {net.frames} frames x {net.bins} bins x 2 ({seconds:.2f} s)")
        print(f"  net         {net.describe()}")
        print(f"  weights     {size / 1e6:.1f} MB")
        print(f"  provenance  {json.dumps(card['provenance'], sort_keys=True)}")
