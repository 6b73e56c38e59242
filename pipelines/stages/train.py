"""Stage train@<model>: data/features -> models/<model>/ (weights, model.json, history, metrics).

A model is a stem's, or, with models=[joint], that of all stems.
"""

import argparse

from stemforge.errors import needs
from stemforge.pipelines.console import run_main
from stemforge.pipelines.running.launch import launch_training


def main() -> None:
    """Trains one model, or resumes where a killed or finished run left off."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stem", required=True)
    stem = parser.parse_args().stem
    with needs("repro", what="stage train"):
        launch_training(stem)


if __name__ == "__main__":
    raise SystemExit(run_main(main))
