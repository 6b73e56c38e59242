"""Rules of the tree: who may import whom, and what the wheel must do on its own."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import get_args

import pytest

from stemforge.features.tracks import BlockReason, TrackReason
from tests.conftest import ROOT

# What all packages may import.
COMMON = {"quiet", "tensorflow", "machine", "__version__"}
# Of train, eval may import the nets alone: train.unet, and train.config that describes them.
ALLOWED = {
    "features": {"features", *COMMON},
    "train": {"train", "features", *COMMON},
    "eval": {"eval", "features", "train.unet", "train.config", *COMMON},
    "pipelines": {"pipelines", "eval", "train", "features", *COMMON},
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert not {name for name in names if name.split(".")[0] in ALLOWED}, path
    return {name.removeprefix("stemforge.") for name in names if name.startswith("stemforge.")}


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_one_way(package: str) -> None:
    for path in (ROOT / package).glob("*.py"):
        for name in imported(path):
            parts = name.split(".")
            fits = parts[0] in ALLOWED[package] or ".".join(parts[:2]) in ALLOWED[package]
            assert fits, f"{path.name} imports {name}"


def test_numpy_modules_do_not_import_tensorflow_or_beam() -> None:
    numpy_modules = [
        path.stem
        for path in (ROOT / "features").glob("*.py")
        if path.stem not in ("__init__", "transforms", "encoding_tf", "stft_tf")
    ]
    script = "import sys\n" + "".join(
        f"import stemforge.features.{name}\n" for name in numpy_modules
    )
    script += "assert not {'tensorflow', 'keras', 'apache_beam'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_workers_of_the_feature_job_need_no_tensorflow() -> None:
    script = (
        "import sys, stemforge.features.transforms\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom stemforge.pipelines import cli\n"
        "cli.build_parser().format_help()\n"
        "heavy = {'tensorflow', 'keras', 'apache_beam', 'scipy', 'pandas', 'soundfile'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


@pytest.mark.system
def test_the_wheel_works_without_a_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    # From a copy, so that the build leaves nothing in the tree.
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in files:
        if (ROOT / name).exists():
            (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "tree" / name, follow_symlinks=False)
    subprocess.run([*build, "-w", tmp_path, tmp_path / "tree"], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("stemforge-*.whl")
    contents = zipfile.ZipFile(wheel).namelist()
    assert {
        "stemforge/eval/reference/sisec18.parquet", "stemforge/eval/reference/published.csv",
    } <= set(contents)  # fmt: skip
    packages = {name.split("/")[0] for name in contents}
    assert {name for name in packages if "." not in name} == {"stemforge"}

    # An empty environment that sees this one's libraries, but not its editable stemforge.
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    site = next((venv / "lib").glob("python*/site-packages"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", site, wheel], check=True, capture_output=True)
    libraries = next(p for p in sys.path if p.endswith("site-packages"))
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {"PATH": os.defpath, "PYTHONPATH": f"{site}{os.pathsep}{libraries}"}
    command = [str(venv / "bin" / "python"), "-c", "from stemforge.pipelines.cli import run; run()"]
    for arguments, code, text in (
        (["--help"], 0, "separate"),
        (["--version"], 0, "stemforge 0."),
        (["info", "."], 2, "no model directory"),
    ):
        done = subprocess.run(
            [*command, *arguments], cwd=empty, env=environment, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        assert text in done.stdout + done.stderr
    where = "import stemforge; print(stemforge.__file__)"
    done = subprocess.run(
        [venv / "bin" / "python", "-c", where],
        cwd=empty, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(str(site))


def test_the_map_of_pipelines_names_every_module() -> None:
    text = (ROOT / "pipelines" / "__init__.py").read_text(encoding="utf-8")
    modules = {path.stem for path in (ROOT / "pipelines").glob("*.py")} - {"__init__"}
    assert modules <= set(re.findall(r"\w+", text))


def test_the_newest_version_is_in_the_list_of_changes() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert versions[0] == project["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", versions[0])


def pages() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines()]


def anchors(page: Path) -> set[str]:
    """Of its headings, as they are made on GitHub."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    for page in pages():
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            if "://" in link:
                continue
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_files_and_modules_that_pages_name_are_there() -> None:
    path = re.compile(r"\b(?:tests|benchmarks|features|train|eval|pipelines|deploy)/[\w/]+\.\w+")
    module = re.compile(r"python -m (?:stemforge\.)?((?:benchmarks|pipelines)\.\w+)")
    for page in pages():
        text = page.read_text(encoding="utf-8")
        names = [*path.findall(text), *(f"{m.replace('.', '/')}.py" for m in module.findall(text))]
        for name in names:
            assert (ROOT / name).exists() or (page.parent / name).exists(), f"{page.name}: {name}"


def test_every_reason_of_a_reject_is_explained() -> None:
    text = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z_, ]+) \((track|block)\) \|", text, re.M)
    for kind, reasons in (("track", TrackReason), ("block", BlockReason)):
        listed = {name for names, of in rows if of == kind for name in names.split(", ")}
        assert listed == set(get_args(reasons))
