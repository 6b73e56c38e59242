"""Writes a report: reads the leaderboard's files, cuts and encodes excerpts, renders the page."""

import json
import shutil
import tempfile
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
from stemforge.eval.report.excerpts import RULE, Excerpt, choose_excerpts, outline
from stemforge.eval.report.pages import INDEX, SONGS, Song, render, song_file, song_script
from stemforge.eval.scoring.estimates import Estimates
from stemforge.eval.scoring.scores import FRAME_TABLE
from stemforge.features.audio import files as audio
from stemforge.features.audio.codecs import open_output
from stemforge.features.corpus.sources import MIXTURE
from stemforge.features.signal.stft import Waveform
from stemforge.pipelines.console import say
from stemforge.pipelines.running.parallel import map_tracks
from stemforge.pipelines.scoring.methods import FromFolder, TrackTruth
from stemforge.pipelines.scoring.plan import TrackSources
from stemforge.train.model_files import model_name, read_card

COLUMNS = 800  # of a waveform's outline
TABLE, TRACKS = "leaderboard.parquet", "tracks.csv"
HISTORY = "history.csv"  # of a model directory
UNHEARD = "The corpus does not have this song, or it cannot be read."
NO_SOUND = "This report was made without sound: its frames alone are shown."


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
        tracks: by name, with their mixture and true stems.
        estimates: by method.
        licence: of the corpus, for a reader.
        seconds: length of an excerpt.
        bitrate: of a sound, such as "64k".
    """

    tracks: Mapping[str, TrackSources]
    estimates: Mapping[str, Estimates]
    licence: str
    seconds: float
    bitrate: str


def read_board(leaderboard: str, scores: str) -> Board:
    """Reads a leaderboard's folder and the scores that it was made from.

    Args:
        leaderboard: folder with leaderboard.json and the tables.
        scores: folder with scores.parquet.

    Raises:
        UserError: a file is missing or damaged.
    """
    places = {
        name: storage.join(folder, name)
        for folder, name in (
            *((leaderboard, name) for name in (ABOUT, TABLE, TRACKS)),
            (scores, FRAME_TABLE),
        )
    }
    for place in places.values():
        if storage.size(place) is None:
            raise UserError(
                f"{place}: no such file: give a folder of `stemforge score`, or a release"
            )
    about = read_about(storage.read_bytes(places[ABOUT]), place=places[ABOUT])
    tables = []
    for name in (TABLE, TRACKS, FRAME_TABLE):
        with storage.local_copy(places[name]) as path:
            try:
                read = pd.read_csv if name == TRACKS else pd.read_parquet
                tables.append(read(path))
            except (ValueError, OSError) as error:  # pyarrow's errors are ValueErrors
                raise UserError(f"{places[name]}: cannot be read: {error}") from None
    return Board(about, *tables)


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
) -> None:
    """Writes index.html and the songs' scripts into an existing folder.

    Args:
        out: the folder.
        board: what to show.
        sound: what can be heard; None: nothing.
        title: heading; None: the leaderboard's.
        models: model directories whose nets and training the page shows.
        repeat: commands that make the scores and the report again.
        single_file: whether the songs' scripts become part of index.html.
        label: of the progress bar.
    """
    data = contents.board_data(board.table, board.tracks, board.about)
    here = [method["name"] for method in data["methods"] if not method["test_set"]]
    if sound and not any(song in sound.tracks for song in data["songs"]):
        raise UserError("the corpus has none of the scored songs: give the one that was scored")
    jobs = []
    for number, song in enumerate(data["songs"]):
        sdr = contents.song_frames(board.frames, song, here)
        track = sound.tracks.get(song) if sound else None
        if sdr or track:
            jobs.append(
                (song, (out / song_file(number), number, song, sdr, board.about, track, sound))
            )
    (out / SONGS).mkdir()
    remarks = [note for notes in map_tracks(_write_song, jobs, label=label) for note in notes]
    for remark in remarks:
        say(f"{label}: {remark}")
    files: list[str | None] = [None] * len(data["songs"])
    inline = []
    for _, (place, number, *_) in jobs:
        if single_file:
            inline.append(place.read_text(encoding="utf-8"))
        else:
            files[number] = song_file(number)
    if single_file:
        shutil.rmtree(out / SONGS)
    spoken = None
    if sound:
        rule = RULE.format(
            method=board.about.aggregation.baseline,
            seconds=sound.seconds,
            whole=3 * sound.seconds,
        )
        spoken = {"licence": sound.licence, "rule": rule}
    data |= {
        "title": title or data["title"],
        "files": files,
        "heard": [name for name in here if sound and name in sound.estimates],
        "silence": UNHEARD if sound else NO_SOUND,
        "significance": SIGNIFICANCE_LEVEL,
        "repeat": repeat,
        "confidence": board.about.aggregation.confidence,
        **_describe_models(models),
    }
    text = render(data, inline=inline, sound=spoken)
    (out / INDEX).write_text(text, encoding="utf-8")


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


def _write_song(
    place: Path,
    number: int,
    name: str,
    sdr: Mapping[str, Mapping[str, Sequence[float | None]]],
    about: About,
    track: TrackSources | None,
    sound: Sound | None,
) -> list[str]:
    """Writes a song's script; returns what could not be made of it."""
    length = max((len(v) for targets in sdr.values() for v in targets.values()), default=0)
    seconds = max(0.0, (length - 1) * about.hop_s + about.window_s) if length else 0.0
    made: dict[str, Any] = {"seconds": seconds, "outline": (), "excerpts": (), "sounds": {}}
    remarks: list[str] = []
    if track and sound:
        chosen = contents.mean_over_targets(sdr.get(about.aggregation.baseline, {}))
        try:
            made, remarks = _listen(track, sound, chosen, about)
        except (UserError, OSError) as error:
            remarks = [f"{name}: no sound: {error}"]
    song = Song(name, hop_s=about.hop_s, window_s=about.window_s, sdr=sdr, **made)
    place.write_text(song_script(number, song), encoding="utf-8")
    return remarks


