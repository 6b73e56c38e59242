"""Stage release: all outputs -> release/; it lists the files with uncommitted changes, if any."""

from stemforge.pipelines.console import run_main
from stemforge.pipelines.params import read_params
from stemforge.pipelines.paths import RELEASE
from stemforge.pipelines.releases.writing import write_release


def main() -> None:
    """Writes release/."""
    params = read_params()
    config = params.release
    write_release(
        params, RELEASE, name=config.name, version=config.version, allow_dirty=True, by_dvc=True
    )


if __name__ == "__main__":
    raise SystemExit(run_main(main))
