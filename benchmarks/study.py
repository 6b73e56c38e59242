"""Trains nets in many ways on the same songs and steps, and compares what one hears.

    python -m benchmarks.study CORPUS --work FOLDER [--only ROW ...] [--stems STEM ...]

The rows are in benchmarks/study.yaml: what each changes in params.yaml's train section. Every run
is the real stage train, then `stemforge score` of the test songs by the net's own mask. The results
are in docs/study/runs.json: a run that is there with the same configuration is not repeated, and a
killed one resumes. After each run the table and the plots of docs/study.md are written anew.

Needs a corpus of MUSDB18's stem files, such as its excerpts (`stemforge corpus musdb18-7`). A run
of 600 steps takes ten minutes on two cores.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import common, net_costs, study_report
from benchmarks.study_rows import CURVE, ROWS, Run, read_runs
from stemforge.pipelines.params import read_params
from stemforge.train.nets import read_net
from stemforge.unfinished import finishing

METHOD = "net"


def main(argv: list[str] | None = None) -> None:
    parser = common.parser_of(__doc__)
    common.add_corpus(parser)
    common.add_work(parser)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows alone (all)")
    parser.add_argument("--stems", nargs="+", metavar="STEM", help="these stems alone (all)")
    parser.add_argument("--rows", type=Path, default=ROWS, help="file of rows (%(default)s)")
    parser.add_argument(
        "--output",
        type=Path,
        default=common.ROOT / "docs",
        metavar="FOLDER",
        help="of the page study.md, and of results and plots in study/ (docs)",
    )
    arguments = parser.parse_args(argv)
    runs = read_runs(arguments.rows)
    if unknown := set(arguments.only or ()) - {run.row for run in runs}:
        parser.error(f"--only: no such row: {', '.join(sorted(unknown))}")
    place = arguments.output / "study" / "runs.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    results = read_results(place)
    with common.work_folder(arguments.work) as work:
        keys: dict[str, str] = {}
        for run in runs:
            if run.row not in (arguments.only or [run.row]):
                continue
            if run.stem not in (arguments.stems or [run.stem]):
                continue
            project = prepare(run, arguments.corpus, work)
            keys[run.name] = configuration(project)
            if results.get(run.name, {}).get("configuration") != keys[run.name]:
                results.pop(run.name, None)  # of another configuration
        for run in runs:
            if run.name in keys and run.name not in results:
                found = carry_out(run, work / "runs" / run.name, arguments.corpus)
                results[run.name] = {"configuration": keys[run.name], **found}
                write_results(place, results)
                study_report.write(arguments.output, runs, results)
    print("\n".join(study_report.write(arguments.output, runs, results)), flush=True)


def read_results(path: Path) -> dict[str, Any]:
    """Results by name of the run."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """A run a line, so that changes can be read."""
    lines = [f"{json.dumps(name)}: {json.dumps(results[name])}" for name in sorted(results)]
    with finishing(path) as fresh:
        fresh.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def prepare(run: Run, corpus: Path, work: Path) -> Path:
    """A project with the run's params.yaml and the corpus' data, which are made where needed."""
    with_copies = f" with {run.copies} copies" if run.copies else ""
    features = common.make_features(corpus, work / f"corpus{with_copies}", copies=run.copies)
    project = work / "runs" / run.name
    common.write_params(project, corpus, run.changes())
    (project / "data").unlink(missing_ok=True)  # it may lead to other copies
    (project / "data").symlink_to(features.parent)
    return project


def configuration(project: Path) -> str:
    """What a result depends on, apart from the code: parameters and features."""
    train = read_params(project / "params.yaml").train.model_dump(mode="json")
    text = json.dumps(train, sort_keys=True, default=str)
    info = (project / "data" / "features" / "info.json").read_bytes()
    return hashlib.sha256(text.encode() + info).hexdigest()[:16]


def carry_out(run: Run, project: Path, corpus: Path) -> dict[str, Any]:
    """Trains, scores the test songs, and reads what came out."""
    common.stage(project, "train", "--stem", run.stem)
    place = project / "table"
    common.command(
        project, "score", "--corpus", str(corpus.resolve()), "--model", "models",
        "--output", str(place), "--name", METHOD,
    )  # fmt: skip
    model = json.loads((project / "models" / run.stem / "model.json").read_text(encoding="utf-8"))
    history = pd.read_csv(project / "models" / run.stem / "history.csv")
    net = read_net(model["net"])
    return {
        "net": model["net"],
        "million_multiply_adds": round(net_costs.multiply_adds_a_second(net, run.stem) / 1e6),
        "best_step": model["provenance"]["step"],
        "songs": dict(songs(place, run.stem)),
        "curve": [
            [None if math.isnan(value) else round(value, 5) for value in row]
            for row in history[CURVE].to_numpy().tolist()
        ],
    }


def songs(place: Path, stem: str) -> Iterator[tuple[str, list[float | None]]]:
    """Median SDR over the frames of each song, of stem and rest, in dB; None: it has none."""
    tracks = pd.read_csv(place / "tracks.csv")
    medians = tracks.pivot(index="track", columns="target", values="SDR")
    rest = next(target for target in medians.columns if target != stem)
    for song, row in medians.iterrows():
        yield str(song), [None if math.isnan(v) else round(v, 4) for v in (row[stem], row[rest])]


if __name__ == "__main__":
    main()
