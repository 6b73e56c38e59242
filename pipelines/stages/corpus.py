"""Stage corpus: makes the starter corpus where corpus.root names it, and describes the corpus."""

from stemforge.errors import needs
from stemforge.pipelines.console import run_main


def main() -> None:
    """Makes the corpus, once all packages are there that this and the later stages need."""
    with needs("repro", what="dvc repro"):
        from stemforge.pipelines.running.extras import REPRO, versions

        versions(REPRO)
        from stemforge.pipelines.running.starter_corpus import make_corpus

    make_corpus()


if __name__ == "__main__":
    raise SystemExit(run_main(main))
