"""`stemforge web`: a page that separates songs on the device of who opens it."""

import argparse
import shlex
from typing import Any

from stemforge.pipelines.console import say
from stemforge.pipelines.options import add_model_options, local_path
from stemforge.pipelines.pretrained.catalogue import DEFAULT
from stemforge.pipelines.running.work import new_folder


def add_to(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "web",
        help="write a page that separates songs in the browser",
        description="Writes a folder of static files for any web server: a page that splits songs "
        "into stems in the browser, by LiteRT.js. The song never leaves the device. LiteRT.js is "
        "fetched once, by npm.",
    )
    parser.add_argument(
        "output", type=local_path, metavar="OUTPUT_DIR", help="a new or empty folder"
    )
    add_model_options(parser.add_argument, default=DEFAULT, directories=False)
    parser.set_defaults(run=write_web, extra="train")


def write_web(arguments: argparse.Namespace) -> None:
    """`stemforge web`."""
    from stemforge.eval.separation.separator import find_models
    from stemforge.eval.web.page import write_page
    from stemforge.pipelines.pretrained.litertjs import fetch_runtime
    from stemforge.pipelines.pretrained.places import resolve

    with new_folder(arguments.output) as output:
        place = resolve(arguments.model, offline=arguments.offline)
        models = find_models(place, runtime="litert")
        write_page(output, models, fetch_runtime(offline=arguments.offline))
    size = sum(path.stat().st_size for path in arguments.output.rglob("*") if path.is_file())
    quoted = shlex.quote(str(arguments.output))
    say(f"{arguments.output}: {size / 1e6:.0f} MB: python3 -m http.server -d {quoted}")
