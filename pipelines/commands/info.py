"""`stemforge info`: what a model estimates, what input it takes, how it was trained."""

import argparse
import json
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    info = commands.add_parser(
        "info",
        help="describe a model directory",
        description="Prints what a model estimates, what input it takes and how it was trained.",
    )
    info.add_argument(
        "model", type=Path, metavar="MODEL_DIR", help="a model directory, or a folder of them"
    )
    info.set_defaults(run=print_info, extra="repro")


def print_info(arguments: argparse.Namespace) -> None:
    """`stemforge info`."""
    from stemforge.train.model_files import find_model_folders, read_card

    for folder in find_model_folders(arguments.model):
        card = read_card(folder)
        net, rate = card["net"], card["sample_rate_hz"]
        seconds = net["frames"] * card["frame_step_samples"] / rate
        top_hz = net["bins"] * rate / card["frame_length_samples"]
        size = (folder / "weights.npz").stat().st_size
        print(f"{folder}")
        print(f"  stems       {', '.join(card['stems'])}")
        print(f"  audio       {rate} Hz stereo; estimates up to {top_hz:.0f} Hz")
        print(
            f"  STFT        {card['frame_length_samples']} samples, "
            f"hop {card['frame_step_samples']}"
        )
        print(f"  input       {net['frames']} frames x {net['bins']} bins x 2 ({seconds:.2f} s)")
        print(
            f"  net         width {net['width']}, depth {net['depth']}, norm {net['norm']}, "
            f"{net['encoder_activation']}/{net['decoder_activation']}, dropout {net['dropout']}, "
            f"head {net['head']}"
        )
        print(f"  weights     {size / 1e6:.1f} MB")
        print(f"  provenance  {json.dumps(card['provenance'], sort_keys=True)}")
