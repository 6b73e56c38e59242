"""Stage copies: training songs of data/decoded -> data/copies/ (WAV, tracks.parquet)."""

from stemforge.pipelines.console import run_main
from stemforge.pipelines.running.copy_job import make_copies


def main() -> None:
    """Makes the copies that params.yaml describes."""
    make_copies()


if __name__ == "__main__":
    raise SystemExit(run_main(main))
