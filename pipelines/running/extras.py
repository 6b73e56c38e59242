"""The packages that stemforge's extras install, from its own metadata."""

import importlib.metadata

from packaging.requirements import Requirement

REPRO = "repro"


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