def _listen(
    track: TrackSources, sound: Sound, sdr_db: Sequence[float], about: About
) -> tuple[dict[str, Any], list[str]]:
    """Outline, excerpts and sounds of a song, and remarks on what is missing."""
    with track.open() as files, tempfile.TemporaryDirectory(prefix="stemforge-") as scratch:
        info = audio.file_info(files[MIXTURE])
        samples, rate_hz = info.samples, info.sample_rate_hz
        excerpts = choose_excerpts(
            sdr_db, hop_s=about.hop_s, window_s=about.window_s, samples=samples,
            sample_rate_hz=rate_hz, seconds=sound.seconds,
        )  # fmt: skip
        encode = _Encoder(Path(scratch), excerpts, rate_hz, sound.bitrate)
        waveform = audio.as_stereo(audio.read_audio(files[MIXTURE]))
        made = {
            "seconds": samples / rate_hz,
            "outline": outline([waveform], samples=samples, columns=COLUMNS),
            "excerpts": [(e.kind, e.start / rate_hz, e.end / rate_hz) for e in excerpts],
        }
        sounds = {"mixture": encode(waveform)}
        for stem, path in files.items():
            if stem != MIXTURE:
                sounds[f"true/{stem}"] = encode(audio.as_stereo(audio.read_audio(path)))
        remarks = []
        for method, estimates in sound.estimates.items():
            truth = TrackTruth(waveform, {}, rate_hz)
            waveforms, notes = FromFolder.of(estimates, track.name).estimate(truth)
            sounds |= {f"{method}/{target}": encode(w) for target, w in waveforms.items()}
            remarks += [
                f"{track.name}: {method}: no {note.target}: {note.detail}"
                for note in notes
                if note.target not in waveforms
            ]
    return made | {"sounds": sounds}, remarks


@dataclass(frozen=True)
class _Encoder:
    """Excerpts of a waveform as one Opus file."""

    scratch: Path
    excerpts: Sequence[Excerpt]
    sample_rate_hz: int
    bitrate: str

    def __call__(self, waveform: Waveform) -> bytes:
        path = self.scratch / "sound.opus"
        with open_output(
            path, codec="opus", channels=2, sample_rate_hz=self.sample_rate_hz, bitrate=self.bitrate
        ) as writer:
            for excerpt in self.excerpts:
                writer.write(waveform[excerpt.start : excerpt.end])
        return path.read_bytes()
