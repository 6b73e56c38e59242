"""The importable name: what it offers, what importing it does not do, and the pages' snippets."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import stemforge
from docs.make_api import api_page
from stemforge.errors import MissingExtraError, UserError
from stemforge.train.model import save_model
from tests.conftest import RATE_HZ, ROOT
from tests.test_runtimes_tensorflow import NETS, trained


def python(script: str, *, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_importing_it_loads_the_standard_library_alone() -> None:
    print_loaded = (
        "import sys; before = {*sys.modules}; import stemforge; print({*sys.modules} - before)"
    )
    loaded = {name.split(".")[0] for name in re.findall(r"'([\w.]+)'", python(print_loaded))}
    assert "stemforge" in loaded
    assert loaded - {"stemforge"} <= set(sys.stdlib_module_names)


def test_its_names_are_the_public_api() -> None:
    for name in stemforge.__all__:
        assert getattr(stemforge, name) is not None
        assert name in dir(stemforge)
    with pytest.raises(AttributeError, match="no attribute 'separator'"):
        _ = stemforge.separator


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for name in ("stemforge.eval.scoring.scores", "stemforge.eval.scoring.estimates"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    text = r"stemforge.score_track needs pandas, .*: pip install 'stemforge\[score\]'"
    with pytest.raises(MissingExtraError, match=text):
        _ = stemforge.score_track


# What libraries do to the process when they load is theirs; so they load first.
LIBRARIES = (
    *("ai_edge_litert.interpreter", "ai_edge_quantizer.quantizer", "dvclive.live"),
    "apache_beam",
    "apache_beam.runners.dataflow.dataflow_runner",
    "apache_beam.runners.portability.portable_runner",
    *("google_crc32c", "jinja2", "jsonschema", "keras", "pandas", "pyarrow.parquet", "pydantic"),
    *("ruamel.yaml", "scipy.fft", "scipy.linalg", "scipy.signal", "scipy.stats", "soundfile"),
    *("tensorflow", "tqdm"),
)
IMPORT_ALL = f"""
import importlib, logging, os, pkgutil, random, signal, sys, threading, warnings
for name in {LIBRARIES}:
    importlib.import_module(name)
import numpy

def state():
    return {{
        "environment": dict(os.environ),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "path": list(sys.path),
        "levels": {{
            name: logging.getLogger(name).level
            for name in (None, "absl", "apache_beam", "tensorflow")
        }},
        "handlers": list(map(str, logging.getLogger().handlers)),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "filters": list(warnings.filters),
        "random": (random.getstate(), str(numpy.random.get_state())),
        "hooks": (sys.excepthook, threading.excepthook, sys.stdout, sys.stderr),
        "folder": os.getcwd(),
    }}

import stemforge
before, count = state(), 0
for module in pkgutil.walk_packages(stemforge.__path__, "stemforge."):
    importlib.import_module(module.name)
    count += 1
after = state()
assert before == after, [key for key in before if before[key] != after[key]]
print(count)
"""


@pytest.mark.system
def test_no_import_changes_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("STEMFORGE_HEARTBEAT", "heartbeat")
    monkeypatch.setenv("STEMFORGE_LOGICAL_CPUS", "2")
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False
    )
    modules = [
        p for name in ("features", "train", "eval", "pipelines") for p in (ROOT / name).glob("*.py")
    ]
    assert done.returncode == 0, done.stdout
    assert int(done.stdout) >= len(modules)


@pytest.fixture(scope="module")
def users_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, a song, and files of a user's that have our packages' names."""
    root = tmp_path_factory.mktemp("user")
    for stem in ("vocals", "drums"):
        (root / "models" / stem).mkdir(parents=True)
        save_model(root / "models" / stem, trained(NETS["4stems"], (stem,), seed=1))
    song = np.random.default_rng(1).uniform(-0.1, 0.1, (RATE_HZ, 2)).astype(np.float32)
    soundfile.write(root / "song.mp3", song, RATE_HZ)
    for name in ("train.py", "eval.py", "features/__init__.py", "pipelines/__init__.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("raise SystemExit('the user has a module of this name')\n")
    return root


def test_models_are_found_by_what_can_run_them(
    users_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [users_folder / "models" / stem for stem in ("drums", "vocals")]
    assert stemforge.find_models(str(users_folder / "models")) == folders
    both = tmp_path / "both"
    shutil.copytree(folders[0], both / "drums")
    (both / "drums-float32.tflite").touch()
    # An editor's or user's backup, and what macOS leaves.
    shutil.copytree(folders[0], both / ".drums.bak")
    for name in ("._drums-float32.tflite", "__MACOSX/drums-float32.tflite"):
        (both / name).parent.mkdir(exist_ok=True)
        (both / name).touch()
    assert stemforge.find_models(both) == [both / "drums"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # no TensorFlow
    assert stemforge.find_models(both) == [both / "drums-float32.tflite"]
    assert stemforge.find_models(both, runtime="tensorflow") == [both / "drums"]
    assert stemforge.find_models(users_folder / "models") == folders  # to say what they need
    with pytest.raises(UserError, match=r"no model directory \(with a model.json\) in it"):
        stemforge.find_models(users_folder / "features")


def test_a_model_directory_without_tensorflow_names_the_extra(
    users_folder: Path, tmp_path: Path
) -> None:
    script = (
        "import sys\nsys.modules['tensorflow'] = None\n"
        "from stemforge.pipelines.commands.main import main\n"
        "sys.exit(main(['separate', 'song.mp3', '--model', 'models', '--output', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "out"],
        cwd=users_folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "stemforge: error: models/drums: a model directory needs tensorflow, which is not "
        "installed: pip install 'stemforge[train]'\n"
    )
    assert not (tmp_path / "out").exists()


def snippets(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_readmes_snippets_run_beside_a_users_modules(users_folder: Path) -> None:
    (snippet,) = snippets("README.md")
    shape = "\nprint(sorted(stems), stems['vocals'].shape == waveform.shape, rate)\n"
    assert python(snippet + shape, cwd=users_folder) == f"['drums', 'vocals'] True {RATE_HZ}\n"


def test_the_snippet_of_scoring_runs(users_folder: Path) -> None:
    (snippet,) = snippets("docs/evaluation.md")
    signals = (
        "import numpy as np\n"
        "references = np.random.default_rng(1).standard_normal((2, 88200, 2))\n"
        "estimates = references + 0.1 * references[::-1]\n"
    )
    found = python(f"{signals}{snippet}\nprint(scores.sdr.shape)", cwd=users_folder)
    assert found == "(2, 2)\n"


def test_the_page_of_the_api_is_what_the_docstrings_say() -> None:
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == api_page()


@pytest.mark.system
def test_tensorflow_writes_nothing_where_the_user_has_no_home(tmp_path: Path) -> None:
    script = (
        "import os, pwd\n"
        "def no_entry(user):\n    raise KeyError(user)\n"  # of a container's user in /etc/passwd
        "pwd.getpwuid = no_entry\n"
        "del os.environ['HOME']\n"
        "from stemforge import tensorflow\ntensorflow.start()\nimport keras\n"
        "print(keras.config.floatx())"
    )
    assert python(script, cwd=tmp_path) == "float32\n"
    assert list(tmp_path.iterdir()) == []
