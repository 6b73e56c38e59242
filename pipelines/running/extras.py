"""The packages that stemforge's extras install, from its own metadata."""

import importlib.metadata
from collections.abc import Iterator
from contextlib import suppress

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from stemforge.errors import MissingExtraError

REPRO = "repro"
OURS = "stemforge"
SAME = {"tensorflow-cpu": "tensorflow"}  # the build for GPUs brings the same package


def _declared(package: str, extra: str) -> Iterator[Requirement]:
    """What an installed package needs on this machine for an extra, or without one ("")."""
    for text in importlib.metadata.requires(package) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def requirements(*extras: str) -> list[Requirement]:
    """The packages that stemforge and some of its extras name for this machine.

    Args:
        extras: their names; extras that they include are included.

    Returns:
        Sorted by name, each once.
    """
    found: dict[str, Requirement] = {}
    wanted, seen = ["", *extras], set[str]()  # "": what stands in no extra
    while wanted:
        extra = wanted.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in _declared(OURS, extra):
            if requirement.name == OURS:
                wanted += requirement.extras
            else:
                found[requirement.name] = requirement
    return [found[name] for name in sorted(found)]


def closure(*extras: str) -> list[Requirement]:
    """All packages that stemforge and some of its extras need, directly or by others.

    Args:
        extras: their names.

    Returns:
        Sorted by name, each once, in this machine's version. What is not installed here, such as
        the static ffmpeg beside one of the system, may have any version that fits.
    """
    found: dict[str, Requirement] = {}
    wanted = [(OURS, extra) for extra in ("", *extras)]
    seen = set[tuple[str, str]]()
    while wanted:
        package, extra = wanted.pop()
        if (package, extra) in seen:
            continue
        seen.add((package, extra))
        for requirement in _declared(package, extra):
            name = canonicalize_name(requirement.name)
            pin = Requirement(name)
            try:
                pin.specifier = SpecifierSet(f"=={importlib.metadata.version(name)}")
                wanted += [(name, more) for more in ("", *requirement.extras)]
            except importlib.metadata.PackageNotFoundError:
                pin.extras, pin.specifier = requirement.extras, requirement.specifier
            found[name] = pin
    found.pop(OURS, None)
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
