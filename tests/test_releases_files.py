from pathlib import Path

from stemforge.pipelines.releases.files import SUMS, listed, models, sums, wrong_sums


def test_hidden_files_are_no_part_of_a_release(tmp_path: Path) -> None:
    """A release that was copied by macOS, or is a git repository, is still complete."""
    model = tmp_path / "models" / "vocals" / "model.json"
    model.parent.mkdir(parents=True)
    model.write_text("{}")
    # sha256sum of the two bytes.
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    (tmp_path / SUMS).write_text(sums(tmp_path))
    assert (tmp_path / SUMS).read_text() == f"{digest}  models/vocals/model.json\n"
    for name in ("._README.md", ".git/config", "models/.DS_Store", "models/vocals/._model.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(wrong_sums(tmp_path, listed(tmp_path))) == []
    assert models(tmp_path) == [model.parent]
    (tmp_path / "models" / "extra").touch()
    assert list(wrong_sums(tmp_path, listed(tmp_path))) == [f"models/extra: not in {SUMS}"]


def test_only_signatures_may_come_after_the_sums(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("free")
    (tmp_path / SUMS).write_text(sums(tmp_path))
    signatures = ("model.sig", "SHA256SUMS.asc", "SHA256SUMS.sig")
    others = ("LICENSE.sig", "model.sig.txt", "models/model.sig", "signature")
    (tmp_path / "models").mkdir()
    for name in (*signatures, *others):
        (tmp_path / name).write_text("signed")
    assert list(wrong_sums(tmp_path, listed(tmp_path))) == [f"{n}: not in {SUMS}" for n in others]
    # Sums that are written again list no signature of the old ones.
    for name in others:
        (tmp_path / name).unlink()
    before = (tmp_path / SUMS).read_text()
    assert sums(tmp_path) == before
    # A signed file is still checked.
    (tmp_path / "LICENSE").write_text("mine")
    assert list(wrong_sums(tmp_path, listed(tmp_path))) == [
        f"LICENSE: its sha256 is not that of {SUMS}"
    ]
