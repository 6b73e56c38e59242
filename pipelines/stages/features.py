"""Stage features: data/decoded -> data/features/ (info.json, rejects.parquet) and shards.

The shards are in data/features/ too, or where STEMFORGE_FEATURES says; they are no outputs of DVC.
"""

from stemforge.errors import needs
from stemforge.pipelines.console import run_main


def main() -> None:
    """Computes the features of what stage decode wrote."""
    # Beam logs at its import; run_main silences that first.
    with needs("repro", what="stage features"):
        from stemforge.pipelines.running.feature_job import compute_features

    compute_features()


if __name__ == "__main__":
    raise SystemExit(run_main(main))
