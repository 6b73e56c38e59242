"""Files and folders appear under their names whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stemforge.unfinished import finishing, is_temporary, remove_leftovers, temporary_name
from tests.conftest import ROOT


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_temporary_names_lie_beside_their_places_and_are_known_as_such() -> None:
    place = Path("a") / "song.wav"
    assert temporary_name(place) == Path("a/.song.wav.tmp")
    assert temporary_name(place, by_process=True) == Path(f"a/.song.wav.{os.getpid()}.tmp")
    assert is_temporary("a/.song.wav.tmp")
    assert is_temporary(".song.wav.123.tmp")
    for name in ("song.wav", "song.tmp", ".song.wav", ".a.tmp/song.wav", ".song.tmp.wav"):
        assert not is_temporary(name), name


@pytest.mark.parametrize("by_process", [False, True])
def test_the_longest_names_have_temporary_ones_of_their_own(
    tmp_path: Path, by_process: bool
) -> None:
    places = [tmp_path / f"{'ä' * 120}{end}".ljust(255 - 120, "x") for end in ("a", "b")]
    temporary = [temporary_name(place, by_process=by_process) for place in places]
    assert len({*temporary}) == 2
    for place, file in zip(places, temporary, strict=True):
        assert len(os.fsencode(place.name)) == 255
        assert is_temporary(file.name)
        with finishing(place, by_process=by_process) as same:
            assert same == file
            same.touch()  # the file system takes the name
        assert place.exists()
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("by_process", [False, True])
def test_a_file_has_its_name_once_it_is_whole(tmp_path: Path, by_process: bool) -> None:
    path = tmp_path / "song.txt"
    path.write_text("old")
    with finishing(path, by_process=by_process) as temporary:
        assert temporary == temporary_name(path, by_process=by_process)
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert names(tmp_path) == ["song.txt"]
    assert path.read_text() == "new"


def test_a_folder_takes_the_place_of_an_empty_one_only(tmp_path: Path) -> None:
    path = tmp_path / "songs"
    path.mkdir()
    with finishing(path) as temporary:
        temporary.mkdir()
        (temporary / "one").touch()
        assert names(path) == []
    assert names(tmp_path) == ["songs", "songs/one"]
    with pytest.raises(OSError, match="not empty"), finishing(path) as temporary:
        temporary.mkdir()
    assert names(tmp_path) == ["songs", "songs/one"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_raises_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def stop_midway(path: Path, *, of_a_file: bool) -> None:
        with finishing(path, by_process=of_a_file) as temporary:
            if of_a_file:
                temporary.write_text("half")
            else:
                (temporary / "deep").mkdir(parents=True)
            raise error

    for of_a_file in (True, False):
        with pytest.raises(error):
            stop_midway(tmp_path / "song", of_a_file=of_a_file)
    with pytest.raises(error), finishing(tmp_path / "missing" / "song.txt"):
        raise error
    assert names(tmp_path) == []


def test_what_was_never_written_is_an_error_and_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "song.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), finishing(path):
        pass
    assert path.read_text() == "old"


@pytest.mark.system
def test_what_is_killed_leaves_a_temporary_name_that_the_next_run_takes(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from stemforge.unfinished import finishing\n"
        "with finishing(Path(sys.argv[1])) as file, finishing(Path(sys.argv[2])) as folder:\n"
        "    file.write_text('half')\n"
        "    (folder / 'deep').mkdir(parents=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    file, folder = tmp_path / "song.txt", tmp_path / "songs"
    done = subprocess.run([sys.executable, "-c", script, file, folder], cwd=ROOT, check=False)
    assert done.returncode < 0
    assert names(tmp_path) == [".song.txt.tmp", ".songs.tmp", ".songs.tmp/deep"]
    with finishing(file) as new:
        new.write_text("whole")
    with finishing(folder) as new:
        new.mkdir()
    assert names(tmp_path) == ["song.txt", "songs"]


def test_leftovers_are_removed_at_any_depth_and_links_are_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "elsewhere"
    kept.mkdir()
    (kept / "song.wav").touch()
    folder = tmp_path / "out"
    (folder / "a" / ".b.tmp" / ".c.tmp").mkdir(parents=True)
    (folder / "a" / ".song.wav.77.tmp").touch()
    (folder / "a" / "song.wav").touch()
    (folder / ".link.tmp").symlink_to(kept)
    remove_leftovers(folder)
    assert names(folder) == ["a", "a/song.wav"]
    assert names(kept) == ["song.wav"]
