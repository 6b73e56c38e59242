"""Writes a report from a leaderboard's files, and from songs where they can be heard."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stemforge import storage
from stemforge.errors import UserError
from stemforge.eval.leaderboard.about import ABOUT, About, read_about
from stemforge.eval.leaderboard.tables import SIGNIFICANCE_LEVEL
from stemforge.eval.report import contents
from stemforge.eval.report.excerpts import RULE
from stemforge.eval.report.pages import INDEX, SONGS, Song, render, song_file, song_script
from stemforge.eval.scoring.scores import FRAME_TABLE
from stemforge.features.audio.codecs import check_codec
from stemforge.features.audio.ffmpeg import find_program
from stemforge.pipelines.console import count_of, say
from stemforge.pipelines.running.parallel import PROCESSES, map_tracks
from stemforge.pipelines.running.report_sounds import PROCESS_BYTES, Sources, cut_song, encode
from stemforge.train.model_files import model_name, read_card

TABLE, TRACKS = "leaderboard.parquet", "tracks.csv"
HISTORY = "history.csv"  # of a model directory
NAMES = ("method", "track", "target")
UNHEARD = "Nothing can be heard of this song: the corpus does not have it, or it cannot be read."
NO_SOUND = "This report was made without sound: its frames alone are shown."
SECONDS, BITRATE = 3.0, "48k"  # of an excerpt, and of each of its sounds, unless given


@dataclass(frozen=True)
class Board:
    """A leaderboard's files.

    Attributes:
        about: leaderboard.json.
        table: leaderboard.parquet.
        tracks: tracks.csv.
        frames: scores.parquet.
    """

    about: About
    table: pd.DataFrame
    tracks: pd.DataFrame
    frames: pd.DataFrame


@dataclass(frozen=True)
class Sound:
    """What can be heard.

    Attributes:
        songs: by name.
        licence: of the corpus, for a reader.
        seconds: length of an excerpt.
        bitrate: of a sound, such as "48k".
    """

    songs: Mapping[str, Sources]
    licence: str
    seconds: float
    bitrate: str

    def check(self) -> None:
        """Refuses what no song could be encoded with.

        Raises:
            UserError: a bitrate that is none, no licence, or there is no ffmpeg.
        """
        if not self.licence.strip():
            raise UserError("the licence of the songs is missing: the page has to name it")
        check_codec("opus", subtype=None, bitrate=self.bitrate)
        find_program("ffmpeg")


def read_board(leaderboard: str, scores: str) -> Board:
    """Reads a leaderboard's folder and the scores that it was made from.

    Args:
        leaderboard: folder with leaderboard.json and the tables.
        scores: folder with scores.parquet.

    Raises:
        UserError: a file is missing or damaged.
    """
    folders = {ABOUT: leaderboard, TABLE: leaderboard, TRACKS: leaderboard, FRAME_TABLE: scores}
    places = {name: storage.join(folder, name) for name, folder in folders.items()}
    for name, place in places.items():
        if storage.size(place) is None:
            older = storage.size(places[TABLE]) is not None
            remedy = (
                "scored by an earlier version: score again"
                if name == ABOUT and older
                else "give a folder of `stemforge score`, a release or a checkout"
            )
            raise UserError(f"{place}: no such file: {remedy}")
    about = read_about(storage.read_bytes(places[ABOUT]), place=places[ABOUT])
    return Board(about, *(_read_table(places[name]) for name in (TABLE, TRACKS, FRAME_TABLE)))


def _read_table(place: str) -> pd.DataFrame:
    with storage.local_copy(place) as path:
        try:
            if not place.endswith(".csv"):
                return pd.read_parquet(path)
            # A song may be called 001, or NA.
            names = dict.fromkeys(NAMES, str)
            return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])
        except (ValueError, OSError) as error:  # pyarrow's errors are ValueErrors
            raise UserError(f"{place}: cannot be read: {error}") from None


def write_report(
    out: Path,
    board: Board,
    sound: Sound | None,
    *,
    title: str | None,
    models: Sequence[Path],
    repeat: str,
    single_file: bool,
    label: str,
) -> int:
    """Writes index.html and the songs' scripts into an existing empty folder.

    Args:
        out: the folder.
        board: what to show.
        sound: what can be heard; None: nothing.
        title: heading; None: the leaderboard's.
        models: model directories whose nets and training the page shows.
        repeat: commands that make the scores and the report again.
        single_file: whether the songs' scripts become part of index.html.
        label: of the progress bar and of remarks.

    Returns:
        How many songs and estimates are missing or were changed; each is named.

    Raises:
        UserError: no scored song can be heard although `sound` is there, or see Sound.check.
    """
    data = contents.board_data(board.table, board.tracks, board.about)
    if sound:
        sound.check()
        if not sound.songs.keys() & {*data["songs"]}:
            raise UserError("the corpus has none of the scored songs: give the one that was scored")
    data |= {
        "title": title or data["title"],
        "significance": SIGNIFICANCE_LEVEL,
        "confidence": board.about.aggregation.confidence,
        "silence": UNHEARD if sound else NO_SOUND,
        "repeat": repeat,
        **_describe_models(models),
    }
    here = [method["name"] for method in data["methods"] if not method["test_set"]]
    songs = sound.songs.values() if sound else ()
    heard = {method for song in songs for method in song.estimates}
    scored = {*board.frames["method"]}
    data["choices"] = [name for name in here if name in (heard or scored)]
    data["heard"] = [name for name in here if name in heard]
    (out / SONGS).mkdir()
    jobs = _jobs(out, data, board, sound, here)
    notes = map_tracks(_write_song, jobs, label=label, processes=_processes(sound))
    for (song, _), found in zip(jobs, notes, strict=True):
        for note in found:
            say(f"{label}: {song}: {note}")
    if sound and not any(b'"mixture":' in job[1][0].read_bytes() for job in jobs):
        raise UserError("no song can be heard (see above)")
    files: list[str | None] = [None] * len(data["songs"])
    inline = []
    for _, (place, number, *_) in jobs:
        if single_file:
            inline.append(place.read_text(encoding="utf-8"))
        else:
            files[number] = song_file(number)
    if single_file:
        shutil.rmtree(out / SONGS)
    text = render({**data, "files": files}, inline=inline, sound=_spoken(sound, board.about))
    (out / INDEX).write_text(text, encoding="utf-8")
    return sum(map(len, notes))


def _spoken(sound: Sound | None, about: About) -> dict[str, str] | None:
    """What is said beside the player."""
    if sound is None:
        return None
    rule = RULE.format(
        method=about.aggregation.baseline, seconds=sound.seconds, whole=3 * sound.seconds
    )
    return {"licence": sound.licence, "rule": rule}


def _processes(sound: Sound | None) -> int | None:
    """As many as memory allows; one where there is nothing to encode."""
    if sound is None:
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(count_of(PROCESSES) or os.cpu_count() or 1, memory // PROCESS_BYTES))


def _describe_models(models: Sequence[Path]) -> dict[str, list[dict[str, Any]]]:
    """What the page says of the models: their nets, and curves of their training."""
    described: dict[str, list[dict[str, Any]]] = {"models": [], "curves": []}
    for place in models:
        card = read_card(place)
        step = card["provenance"].get("step")
        described["models"].append({
            "name": model_name(card["stems"]),
            "net": card["net"].describe(),
            "trained": f"best of its validations: step {step}" if step else "elsewhere",
            "provenance": json.dumps(card["provenance"], indent=2, sort_keys=True),
        })  # fmt: skip
        if (place / HISTORY).is_file():
            curves = contents.curves(pd.read_csv(place / HISTORY))
            described["curves"].append({"name": model_name(card["stems"]), **curves})
    return described


Jobs = list[tuple[str, tuple[Any, ...]]]


def _jobs(
    out: Path, data: Mapping[str, Any], board: Board, sound: Sound | None, methods: Sequence[str]
) -> Jobs:
    """Arguments of `_write_song` for each song with frames or sound."""
    jobs: Jobs = []
    for number, song in enumerate(data["songs"]):
        sdr = contents.song_frames(board.frames, song, methods)
        sources = sound.songs.get(song) if sound else None
        if sdr or sources:
            settings = (sound.seconds, sound.bitrate) if sound else None
            ours = sdr.get(board.about.aggregation.baseline, {})
            stems = {name: values for name, values in ours.items() if name in data["stems"]}
            chosen = contents.mean_over_targets(stems)
            place = out / song_file(number)
            arguments = (place, number, song, sdr, chosen, board.about, sources, settings)
            jobs.append((song, arguments))
    return jobs


def _write_song(
    place: Path,
    number: int,
    name: str,
    sdr: Mapping[str, Mapping[str, Sequence[float | None]]],
    chosen_by: Sequence[float],
    about: About,
    sources: Sources | None,
    settings: tuple[float, str] | None,
) -> list[str]:
    """Writes a song's script; returns what could not be made of it, a line each."""
    frames = max((len(v) for targets in sdr.values() for v in targets.values()), default=0)
    made: dict[str, Any] = {
        "seconds": (frames - 1) * about.hop_s + about.window_s if frames else 0.0,
        "outline": (),
        "excerpts": (),
        "sounds": {},
    }
    notes: Sequence[str] = ()
    if sources and settings:
        seconds, bitrate = settings
        try:
            cut = cut_song(sources, chosen_by, about, frames=frames, seconds=seconds)
        except (UserError, OSError) as error:
            notes = [f"no sound: {error}"]
        else:
            notes = cut.notes
            made = {
                "seconds": cut.seconds,
                "outline": cut.outline,
                "excerpts": cut.places(),
                "sounds": {
                    sound: encode(waveform, sample_rate_hz=cut.sample_rate_hz, bitrate=bitrate)
                    for sound, waveform in cut.waveforms.items()
                },
            }
    song = Song(name, hop_s=about.hop_s, window_s=about.window_s, sdr=sdr, **made)
    place.write_text(song_script(number, song), encoding="utf-8")
    return [*notes]
