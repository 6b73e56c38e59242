"""Stage decode: corpus -> data/decoded/ (WAV), data/tracks.parquet, data/track_rejects.parquet.

Of a corpus at a URL only the test split is decoded; the feature job decodes the others.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.audio import ffmpeg
from stemforge.features.audio import files as audio
from stemforge.features.audio.formats import Subtype
from stemforge.features.corpus.corpora import CorpusTrack
from stemforge.features.corpus.decoding import decode_track, fetch_track
from stemforge.features.corpus.manifest import (
    Manifest,
    Reject,
    Track,
    write_manifest,
    write_rejects,
)
from stemforge.features.corpus.sources import MUSDB_STREAMS
from stemforge.pipelines.console import run_main, say
from stemforge.pipelines.params import read_params
from stemforge.pipelines.paths import DECODED, TRACK_REJECTS, TRACKS
from stemforge.pipelines.running.corpora import describe_tracks, list_corpus, name_layout
from stemforge.pipelines.running.parallel import map_tracks
from stemforge.pipelines.running.work import check_free_space, explain_empty, work_folder
from stemforge.pipelines.running.workspaces import link_published, publish_all
from stemforge.unfinished import finishing

REQUESTS = 8  # at a time, to a bucket


def main() -> None:
    """Decodes every track that is not decoded yet, then writes the manifest."""
    params = read_params()
    root = params.corpus.root
    tracks = list_corpus(params.corpus)
    decode = any(track.is_decoded for track in tracks)
    is_remote = not storage.is_local(root)
    if is_remote:
        _check_remote(tracks, root)
    if decode:
        ffmpeg.find_program("ffmpeg")  # before the work starts
    identity = (params.corpus.model_dump(), params.decode.model_dump(), _stamps(tracks))
    with work_folder("decode", *identity) as work:
        outs = (DECODED, TRACK_REJECTS, TRACKS)
        if link_published(work, outs):
            return
        wavs = work / "decoded"
        wavs.mkdir(exist_ok=True)
        done = [work / f"{number}.json" for number in range(len(tracks))]
        if is_remote:  # the lengths of its songs, and so the needed space, are not known before
            explain_empty(wavs, f"Only the test split is here. {root} holds the others.")
        elif decode:
            left = [track for track, file in zip(tracks, done, strict=True) if not file.exists()]
            check_free_space(DECODED, wav_bytes(left, params.decode.subtype), what="decoding")
        else:
            explain_empty(wavs, f"{root} holds WAV files, which are not copied.")
        jobs = [
            (track.name, (track, wavs, root, params.decode.subtype, file))
            for track, file in zip(tracks, done, strict=True)
        ]
        results = map_tracks(_decode_once, jobs, label="decode")
        rejects = [result for result in results if isinstance(result, Reject)]
        report_rejects(rejects, len(tracks), strict=params.decode.strict)
        found = [result for result in results if isinstance(result, Track)]
        layout = "" if params.corpus.train_csv else name_layout(root, tracks)
        say(describe_tracks(root, found, layout=layout))
        write_manifest(work / TRACKS.name, Manifest(
            DECODED if decode or is_remote else Path(root),
            tuple(params.corpus.stems),
            tuple(found),
            corpus=root.rstrip("/") if is_remote else "",
        ))  # fmt: skip
        write_rejects(work / TRACK_REJECTS.name, rejects)
        publish_all(work, outs)


def _check_remote(tracks: Sequence[CorpusTrack], root: str) -> None:
    """Refuses sums: the manifest names one file for each source of a track that stays remote."""
    for track in tracks:
        own = all(numbers == (MUSDB_STREAMS.get(name),) for name, numbers in track.streams.items())
        if track.is_summed or not own:
            raise UserError(
                f"corpus.root={root}: {track.name} has stems or a mixture that are summed or "
                "mapped, which stage decode does only in a folder of this machine: copy the "
                "corpus, or compute features by `stemforge features --corpus`"
            )


def _stamps(tracks: Sequence[CorpusTrack]) -> list[tuple[str, str, str | None]]:
    """A stamp of each file, which shows a change without reading the file."""
    files = sorted({(track.split, place) for track in tracks for place in track.places})
    with ThreadPoolExecutor(REQUESTS) as pool:
        stamps = pool.map(storage.stamp, [place for _, place in files])
    return [(*file, stamp) for file, stamp in zip(files, stamps, strict=True)]


def wav_bytes(tracks: Sequence[CorpusTrack], subtype: Subtype) -> int:
    """Bytes that the decoded WAV files will take, from the lengths that the files state."""
    values = 0
    for track in tracks:
        with suppress(UserError):  # a reject, which the decoding itself will name
            if track.streams:
                streams = ffmpeg.probe_streams(Path(track.places[0]))
                lengths = {name: [streams[n] for n in m] for name, m in track.streams.items()}
            else:
                infos = {place: audio.stream_song(Path(place))[0] for place in track.places}
                lengths = {name: [infos[p] for p in files] for name, files in track.files.items()}
            for parts in lengths.values():
                values += max((part.samples or 0) * part.channels for part in parts)
    return values * audio.BYTES_PER_SAMPLE[subtype]


def _decode_once(
    track: CorpusTrack, wavs: Path, root: str, subtype: Subtype, done: Path
) -> Track | Reject:
    """Decodes a track unless an earlier run did; its result is kept in `done`."""
    if done.exists():
        return _from_json(json.loads(done.read_text(encoding="utf-8")))
    work = decode_track if storage.is_local(root) else fetch_track
    result = work(track, wavs, root=root, subtype=subtype)
    with finishing(done) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(result)), encoding="utf-8")
    return result


def _from_json(row: dict[str, Any]) -> Track | Reject:
    if "reason" in row:
        return Reject(**row)
    return Track.from_row(row)


def report_rejects(rejects: Sequence[Reject], tracks: int, *, strict: bool) -> None:
    """Names each rejected track.

    Raises:
        UserError: `strict`, or every track was rejected.
    """
    for reject in rejects:
        say(f"decode: rejected {reject.track}: {reject.reason}: {reject.detail}")
    if not rejects:
        return
    reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(r.reason for r in rejects).items())
    summary = f"{len(rejects)} of {tracks} tracks rejected ({reasons})"
    if len(rejects) == tracks:
        first = rejects[0]
        raise UserError(f"decode: {summary}; the first: {first.track}: {first.detail}")
    if strict:
        first = rejects[0]
        raise UserError(f"decode.strict=true: {summary}; the first: {first.track}: {first.detail}")
    say(f"decode: {summary}")


if __name__ == "__main__":
    raise SystemExit(run_main(main))
