from pathlib import Path

import pytest

from stemforge.pipelines.commands.main import main


def test_info(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(models)]) == 0
    printed = capsys.readouterr().out
    assert "stems       drums" in printed
    assert "estimates up to 689 Hz" in printed
    assert "16 frames x 64 bins x 2 (0.37 s)" in printed
