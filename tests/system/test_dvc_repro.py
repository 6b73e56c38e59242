"""The whole way on a tiny corpus: killed four times, finished, released, and made again."""

import csv
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import soundfile
from ruamel.yaml import YAML

from stemforge.pipelines.releases.files import sums
from stemforge.pipelines.running.parallel import PROCESSES
from tests import BLAS_THREADS
from tests.factories import copy_checkout, set_params

pytestmark = pytest.mark.system
STEPS = 120  # many more than the half second that a killed stage lives on
LIMIT_S = 600
SETTINGS: dict[str, dict[str, Any]] = {
    "corpus": {"stems": ["vocals", "drums"]},
    "features": {"bins": 128, "block_frames": 64},
    "train": {
        "net__frames": 32,
        "net__width": 2,
        "net__depth": 4,
        "batch_size": 2,
        "steps": STEPS,
        "log_every_steps": 20,
        "validate_every_steps": 40,
    },
    "monitor": {"checkpoint_every_steps": 3},
    "report": {"audio": "excerpts", "seconds": 1.0},
    "export": {"frames": [64, 32]},
}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """A repository in DVC's git mode with all that `dvc repro` needs, beside the tiny corpus."""
    root = tmp_path_factory.mktemp("repro") / "origin"
    copy_checkout(root)
    shutil.copytree(tiny_corpus, root.parent / "corpus")
    set_params(
        root,
        corpus__root="../corpus",
        models=["vocals", "drums"],
        **{f"{s}__{key}": value for s, values in SETTINGS.items() for key, value in values.items()},
    )
    run(root, "git", "init", "-q")
    commit(root, "start")
    return root


