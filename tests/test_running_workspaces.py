"""What a temporary workspace of DVC takes from its checkout."""

from pathlib import Path

import pytest

from stemforge.errors import UserError
from stemforge.pipelines.running.starter_corpus import check_corpus_root
from stemforge.pipelines.running.workspaces import link_root, origin


@pytest.fixture
def workspace(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: where DVC runs an experiment of in_tmp/checkout."""
    folder = in_tmp / "checkout" / ".dvc" / "tmp" / "exps" / "tmp1"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("root", ["../musdb18", "corpora/musdb18"])
def test_a_relative_corpus_is_that_of_the_checkout(workspace: Path, root: str) -> None:
    checkout = origin()
    assert checkout == workspace.parents[3]
    with pytest.raises(UserError) as caught:
        check_corpus_root(root)
    assert str(caught.value) == (
        f"corpus.root={root}: no such folder: a relative path starts at the checkout, {checkout}"
    )
    (checkout / root / "train").mkdir(parents=True)
    Path(root).parent.mkdir(exist_ok=True)
    Path(root).symlink_to("gone")  # of an earlier experiment
    link_root(root)
    check_corpus_root(root)
    assert [path.name for path in Path(root).iterdir()] == ["train"]
    (checkout / root).rename(checkout / "moved")
    (checkout / root).symlink_to(checkout / "moved")
    link_root(root)
    assert Path(root).resolve() == checkout / "moved"


def test_what_is_there_stays(workspace: Path) -> None:
    checkout = origin()
    assert checkout is not None
    for folder in (checkout, workspace):
        (folder / "corpus").mkdir()
    link_root("corpus")
    assert not Path("corpus").is_symlink()
    link_root("nowhere")
    assert not Path("nowhere").exists()
