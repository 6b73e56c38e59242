"""Music source separation: trained U-Nets separate songs, and scores measure how well.

The names in `__all__` are the public API. Each is loaded when it is first used; importing stemforge
loads nothing else. Everything in the sub-packages may change.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stemforge.eval.scoring.bss_eval import bss_eval as bss_eval
    from stemforge.eval.scoring.scores import score_track as score_track
    from stemforge.eval.separation.separator import Separator as Separator
    from stemforge.eval.separation.separator import find_models as find_models
    from stemforge.features.audio.files import load_song as load_song
    from stemforge.pipelines.pretrained.places import fetch_model as fetch_model

__all__ = [
    *("Separator", "__version__", "bss_eval", "fetch_model", "find_models", "load_song"),
    "score_track",
]

_PLACES = {
    "Separator": "stemforge.eval.separation.separator",
    "bss_eval": "stemforge.eval.scoring.bss_eval",
    "fetch_model": "stemforge.pipelines.pretrained.places",
    "find_models": "stemforge.eval.separation.separator",
    "load_song": "stemforge.features.audio.files",
    "score_track": "stemforge.eval.scoring.scores",  # the one that needs an extra
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("stemforge")
    if name not in _PLACES:
        raise AttributeError(f"module 'stemforge' has no attribute {name!r}")
    from stemforge.errors import needs

    with needs("score", what=f"stemforge.{name}"):
        return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
