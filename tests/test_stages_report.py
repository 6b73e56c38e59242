"""Stage report after a killed run; tests/system/test_dvc_repro.py runs it on real scores."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stemforge.pipelines.stages import report


def test_a_killed_run_starts_again(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = SimpleNamespace(models=[], report=SimpleNamespace(audio="none"))
    monkeypatch.setattr(report, "read_params", lambda: params)
    monkeypatch.setattr(report, "read_board", lambda *_: None)

    def killed(out: Path, *_: Any, **__: Any) -> None:
        (out / "songs").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "write_report", killed)
    with pytest.raises(KeyboardInterrupt):
        report.main()
    monkeypatch.setattr(report, "write_report", lambda out, *_, **__: (out / "songs").mkdir())
    report.main()
    assert [path.name for path in Path("report").iterdir()] == ["songs"]
    assert not [*Path(".work/report").glob("*/report")]
