from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemforge.errors import UserError
from stemforge.pipelines.running.estimates import write_estimates

SILENCE = np.zeros((100, 2), np.float32)


def parts(reached: list[str]) -> Iterator[dict[str, np.ndarray]]:
    reached.append("separation")
    yield {"drums": SILENCE, "vocals": SILENCE}
    reached.append("end")
    raise UserError("the song is damaged")


@pytest.mark.parametrize(
    ("changed", "problem", "reached"),
    [
        ({"codec": "ogg", "sample_rate_hz": 352800}, "ogg: 352800 Hz is not supported", []),
        ({"codec": "mp3", "channels": 6}, "mp3: 6 channels are not supported; at most 2", []),
        ({}, "the song is damaged", ["separation", "end"]),
        (
            {"folder": "taken/song"},
            "taken/song/drums: cannot be made, because a file is in its",
            [],
        ),
    ],
)
def test_what_fails_leaves_no_file_and_no_folder(
    in_tmp: Path, changed: dict[str, Any], problem: str, reached: list[str]
) -> None:
    Path("taken").touch()
    values: dict[str, Any] = {"codec": "wav", "channels": 2, "sample_rate_hz": 44100} | changed
    folder = Path(values.pop("folder", "new/song"))
    paths = {stem: folder / stem / "song.wav" for stem in ("drums", "vocals")}
    found: list[str] = []
    with pytest.raises(UserError, match=problem):
        write_estimates(paths, parts(found), **values)
    assert found == reached
    assert [path.name for path in in_tmp.iterdir()] == ["taken"]


def test_a_name_that_is_too_long_leaves_no_folder(in_tmp: Path) -> None:
    paths = {"drums": Path("new", "x" * 256, "drums.wav")}
    with pytest.raises(OSError, match="File name too long"):
        write_estimates(paths, parts([]), codec="wav", channels=2, sample_rate_hz=44100)
    assert list(in_tmp.iterdir()) == []
