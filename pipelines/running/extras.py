"""The packages that stemforge's extras install, from its own metadata."""

import importlib.metadata
from contextlib import suppress

from packaging.requirements import Requirement

from stemforge.errors import MissingExtraError

REPRO = "repro"
SAME = {"tensorflow-cpu": "tensorflow"}  # the build for GPUs brings the same package


def requirements(*extras: str) -> list[Requirement]:
    """The packages that stemforge and some of its extras need on this machine.

    Args:
        extras: their names; extras that they include are included.

    Returns:
        Sorted by name, each once.
    """
    declared = [Requirement(text) for text in importlib.metadata.requires("stemforge") or []]
    found: dict[str, Requirement] = {}
    wanted, seen = ["", *extras], set[str]()  # "": what stands in no extra
    while wanted:
        extra = wanted.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in declared:
            marker = requirement.marker
            if marker is not None and not marker.evaluate({"extra": extra}):
                continue
            if requirement.name == "stemforge":
                wanted += requirement.extras
            else:
                found[requirement.name] = requirement
    return [found[name] for name in sorted(found)]


def versions(extra: str) -> dict[str, str]:
    """Versions of the packages that stemforge and an extra need, by name.

    Raises:
        MissingExtraError: one is not installed.
    """
    found: dict[str, str] = {}
    for wanted in (requirement.name for requirement in requirements(extra)):
        for name in (wanted, SAME.get(wanted, wanted)):
            with suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
                break
        else:
            raise MissingExtraError(f"{wanted} is not installed: pip install 'stemforge[{extra}]'")
    return found
