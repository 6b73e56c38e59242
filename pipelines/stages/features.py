"""Stage features: data/decoded -> data/features/ (shards, index, info.json, rejects.parquet)."""

from stemforge.pipelines.console import run_main
from stemforge.pipelines.running.feature_job import compute_features


def main() -> None:
    """Computes the features of what stage decode wrote."""
    compute_features()


if __name__ == "__main__":
    raise SystemExit(run_main(main))
