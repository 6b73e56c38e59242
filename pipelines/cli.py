"""The `stemforge` command: what people call by hand. But for `release` it reads no params.yaml."""

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stemforge import tensorflow
from stemforge.features.errors import needs
from stemforge.pipelines import export_models, score_estimates, separate_songs, train_cluster
from stemforge.pipelines.console import progress, run_main, say
from stemforge.pipelines.paths import SUMS

# Heavy imports wait until a command runs: help answers within a second.

EPILOG = """\
Training is a DVC stage: run `dvc repro` in a checkout.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="stemforge",
        description="Separates music into stems with trained U-Nets, and scores separations.",
        epilog=EPILOG,
    )
    version = importlib.metadata.version("stemforge")
    parser.add_argument("--version", action="version", version=f"stemforge {version}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    separate_songs.add_to(commands)
    score_estimates.add_to(commands)
    export_models.add_to(commands)
    train_cluster.add_to(commands)
    _add_release(commands)
    _add_info(commands)
    _add_verify(commands)
    _add_import_spleeter(commands)
    _add_import_config(commands)
    return parser


def _add_info(commands: Any) -> None:
    info = commands.add_parser(
        "info",
        help="describe a model directory",
        description="Prints what a model estimates, what it takes and how it was trained.",
    )
    info.add_argument("model", type=Path, metavar="MODEL_DIR", help="or a folder of them")
    info.set_defaults(run=print_info, extra="repro")


def _add_release(commands: Any) -> None:
    command = commands.add_parser(
        "release",
        help="put models, exports, scores and where they come from into one folder",
        description="Writes a folder from what `dvc repro` made in this checkout. Run it where "
        "params.yaml is.",
    )
    command.add_argument("--name", required=True, help="such as musdb18-unet")
    command.add_argument("--version", required=True, help="such as 1.0.0")
    command.add_argument(
        "--output", type=Path, metavar="DIR", help="new folder (default: releases/NAME-VERSION)"
    )
    command.add_argument(
        "--allow-dirty",
        action="store_true",
        help="also from a tree with uncommitted changes, which the release then names",
    )
    command.set_defaults(run=make_release, extra="repro")


def _add_verify(commands: Any) -> None:
    verify = commands.add_parser(
        "verify",
        help="check a release or a features folder",
        description="Checks every file of a release, runs its models and exports against its "
        "golden vectors, and makes its scores' summary again (exit code 1 and the names of what "
        "fails); or every file, record and index of a features folder (exit code 2).",
    )
    verify.add_argument(
        "folder", metavar="FOLDER", help="release, or features folder, local or a URL (gs://...)"
    )
    verify.add_argument("--compare", metavar="OTHER", help="also tell what differs from this one")
    verify.set_defaults(run=verify_folder, extra="repro")


def _add_import_spleeter(commands: Any) -> None:
    command = commands.add_parser(
        "import-spleeter",
        help="turn one of Deezer's checkpoints into models",
        description="Writes OUTPUT/<stem> for each stem of an official TensorFlow 1 checkpoint, "
        "or OUTPUT/joint where the stems share a softmax (5stems).",
    )
    command.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT_DIR", help="folder with a file `checkpoint`"
    )
    command.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder for the models"
    )
    command.add_argument(
        "--configuration",
        metavar="NAME",
        help="2stems, 4stems or 5stems, with -16kHz or without, or a file with Spleeter's JSON "
        "configuration; by default the official one with as many stems as the checkpoint",
    )
    command.add_argument(
        "--stems", metavar="A,B,...", help="stems of another model, in the checkpoint's order"
    )
    command.add_argument(
        "--activation",
        choices=("elu", "leaky_relu"),
        help="with --stems: elu throughout, or leaky_relu in the encoder and relu in the decoder",
    )
    command.set_defaults(run=import_spleeter, extra="train")


def _add_import_config(commands: Any) -> None:
    command = commands.add_parser(
        "import-config",
        help="turn Spleeter's JSON configuration into params.yaml",
        description="Writes a params.yaml that trains what a Spleeter configuration describes. A "
        "key or value without an equal is an error that names it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument(
        "configuration", type=Path, metavar="JSON", help="such as musdb_config.json"
    )
    command.add_argument(
        "--output", required=True, type=Path, metavar="FILE", help="the params.yaml to write"
    )
    command.add_argument(
        "--data",
        default=".",
        metavar="DIR",
        help="folder that the CSV files' audio paths start at, as spleeter train's -d",
    )
    command.add_argument(
        "--base",
        default=Path("params.yaml"),
        type=Path,
        metavar="FILE",
        help="where everything else is taken from",
    )
    command.set_defaults(run=import_configuration, extra="train")


def print_info(arguments: argparse.Namespace) -> None:
    """`stemforge info`."""
    from stemforge.features.models import find_model_folders, read_card

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


def make_release(arguments: argparse.Namespace) -> None:
    """`stemforge release`."""
    from stemforge.features.errors import UserError
    from stemforge.pipelines.params import read_params
    from stemforge.pipelines.release import write_release

    name, version = arguments.name, arguments.version
    out = arguments.output or Path("releases") / f"{name}-{version}"
    if out.exists():
        raise UserError(f"{out}: that name is taken: choose another version, or remove it")
    write_release(read_params(), out, name=name, version=version, allow_dirty=arguments.allow_dirty)


def verify_folder(arguments: argparse.Namespace) -> None:
    """`stemforge verify`."""
    if (Path(arguments.folder) / SUMS).is_file():
        verify_release(Path(arguments.folder), arguments.compare)
    else:
        verify_features(arguments.folder, arguments.compare)


def verify_release(folder: Path, other: str | None) -> None:
    """`stemforge verify RELEASE`."""
    from stemforge.features.errors import IncompleteError

    tensorflow.start()
    from stemforge.pipelines.verify_release import compare, find_problems

    problems = list(find_problems(folder))
    for problem in problems:
        print(problem)
    if problems:
        raise IncompleteError(f"{folder}: {len(problems)} problems")
    print(f"{folder}: whole, and computes what it says")
    if other is not None:
        lines, close = compare(folder, Path(other))
        for line in lines:
            print(line)
        if not close:
            raise IncompleteError(f"{folder}: not close to {other}")
        print(f"{folder}: {'close to' if lines else 'byte for byte'} {other}")


def verify_features(folder: str, other: str | None) -> None:
    """`stemforge verify FEATURES`."""
    from stemforge.features import storage
    from stemforge.features.errors import UserError

    with needs("features", what="stemforge verify FEATURES"):
        from stemforge.features.feature_set import FeatureSet
        from stemforge.features.verification import differences, find_damage

    if any(p and not storage.is_local(p) for p in (folder, other)):
        from stemforge.pipelines.runners import pipeline_options

        pipeline_options([])  # tells Beam's filesystems of STEMFORGE_BEAM_ARGS
    info = FeatureSet.open(folder).info
    size = sum(f["bytes"] for split in info["splits"].values() for f in split["files"].values())
    problems: list[str] = []
    with progress(round(size / 1e6), label="verify", unit="MB") as bar:
        seen = 0

        def report(more: int) -> None:
            nonlocal seen
            seen += more
            bar.update(round(seen / 1e6) - bar.n)

        problems += find_damage(folder, progress=report)
    if other is not None:
        problems += differences(folder, other)
    for problem in problems:
        print(problem)
    if problems:
        raise UserError(f"{folder}: {len(problems)} differences")
    files = sum(len(split["files"]) for split in info["splits"].values())
    same = f", the same as {other}" if other else ""
    print(f"{folder}: {files} files, {size / 1e6:.1f} MB: as info.json says{same}")


def import_spleeter(arguments: argparse.Namespace) -> None:
    """`stemforge import-spleeter`."""
    from stemforge.features.errors import UserError

    stems = arguments.stems.split(",") if arguments.stems else None
    if (stems is None) != (arguments.activation is None):
        raise UserError("--stems and --activation go together")
    if stems and arguments.configuration:
        raise UserError("--configuration names stems and activation: leave --stems out")

    tensorflow.start()
    from stemforge.pipelines.import_spleeter import import_checkpoint

    models = import_checkpoint(
        arguments.checkpoint,
        arguments.output,
        configuration=arguments.configuration,
        stems=stems,
        activation=arguments.activation,
    )
    left = ", ".join(models[0].provenance["not_imported"])
    names = ", ".join(model.name for model in models)
    say(f"{arguments.output}: {names}; not imported, as unused: {left}")


def import_configuration(arguments: argparse.Namespace) -> None:
    """`stemforge import-config`."""
    from stemforge.pipelines.import_config import import_config

    remarks = import_config(
        arguments.configuration, arguments.output, data=arguments.data, base=arguments.base
    )
    for remark in remarks:
        say(f"no parameter for {remark}")
    say(f"{arguments.output}: written")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = build_parser().parse_args(argv)

    def run() -> None:
        with needs(arguments.extra, what=f"stemforge {arguments.command}"):
            arguments.run(arguments)

    return run_main(run)


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
