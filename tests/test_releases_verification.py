import json
from pathlib import Path
from typing import Any

from stemforge.pipelines.releases.files import SUMS, sums
from stemforge.pipelines.releases.verification import find_problems, find_remarks
from tests.test_releases_model_card import STEMS, write_release

HERE, ELSEWHERE = "a" * 64, "b" * 64
PACKAGES = {"keras": "3.15.1", "stemforge": "0.1.0"}


def write(folder: Path, codes: dict[str, Any], *, code: dict[str, Any] | None) -> None:
    """A release as far as the models' origin goes."""
    record = write_release(folder) | {"python": "3.11.9", "packages": PACKAGES}
    if code is not None:
        record["code"] = code
    (folder / "provenance.json").write_text(json.dumps(record))
    for stem in STEMS:
        place = folder / "models" / stem / "model.json"
        card = json.loads(place.read_text())
        card["provenance"] |= {"python": "3.11.9", "packages": PACKAGES} | codes[stem]
        place.write_text(json.dumps(card))
    (folder / SUMS).write_text(sums(folder))


def trained_by(digest: str) -> dict[str, Any]:
    return {"code": {"sha256": digest}, "began_with": []}


def test_a_model_of_other_code_is_a_problem_unless_accepted(tmp_path: Path) -> None:
    codes = {stem: trained_by(ELSEWHERE) for stem in STEMS} | {"no": trained_by(HERE)}
    write(tmp_path, codes, code={"train": HERE, "accepted": ["drums"]})
    # Models come in the order of their names: drums is passed over.
    assert next(find_problems(tmp_path)) == (
        "models/vocals: trained by other code than commit 0123456"
    )
    assert find_remarks(tmp_path) == [
        "models/drums: trained by other code than commit 0123456 (accepted when the release was "
        "written)"
    ]


def test_a_model_that_does_not_say_its_code_is_a_problem(tmp_path: Path) -> None:
    codes = {stem: trained_by(HERE) for stem in STEMS} | {"vocals": {}}
    write(tmp_path, codes, code={"train": HERE, "accepted": []})
    assert next(find_problems(tmp_path)) == "models/vocals: does not say which code trained it"
    assert find_remarks(tmp_path) == []


def test_an_older_release_says_nothing_of_code(tmp_path: Path) -> None:
    write(tmp_path, {stem: {} for stem in STEMS}, code=None)
    assert find_remarks(tmp_path) == [
        "provenance.json: does not say which code trained the models: an older release"
    ]
