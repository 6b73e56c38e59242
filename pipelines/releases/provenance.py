"""The provenance of a release: code, data, parameters, packages and machine, as one record."""

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from stemforge.code import code_sha256
from stemforge.errors import UserError
from stemforge.features.corpus.manifest import Manifest
from stemforge.machine import cpu_flags
from stemforge.pipelines.code import TRAINING
from stemforge.pipelines.params import Params
from stemforge.pipelines.releases.git import git_state
from stemforge.pipelines.running.extras import REPRO, SAME, versions
from stemforge.train.model_files import read_card

LOCK = Path("dvc.lock")
# CPU flags that decide which kernels run, and so how sums round.
CPU_FLAGS = ("avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16",
             "amx_int8", "asimd", "sve")  # fmt: skip


def collect(
    params: Params, manifest: Manifest, corpus: Mapping[str, Any], *, tracks_sha256: str
) -> dict[str, Any]:
    """Everything known about how the current outputs were made.

    Args:
        params: of the checkout.
        manifest: of the tracks.
        corpus: data/corpus.json.
        tracks_sha256: of the manifest's file.

    Returns:
        JSON values without a time stamp: the same from any clone of a commit on one machine.

    Raises:
        UserError: the checkout has no git commit, or `dvc repro` was never run in it.
    """
    return {
        "git": git_state(),
        "code": {"train": code_sha256(TRAINING)},
        "dvc.lock": lock_hashes(params),
        "parameters": params.model_dump(),
        "seeds": _seeds(params.model_dump()),
        "corpus": {
            "root": corpus["root"],
            "tracks_sha256": tracks_sha256,
            "stems": list(manifest.stems),
            "splits": _splits(manifest),
        },
        "packages": _packages(),
        "python": platform.python_version(),
        "machine": {"system": platform.system(), "architecture": platform.machine(),
                    "cpu_flags": [f for f in CPU_FLAGS if f in cpu_flags()]},
    }  # fmt: skip


def lock_hashes(params: Params) -> dict[str, dict[str, str]]:
    """What dvc.lock says that each stage wrote: path to md5.

    Raises:
        UserError: there is no dvc.lock.
    """
    try:
        lock = YAML(typ="safe").load(LOCK.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{LOCK}: no such file: run `dvc repro` first") from None
    models = {f"train@{model}" for model in params.models}
    return {
        stage: {out["path"]: out["md5"] for out in entry["outs"]}
        for stage, entry in sorted(lock["stages"].items())
        # DVC keeps the entries of models that are no longer in params.yaml.
        if "outs" in entry and (stage in models or not stage.startswith("train@"))
    }


def other_origins(models: Sequence[Path], record: Mapping[str, Any]) -> dict[str, str]:
    """Models that other code, Python or packages have trained than this record names.

    Returns:
        What differs, in a sentence, by the model's name.
    """
    ours = _versions(record)
    commit = record["git"]["commit"][:7]
    found = {}
    for model in models:
        made = read_card(model)["provenance"]
        if "code" not in made:
            found[model.name] = f"{model}: does not say which code trained it"
            continue
        for session in (made, *made["began_with"]):
            theirs = _versions(session)
            changed = [
                f"{name} {version}, not {ours.get(name, 'installed')}"
                for name, version in sorted(theirs.items())
                if ours.get(name) != version
            ]
            if session["code"]["sha256"] != record["code"]["train"]:
                found[model.name] = f"{model}: trained by other code than commit {commit}"
            elif changed:
                found[model.name] = f"{model}: trained with {'; '.join(changed)}"
    return found


def _versions(record: Mapping[str, Any]) -> dict[str, str]:
    """Versions by package, and Python's without its last number, which marks bug fixes."""
    packages = {SAME.get(name, name): version for name, version in record["packages"].items()}
    return packages | {"python": ".".join(record["python"].split(".")[:2])}


def stale_stages() -> list[str]:
    """Stages whose outputs are not those of dvc.lock, or whose inputs or code have changed.

    Raises:
        UserError: DVC cannot tell.
    """
    done = subprocess.run(["dvc", "status", "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"dvc status: {done.stderr.strip()}")

    def differs(change: Any) -> bool:
        if isinstance(change, str):
            return True
        # What is in the folder but not in DVC's cache is still what the stage wrote.
        return any(how != "not in cache" for places in change.values() for how in places.values())

    changes = json.loads(done.stdout)
    return [stage for stage in changes if any(map(differs, changes[stage]))]


def _seeds(values: Mapping[str, Any]) -> dict[str, int]:
    return {f"{name}.seed": part["seed"] for name, part in values.items() if "seed" in part}


def _splits(manifest: Manifest) -> dict[str, dict[str, Any]]:
    table = pd.DataFrame(
        [{"split": t.split, "track": t.name, "seconds": t.duration_s} for t in manifest.tracks]
    )
    return {
        str(split): {
            "tracks": sorted(rows["track"]),
            "seconds": round(float(rows["seconds"].sum()), 1),
        }
        for split, rows in table.groupby("split")
    }


def _packages() -> dict[str, str]:
    """Versions of stemforge and of all that `dvc repro` needs."""
    ours = {"stemforge": importlib.metadata.version("stemforge")}
    return dict(sorted((ours | versions(REPRO)).items()))


def to_json(record: Mapping[str, Any]) -> str:
    """As a file's text."""
    return json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
