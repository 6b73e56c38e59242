"""`stemforge models`: lists, fetches and removes the models that have a name."""

import argparse
from collections.abc import Sequence
from typing import Any

from stemforge.pipelines.console import say
from stemforge.pipelines.pretrained.catalogue import LICENCE, MODELS, RELEASE, WHEELS, find
from stemforge.pipelines.pretrained.home import VARIABLE


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "models",
        help="list, fetch and remove models that have a name, such as spleeter:2stems",
        description="Lists the models that have a name. `separate`, `live`, `web` and `score` "
        f"fetch one when they need it. All are kept in the folder that {VARIABLE} names (default: "
        "~/.cache/stemforge).",
    )
    parser.set_defaults(run=print_models, extra="train")
    actions = parser.add_subparsers(metavar="ACTION", help="(default: list)")
    actions.add_parser("list", help="list them")
    pull = actions.add_parser("pull", help="fetch some, and convert them for LiteRT")
    pull.add_argument(
        "--base-url",
        default=RELEASE,
        metavar="URL",
        help="address of Deezer's archives, such as a mirror's (default: %(default)s)",
    )
    pull.set_defaults(run=pull_models)
    remove = actions.add_parser("remove", help="remove some from this machine")
    remove.set_defaults(run=remove_models)
    for action in (pull, remove):
        action.add_argument("names", nargs="+", metavar="NAME", help="of a model")


def pull_models(arguments: argparse.Namespace) -> None:
    """`stemforge models pull`.

    Raises:
        UserError: no model has a name, or one cannot be fetched.
    """
    from stemforge.pipelines.pretrained.places import fetch_model

    for name in _known(arguments.names):
        print(fetch_model(name, base_url=arguments.base_url))


def remove_models(arguments: argparse.Namespace) -> None:
    """`stemforge models remove`.

    Raises:
        UserError: no model has a name, or one cannot be removed.
    """
    from stemforge.pipelines.pretrained.places import remove_model

    for name in _known(arguments.names):
        say(f"{name}: {'removed' if remove_model(name) else 'not on this machine'}")


def _known(names: Sequence[str]) -> Sequence[str]:
    """Refuses names that no model has, before anything is done."""
    for name in names:
        find(name)
    return names


def print_models(_: argparse.Namespace) -> None:
    """`stemforge models`: a line for each model, and where they come from."""
    from stemforge.pipelines.pretrained.home import home, is_there
    from stemforge.pipelines.pretrained.places import folder_of
    from stemforge.train.spleeter.configuration import official_configurations

    official = official_configurations()
    rows = [("name", "licence", "download", "here", "up to", "stems")]
    for name, model in MODELS.items():
        configuration = official[model.configuration]
        top_hz = configuration.interface(configuration.stems).top_hz
        place = folder_of(model)
        size = sum(path.stat().st_size for path in place.glob("*")) / 1e6
        rows.append(
            (
                *(name, LICENCE, f"{model.archive.size_mb} MB"),
                *(f"{size:.0f} MB" if is_there(place) else "-", f"{top_hz / 1000:.0f} kHz"),
                ", ".join(configuration.stems),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip())
    print(f"\nDeezer's models, from {RELEASE},")
    for name, wheel in WHEELS.items():
        print(
            f"or of {name} from {wheel.package} {wheel.version} on PyPI, licence {wheel.licence},"
        )
    print(f"kept in {home()} ({VARIABLE})")