def run(root: Path, *command: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        command, cwd=root, env=environment(), capture_output=True, text=True, timeout=4 * LIMIT_S
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def commit(root: Path, message: str) -> None:
    run(root, "git", "add", "-A")
    someone = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
    run(root, "git", *someone, "commit", "-q", "-m", message)


def clone(origin: Path, name: str) -> Path:
    run(origin.parent, "git", "clone", "-q", str(origin), name)
    return origin.parent / name


def environment(*first: Path) -> dict[str, str]:
    """As people have it: with as many processes as there are CPUs."""
    places = [*map(str, first), str(Path(sys.executable).parent), os.environ["PATH"]]
    tests_own = {PROCESSES, *BLAS_THREADS}
    others = {name: value for name, value in os.environ.items() if name not in tests_own}
    return others | {"PATH": os.pathsep.join(places)}


def ffmpeg_that_waits(folder: Path, *, file: str, held: Path) -> Path:
    """A folder with an ffmpeg that does not begin on such a file while the file `held` exists."""
    folder.mkdir()
    held.touch()
    (folder / "ffmpeg").write_text(
        f"""#!/bin/sh
        case "$*" in *"{file}"*) while [ -e "{held}" ]; do sleep 0.05; done;; esac
        exec "{shutil.which("ffmpeg")}" "$@"
        """
    )
    (folder / "ffmpeg").chmod(0o755)
    (folder / "ffprobe").symlink_to(str(shutil.which("ffprobe")))
    return folder


def start_repro(root: Path, *first: Path) -> "subprocess.Popen[str]":
    """Starts it; what it prints goes to a file, which no orphan holds open for us."""
    with printed(root).open("w") as file:
        return subprocess.Popen(
            ["dvc", "repro"], cwd=root, env=environment(*first), stdout=file, stderr=file, text=True
        )


def printed(root: Path) -> Path:
    return root.parent / "printed"


def kill_when(root: Path, stage: str, pattern: str, *first: Path) -> list[Path]:
    """Starts `dvc repro` and kills it, and nothing else, once a file of that name exists.

    Its stage ends by itself half a second later, unless it is done by then.
    """
    process = start_repro(root, *first)
    work = root / ".work" / stage
    deadline = time.monotonic() + LIMIT_S
    while not (found := sorted(work.glob(pattern))):
        assert process.poll() is None, printed(root).read_text()
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while runs(int((work / "lock").read_text())):
        assert time.monotonic() < deadline, f"{stage} lives on"
        time.sleep(0.02)
    return found


def runs(number: int) -> bool:
    try:
        return bool(psutil.Process(number).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def finish(root: Path) -> str:
    process = start_repro(root)
    process.wait(timeout=LIMIT_S)
    assert process.returncode == 0, printed(root).read_text()
    return printed(root).read_text()


@pytest.fixture(scope="module")
def finished(origin: Path) -> Path:
    """A clone where `dvc repro` was killed four times and then finished, and committed."""
    project = clone(origin, "project")
    held = project.parent / "held"
    binaries = ffmpeg_that_waits(project.parent / "bin", file="Song 9", held=held)
    decoded = kill_when(project, "decode", "*/*.json", binaries)
    assert decoded
    held.unlink()
    assert not (project / "data/tracks.parquet").exists()
    first = decoded[0].stat().st_mtime_ns

    kill_when(project, "train-vocals", "*/checkpoint-*")
    assert not decoded[0].exists() or decoded[0].stat().st_mtime_ns == first  # not done again
    assert not (project / "models" / "vocals").exists()

    (scored, *_) = kill_when(project, "evaluate", "*/scores/*/test/*.json")
    kept = scored.relative_to(project)
    binaries = ffmpeg_that_waits(project.parent / "more", file="sound.opus", held=held)
    (begun,) = kill_when(project, "report", "*/report", binaries)
    held.unlink()
    text = printed(project).read_text()
    assert "Running stage 'leaderboard'" in text
    assert "Running stage 'train@vocals'" not in text
    assert "Running stage 'decode'" not in text
    assert not (project / kept).exists()  # renamed into scores/
    assert begun.exists()
    assert not (project / "report").exists()
    finish(project)
    assert not begun.exists()
    commit(project, "what came out")
    release(project)  # it names the commit
    return project


def test_the_outputs_of_a_killed_and_finished_run(finished: Path) -> None:
    project = finished
    # The history of the interrupted stem: every step's row once, in order.
    for stem in ("vocals", "drums"):
        rows = list(csv.DictReader((project / "models" / stem / "history.csv").open()))
        assert [int(row["step"]) for row in rows] == [20, 40, 60, 80, 100, 120]
        assert [int(r["step"]) for r in rows if r["valid_loss"] != "nan"] == [40, 80, 120]

    scores = pd.read_parquet(project / "scores" / "scores.parquet")
    assert set(scores["method"]) == {
        *("stemforge", "UNPROCESSED", "MIX", "IRM1", "IRM2", "IBM1", "IBM2", "MWF")
    }
    median = scores.groupby(["method", "target"])["SDR"].median()
    for stem in ("vocals", "drums"):
        assert median["IRM1", stem] > median["UNPROCESSED", stem]
    metrics = json.loads((project / "leaderboard" / "metrics.json").read_text())
    assert metrics["stemforge"]["drums"]["SDR"] == pytest.approx(
        median["stemforge", "drums"], abs=1e-3
    )
    parity = json.loads((project / "exports" / "parity.json").read_text())
    for stem in ("vocals", "drums"):
        name = f"{stem}/{stem}-float32.tflite"
        assert parity[name][stem]["relative_difference"] < 1e-4
        assert (project / "exports" / name).is_file()
    assert (project / "exports" / "saved_model" / "saved_model.pb").is_file()
    page = (project / "report" / "index.html").read_text(encoding="utf-8")
    (found,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page)
    data = json.loads(found)
    assert (data["heard"], len(data["files"])) == (["stemforge"], 1)
    assert [curves["name"] for curves in data["curves"]] == ["vocals", "drums"]
    song = (project / "report" / data["files"][0]).read_text(encoding="utf-8")
    assert '"method/stemforge/drums":"T2dnU' in song  # "OggS" in base64


def test_a_second_run_has_nothing_to_do(finished: Path) -> None:
    project = finished
    assert "Running stage" not in finish(project)
    assert changed_stages(project) == set()
    show = subprocess.run(
        ["dvc", "metrics", "show", "--json"],
        cwd=project, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "SDR" in show.stdout
    shown = {name: entry.get("data") for name, entry in json.loads(show.stdout)[""]["data"].items()}
    best = shown["models/vocals/metrics.json"]
    assert best["best_step"] in (40, 80, 120)
    live = json.loads((project / "runs/vocals/dvclive/metrics.json").read_text())
    assert live["step"] == STEPS
    assert best["best_valid_loss"] <= live["valid_loss"]


def changed_stages(root: Path) -> set[str]:
    """Stages whose files differ from dvc.lock; what another clone has cached does not count."""
    stages = json.loads(run(root, "dvc", "status", "--json").stdout)
    lines = {
        f"{stage}: {how} {place}"
        for stage, changes in stages.items()
        for change in changes
        for places in change.values()
        for place, how in places.items()
        if how != "not in cache"
    }
    print(*sorted(lines)[:50], sep="\n")
    return {line.split(":")[0] for line in lines}


def test_stages_depend_on_no_more_than_what_they_use(finished: Path) -> None:
    """Adding a stem trains that stem; what is only written during training changes nothing."""
    project = clone(finished, "edited")
    take_outputs(finished, project)
    assert changed_stages(project) == set()
    set_params(project, monitor__checkpoint_every_steps=50, monitor__dvclive=False)
    assert changed_stages(project) == set()
    set_params(project, models=["vocals"])  # as it was before drums were added
    assert changed_stages(project) == {"separate", "report", "export"}
    run(project, "git", "checkout", "-q", "params.yaml")
    place = project / "train" / "losses" / "magnitudes.py"
    place.write_text(place.read_text() + "# a remark\n")
    assert changed_stages(project) == {"train@vocals", "train@drums"}


def test_one_model_is_enough_from_separation_to_release(finished: Path) -> None:
    """Its mask is its own, and its other half is the mixture minus the estimate."""
    project = clone(finished, "single")
    take_outputs(finished, project)
    # What is not in DVC's cache is made again.
    shutil.copytree(finished / ".dvc" / "cache", project / ".dvc" / "cache")
    set_params(project, models=["vocals"])
    text = finish(project)
    assert "Running stage 'train@vocals'" not in text
    page = (project / "leaderboard" / "leaderboard.md").read_text()
    assert "stemforge: vocals against the rest (accompaniment)." in page
    (folder,) = (project / "estimates").iterdir()
    assert [path.name for path in folder.iterdir()] == ["vocals.wav"]
    before = (finished / "estimates" / folder.name / "vocals.wav").read_bytes()
    assert (folder / "vocals.wav").read_bytes() != before  # that was a share of two estimates
    whole = pd.read_parquet(project / "scores" / "whole.parquet").set_index(["method", "target"])
    truth = project / "data" / "decoded" / "test" / folder.name
    # The corpus has bass and other too, which are not listed and yet in the mixture.
    places = (truth / "mixture.wav", truth / "vocals.wav", folder / "vocals.wav")
    mixture, true, vocals = (soundfile.read(place)[0] for place in places)
    usdr_db = 10 * np.log10(np.sum((mixture - true) ** 2) / np.sum((true - vocals) ** 2))
    assert whole.loc[("stemforge", "accompaniment"), "uSDR"] == pytest.approx(usdr_db, abs=1e-3)
    parity = json.loads((project / "exports" / "parity.json").read_text())
    assert [*parity["separate-64.tflite"]] == ["vocals"]
    assert not (project / "exports" / "drums").exists()
    commit(project, "one model")
    release(project)
    card = (project / "release" / "README.md").read_text()
    assert "| method | vocals | accompaniment |" in card
    assert "Separates the vocals from the rest of the music." in card
    assert [path.name for path in (project / "release" / "models").iterdir()] == ["vocals"]
    done = stemforge(project, "verify", "release")
    assert "release: complete, and its models, exports and scores check out" in done.stdout


def test_an_experiment_in_a_temporary_workspace_decodes_nothing_again(finished: Path) -> None:
    """Its corpus.root is relative, and neither WAV files nor shards are in DVC's cache."""
    name = ("--name", "longer", "--set-param", f"train.steps={STEPS + 20}")
    done = run(finished, "dvc", "exp", "run", "--temp", *name, "train@vocals")
    text = done.stdout + done.stderr
    assert "Running stage 'train@vocals'" in text
    assert "decode: " not in text  # its files are linked
    assert "Stage 'features' didn't change, skipping" in text
    names = run(finished, "dvc", "exp", "list", "--name-only").stdout.split()
    assert names == ["longer"]
    assert changed_stages(finished) == set()  # the checkout is as it was


def test_a_release_names_the_code_that_trained(finished: Path) -> None:
    project = clone(finished, "other-code")
    take_outputs(finished, project)
    place = project / "train" / "losses" / "magnitudes.py"
    place.write_text(place.read_text() + "# a remark\n")
    commit(project, "a remark")
    done = release(project, code=2)
    assert "out of date: train@vocals, train@drums: run `dvc repro` first" in done.stderr
    run(project, "dvc", "commit", "--force", "--quiet")  # says that the edit was harmless
    commit(project, "the models stay")
    done = release(project, code=2)
    head = run(project, "git", "rev-parse", "HEAD").stdout[:7]
    assert f"models/vocals: trained by other code than commit {head}: train again" in done.stderr
    release(project, "--allow-dirty")
    record = json.loads((project / "release" / "provenance.json").read_text())
    assert record["code"]["accepted"] == ["drums", "vocals"]
    card = json.loads((project / "models" / "vocals" / "model.json").read_text())
    assert card["provenance"]["code"]["sha256"] != record["code"]["train"]
    assert card["provenance"]["packages"].items() <= record["packages"].items()


def take_outputs(project: Path, other: Path) -> None:
    for name in ("data", "models", "estimates", "exports", "scores", "leaderboard", "report"):
        shutil.copytree(project / name, other / name, dirs_exist_ok=True)


def release(root: Path, *flags: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    return stemforge(root, "release", "--output", "release", "--overwrite", *flags, code=code)


def stemforge(root: Path, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    return run(
        root, sys.executable, "-m", "stemforge.pipelines.commands.main", *arguments, code=code
    )


def test_another_clone_makes_the_same_release_byte_for_byte(finished: Path) -> None:
    other = clone(finished, "other")
    finish(other)
    release(other)
    for root in (finished, other):
        assert run(root, "git", "status", "--porcelain").stdout == ""
    sums = [(root / "release" / "SHA256SUMS").read_text() for root in (finished, other)]
    assert sums[0] == sums[1]
    record = json.loads((other / "release" / "provenance.json").read_text())
    head = run(finished, "git", "rev-parse", "HEAD").stdout.strip()
    assert record["git"] == {"commit": head, "clean": True, "changed": []}
    run(other / "release", "sha256sum", "--check", "--quiet", "SHA256SUMS")
    done = stemforge(finished, "verify", "release", "--compare", str(other / "release"))
    assert "release: complete, and its models, exports and scores check out" in done.stdout
    assert "byte for byte" in done.stdout


def test_another_clone_pulls_the_models_and_separates(finished: Path, tmp_path: Path) -> None:
    """As docs/experiments.md says, with a folder as remote."""
    other = clone(finished, "pulled")
    for root in (finished, other):
        run(root, "dvc", "remote", "add", "--local", "-d", "storage", str(tmp_path / "storage"))
    run(finished, "dvc", "push", "-q")
    run(other, "dvc", "pull", "-q", "train")
    assert not (other / "data" / "features").exists()
    song = finished / "data" / "decoded" / "test" / "Song 9" / "mixture.wav"
    stemforge(other, "separate", str(song), "--model", "models", "--output", "stems")
    for stem in ("vocals", "drums"):
        ours = (other / "stems" / "mixture" / f"{stem}.wav").read_bytes()
        assert ours == (finished / "estimates" / "Song 9" / f"{stem}.wav").read_bytes()
    someone = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
    run(finished, "git", *someone, "tag", "-a", "models@v1.0.0", "-m", "the first")
    run(tmp_path, "dvc", "artifacts", "get", str(finished), "models", "--out", "got")
    got, original = tmp_path / "got", finished / "models"
    assert sums(got) == sums(original)


@pytest.fixture
def released(finished: Path, tmp_path: Path) -> Path:
    """A copy of the release that may be spoilt."""
    return Path(shutil.copytree(finished / "release", tmp_path / "release"))


def seal(release: Path) -> None:
    (release / "SHA256SUMS").write_text(sums(release))


def test_the_card_says_what_was_measured(released: Path) -> None:
    card = (released / "README.md").read_text()
    metrics = json.loads((released / "leaderboard" / "metrics.json").read_text())["stemforge"]
    (row,) = (line for line in card.splitlines() if line.startswith("| stemforge |"))
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert [float(cell.split()[0]) for cell in cells] == [
        pytest.approx(metrics[stem]["SDR"], abs=6e-3) for stem in ("vocals", "drums")
    ]
    for text in ("| train | 2 |", "| test | 1 |", "CC0-1.0", "separate-64.tflite"):
        assert text in card
    citation = YAML(typ="safe").load((released / "CITATION.cff").read_text())
    assert citation["version"] == "0.1.0"
    assert "SPDX-License-Identifier: CC0-1.0" in (released / "LICENSE").read_text()
    record = json.loads((released / "provenance.json").read_text())
    assert record["corpus"]["splits"]["test"]["tracks"] == ["Song 9"]
    versions = {name: importlib.metadata.version(name) for name in record["packages"]}
    assert record["packages"] == versions
    assert versions.keys() >= {"apache-beam", "dvc", "keras", "stemforge"}
    assert any(name.startswith("tensorflow") for name in versions)
    files = {"history.csv", "metrics.json", "model.json", "weights.npz"}
    assert set(record["dvc.lock"]["train@vocals"]) == {f"models/vocals/{name}" for name in files}


def test_an_edited_release_is_named(released: Path) -> None:
    (released / "LICENSE").write_text("mine")
    (released / "leaderboard" / "tracks.csv").unlink()
    (released / "notes").touch()
    done = stemforge(released, "verify", ".", code=1)
    assert done.stdout.splitlines() == [
        "LICENSE: its sha256 is not that of SHA256SUMS",
        "leaderboard/tracks.csv: missing",
        "notes: not in SHA256SUMS",
    ]


def test_an_edited_release_is_not_compared(finished: Path, released: Path) -> None:
    (released / "provenance.json").write_text("{")
    flags = ("verify", "release", "--compare", str(released))
    done = stemforge(finished, *flags, code=2)
    (line,) = (line for line in done.stderr.splitlines() if "error" in line)
    assert "provenance.json: its sha256 is not that of SHA256SUMS" in line


def test_other_scores_and_weights_are_named(released: Path) -> None:
    """Edits with sums that fit them: what was measured tells."""
    original = Path(shutil.copytree(released, released.parent / "original"))
    place = released / "leaderboard" / "metrics.json"
    metrics = json.loads(place.read_text())
    metrics["stemforge"]["drums"]["SDR"] += 1.0
    place.write_text(json.dumps(metrics))
    place = released / "models" / "drums" / "weights.npz"
    with np.load(place) as stored:
        weights = {name: values * 1.01 for name, values in stored.items()}
    np.savez(place, **weights)
    (released / "exports" / "separate-32.tflite").unlink()
    shutil.copy(
        released / "exports" / "vocals" / "vocals-float32.tflite",
        released / "exports" / "vocals" / "vocals-float16.tflite",
    )
    seal(released)
    done = stemforge(released, "verify", ".", code=1)
    named = {line.split(":")[0] for line in done.stdout.splitlines()}
    assert {
        "leaderboard/metrics.json",
        "models/drums",
        "exports/drums/drums-float32.tflite",
        "exports/separate-32.tflite",
    } <= named
    assert not any(name.startswith("exports/vocals") for name in named)
    done = stemforge(original, "verify", ".", "--compare", str(released), code=1)
    for stem in ("drums", "vocals"):  # masks are shares of both
        assert f"{stem}: another sound: SDR" in done.stdout
    score = metrics["stemforge"]["drums"]["SDR"]
    assert f"drums: scored {score - 1:.2f} and {score:.2f} dB" in done.stdout


def test_weights_but_for_rounding_are_close(released: Path) -> None:
    """As other kernels would leave them; and what else is another is named."""
    original = Path(shutil.copytree(released, released.parent / "original"))
    for place in sorted(released.glob("models/*/weights.npz")):
        with np.load(place) as stored:
            weights = {name: values * np.float32(1.0 + 2e-6) for name, values in stored.items()}
        np.savez(place, **weights)
    place = released / "provenance.json"
    record = json.loads(place.read_text())
    record["machine"]["cpu_flags"] = ["avx"]
    record["parameters"]["train"]["seed"] = 3
    place.write_text(json.dumps(record))
    seal(released)
    done = stemforge(original, "verify", ".", "--compare", str(released))
    lines = done.stdout.splitlines()
    assert "provenance.json: parameters.train.seed: 1 and 3" in lines
    assert any(line.startswith("provenance.json: machine.cpu_flags: [") for line in lines)
    assert sum(": close: SDR" in line for line in lines) == 2
    assert lines[-1] == f".: close to {released}"


def test_a_release_by_name(finished: Path) -> None:
    project = clone(finished, "released")
    take_outputs(finished, project)
    release = ("release", "--name", "tiny", "--version", "1.0.0-rc.1")
    notes = project / "notes"
    notes.touch()
    done = stemforge(project, *release, code=2)
    assert "uncommitted changes (notes): commit them, or add --allow-dirty" in done.stderr
    stemforge(project, *release, "--allow-dirty")
    out = project / "releases" / "tiny-1.0.0-rc.1"
    assert json.loads((out / "provenance.json").read_text())["git"]["changed"] == ["notes"]
    notes.unlink()
    assert "already exists" in stemforge(project, *release, code=2).stderr
    for flags, problem in (
        (("--name", "a/b", "--version", "1.0.0"), "--name a/b: must hold only letters"),
        (("--name", "tiny", "--version", "1"), "--version 1: must be like 1.0.0"),
    ):
        assert problem in stemforge(project, "release", *flags, code=2).stderr

    other = ("release", "--name", "tiny", "--version", "2.0.0")
    set_params(project, train__steps=STEPS + 1)
    done = stemforge(project, *other, "--allow-dirty", code=2)
    assert "out of date: train@vocals, train@drums" in done.stderr
    run(project, "git", "checkout", "-q", "params.yaml")
    place = project / "exports" / "parity.json"
    parity = json.loads(place.read_text())
    del parity["drums/drums-float16.tflite"]
    place.write_text(json.dumps(parity))
    done = stemforge(project, *other, code=2)
    assert "drums-float16.tflite: no entry in exports/parity.json" in done.stderr
    place = project / "leaderboard" / "metrics.json"
    metrics = json.loads(place.read_text())
    metrics["stemforge"]["drums"]["SDR"] = None
    place.write_text(json.dumps(metrics))
    # The report shows it. What a table lacks: tests/test_releases_writing.py.
    assert "out of date: report: run `dvc repro`" in stemforge(project, *other, code=2).stderr
    shutil.rmtree(project / "exports")
    assert (
        "exports: no such file or folder: run `dvc repro`"
        in stemforge(project, *other, code=2).stderr
    )
    assert [path.name for path in (project / "releases").iterdir()] == [out.name]
