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
from ruamel.yaml import YAML

from stemforge.code import DATA, WITHOUT_EFFECT, closure, code_sha256
from stemforge.features.corpus.manifest import BlockReason, TrackReason
from stemforge.pipelines.code import TRAINING, dependencies, is_code
from tests.conftest import ROOT

# What all packages may import: what lies in stemforge/ itself.
COMMON = {
    "checksums",
    "code",
    "errors",
    "machine",
    "parquet",
    "quiet",
    "storage",
    "tensorflow",
    "text",
    "unfinished",
    "__version__",
}
# Of train, eval may import what trained nets are: see train/__init__.py.
TRAINED = {"train.nets", "train.model", "train.model_files", "train.config"}
ALLOWED = {
    "stemforge": COMMON,
    "features": {"features", *COMMON},
    "train": {"train", "features", *COMMON},
    "eval": {"eval", "features", *TRAINED, *COMMON},
    "pipelines": {"pipelines", "eval", "train", "features", *COMMON},
}
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ROOMS = [
    path.parent
    for package in ("features", "train", "eval", "pipelines")
    for path in sorted((ROOT / package).rglob("__init__.py"))
]


def imported(path: Path) -> set[str]:
    """Names of ours that a module imports, wherever in it, without `stemforge.`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert not {name for name in names if name.split(".")[0] in ALLOWED.keys() - {"stemforge"}}
    return {name.removeprefix("stemforge.") for name in names if name.startswith("stemforge.")}


def is_in(name: str, rooms: set[str]) -> bool:
    """Whether a name is one of some packages or modules, or in one."""
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_one_way(package: str) -> None:
    # The links in stemforge/ lead to the packages themselves; __init__.py says where names lie.
    own = (
        (ROOT / package).glob("*.py") if package == "stemforge" else (ROOT / package).rglob("*.py")
    )
    for path in own:
        for name in imported(path):
            fits = is_in(name, ALLOWED[package]) or path == ROOT / "stemforge" / "__init__.py"
            assert fits, f"{path.relative_to(ROOT)} imports {name}"


def test_nobody_imports_a_stage_and_commands_import_no_commands() -> None:
    for path in (p for package in ALLOWED for p in (ROOT / package).rglob("*.py")):
        for name in imported(path):
            place = path.relative_to(ROOT)
            assert not is_in(name, {"pipelines.stages"}), f"{place} imports {name}"
            if place != Path("pipelines/commands/main.py"):
                assert not is_in(name, {"pipelines.commands"}), f"{place} imports {name}"


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_a_rooms_map_names_exactly_what_is_in_it(room: Path) -> None:
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""
    modules = {path.stem for path in room.glob("*.py")} - {"__init__"}
    modules |= {path.parent.name for path in room.glob("*/__init__.py")}
    assert set(re.findall(r"^- (\w+)(?:: .|$)", text, re.M)) == modules


def test_a_stage_is_called_as_its_module() -> None:
    for name, stage in STAGES.items():
        command = f"exec python -m stemforge.pipelines.stages.{name}"
        assert stage["cmd"].split(" --")[0] == command
    modules = {path.stem for path in (ROOT / "pipelines" / "stages").glob("*.py")} - {"__init__"}
    assert modules == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_it_imports(stage: str) -> None:
    module = f"stemforge.pipelines.stages.{stage}"
    listed = [path for path in STAGES[stage]["deps"] if is_code(path)]
    assert listed == dependencies(module), "run `python -m stemforge.pipelines.code`"
    # What Python has loaded after the import is there, or left out for a reason.
    script = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    ours = {name for name in loaded if is_in(name, {"stemforge"})}
    left_out = {name for cut in WITHOUT_EFFECT for name in closure(cut, without=())}
    packages = {name for name in ours if not closure(name, without=()).count(name)}
    assert ours <= {*closure(module), *left_out, *packages}


def test_what_modules_read_beside_them_is_a_dependency_too() -> None:
    beside = {
        path.relative_to(ROOT).as_posix()
        for package in ("features", "train", "eval", "pipelines")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and "templates" not in path.parts
    }
    for path in beside:  # templates are the release's, which is no stage
        assert any(path == place or path.startswith(f"{place}/") for place in DATA.values()), path


def test_numpy_modules_do_not_import_tensorflow_or_beam() -> None:
    graphs = {"encoding_tf", "stft_tf", "beam"}
    script = "import sys\n" + "".join(
        f"import stemforge.{path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')}\n"
        for path in sorted((ROOT / "features").rglob("*.py"))
        if path.stem not in graphs | {"__init__"}
    )
    script += "assert not {'tensorflow', 'keras', 'apache_beam'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_workers_of_the_feature_job_need_no_tensorflow() -> None:
    script = (
        "import sys, stemforge.features.shards.beam\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom stemforge.pipelines.commands import main\n"
        "main.build_parser().format_help()\n"
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
        "stemforge/eval/leaderboard/reference/sisec18.parquet",
        "stemforge/eval/leaderboard/reference/published.csv",
        "stemforge/eval/scoring/museval.schema.json",
        "stemforge/pipelines/releases/templates/README.md.jinja",
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
    command = [
        str(venv / "bin" / "python"),
        "-c",
        "from stemforge.pipelines.commands.main import run; run()",
    ]
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
    script = (
        "import stemforge; print(stemforge.__file__)\n"
        f"from stemforge.code import code_sha256; print(code_sha256({TRAINING!r}))"
    )
    done = subprocess.run(
        [venv / "bin" / "python", "-c", script],
        cwd=empty, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    where, code_of_training = done.stdout.splitlines()
    assert where.startswith(str(site))
    assert code_of_training == code_sha256(TRAINING)  # a release compares the two


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
    module = re.compile(r"python -m (?:stemforge\.)?((?:benchmarks|mobile|pipelines)(?:\.\w+)+)")
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
