"""Stage features: data/decoded -> data/features/ (shards, index, info.json, rejects.parquet).

By hand it also computes features elsewhere: see docs/features.md and docs/dataflow.md.
"""

import argparse
from collections.abc import Sequence

from stemforge.features.errors import needs
from stemforge.pipelines.console import run_main
from stemforge.pipelines.paths import FEATURES


def main(argv: Sequence[str] | None = None) -> None:
    """Computes the features."""
    arguments, beam_flags = build_parser().parse_known_args(argv)
    with needs("features", what="the feature job"):
        from stemforge.pipelines.feature_job import compute_features
    compute_features(
        corpus=arguments.corpus,
        audio=arguments.audio,
        output=arguments.output,
        beam_flags=beam_flags,
    )


def build_parser() -> argparse.ArgumentParser:
    """The command line; what it does not know goes to Beam."""
    parser = argparse.ArgumentParser(
        prog="python -m stemforge.pipelines.compute_features",
        description="Computes features as params.yaml says. Other flags go to Beam.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--corpus",
        metavar="ROOT",
        help="decode this corpus (a folder or gs://... URL) inside the job instead of "
        "reading what stage decode wrote",
    )
    parser.add_argument(
        "--audio",
        metavar="ROOT",
        help="where a copy of the manifest's audio lies, a folder or URL",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help=f"features folder to write, local or URL ({FEATURES})"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(run_main(main))
