from pathlib import Path

import pytest

from stemforge.errors import UserError
from stemforge.features.corpus.manifest import Source, Track
from stemforge.pipelines.releases.writing import check_complete
from tests.conftest import RATE_HZ


def track(name: str, *, vocals_peak: float) -> Track:
    peaks = {"mixture": 0.5, "vocals": vocals_peak, "drums": 0.5}
    sources = tuple(
        Source(stem, f"{name}/{stem}.wav", "PCM_16", peak, peak / 3, 0, "0" * 64, "0" * 64)
        for stem, peak in peaks.items()
    )
    return Track(name, "test", RATE_HZ, RATE_HZ, 1.0, -80.0, "", sources)


def test_only_a_stem_that_is_silent_throughout_needs_no_score(in_tmp: Path) -> None:
    silent = [track("A", vocals_peak=0.0), track("B", vocals_peak=0.0)]
    metrics = {"stemforge": {"vocals": {"SDR": None}, "drums": {"SDR": 5.0}}}
    check_complete(silent, ["vocals", "drums"], metrics, {})
    heard = [*silent, track("C", vocals_peak=0.1)]
    with pytest.raises(UserError, match="no score of vocals: run `dvc repro` first"):
        check_complete(heard, ["vocals", "drums"], metrics, {})
    metrics["stemforge"]["drums"]["SDR"] = None
    with pytest.raises(UserError, match="no score of drums"):
        check_complete(silent, ["vocals", "drums"], metrics, {})
