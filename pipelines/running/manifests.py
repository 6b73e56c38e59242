"""The manifests that features and training read: of the corpus, and of its copies."""

from collections import Counter

from stemforge.errors import UserError
from stemforge.features.corpus.manifest import Manifest, read_manifest, song_of
from stemforge.pipelines.params import Params
from stemforge.pipelines.paths import COPY_TRACKS, TRACKS


def refuse_remote_copies(manifest: Manifest, per_song: int) -> None:
    """Refuses copies of songs that are not on this machine.

    Raises:
        UserError: copies are wanted, and the corpus is at a URL.
    """
    if per_song and manifest.corpus:
        raise UserError(
            f"copies.per_song={per_song}: the songs are at {manifest.corpus}, and copies are made "
            "of files on this machine: copy the corpus and set corpus.root, or set "
            "copies.per_song=0"
        )


def read_manifests(params: Params) -> tuple[Manifest, Manifest | None]:
    """The manifest of stage decode, and that of stage copies; None with copies.per_song=0.

    Raises:
        UserError: one is missing or damaged, or they do not belong together.
    """
    manifest, per_song = read_manifest(TRACKS), params.copies.per_song
    if not per_song:
        return manifest, None
    refuse_remote_copies(manifest, per_song)
    copies = read_manifest(COPY_TRACKS)
    songs = {track.name for track in manifest.split("train")}
    if copies.stems != manifest.stems or not {song_of(t.name) for t in copies.tracks} <= songs:
        raise UserError(
            f"{COPY_TRACKS}: of other songs or stems than {TRACKS}: run `dvc repro copies`"
        )
    numbers = Counter(song_of(track.name) for track in copies.tracks)
    if other := sorted({*numbers.values()} - {per_song}):
        raise UserError(
            f"{COPY_TRACKS}: {other[0]} copies of a song, but copies.per_song={per_song}: run "
            "`dvc repro copies`"
        )
    return manifest, copies
