"""A folder of estimates from any program: the files of each track, and their problems."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemforge import storage
from stemforge.errors import UserError
from stemforge.eval.scoring.scores import Reason, Remark
from stemforge.features.audio import files as audio
from stemforge.features.corpus.sources import (
    ACCOMPANIMENT,
    NAMES_OF_ACCOMPANIMENT,
    VOCALS,
    rest_of,
    targets_of,
)
from stemforge.features.signal.stft import Waveform

ENDINGS = (".wav", ".flac")
SPLIT = "test"


@dataclass(frozen=True)
class Estimates:
    """What a folder holds.

    Attributes:
        targets: the targets that the method estimates, in the order of the corpus.
        files: path per target, for each track of the corpus that has any.
        remarks: problems per track, also of tracks that are not in the corpus.
    """

    targets: tuple[str, ...]
    files: Mapping[str, Mapping[str, str]]
    remarks: Mapping[str, tuple[Remark, ...]]


def find_estimates(
    root: str, *, tracks: Sequence[str], stems: Sequence[str], complete: bool = False
) -> Estimates:
    """Lists a folder of estimates: ROOT/TRACK/TARGET.wav or .flac, or ROOT/test/TRACK/...

    Upper and lower case of targets and endings count the same.

    Args:
        root: the folder, local or a URL.
        tracks: names of the corpus' test tracks.
        stems: names of its stems; see targets_of and NAMES_OF_ACCOMPANIMENT in
            features.corpus.sources.
        complete: whether these are all of the mixture; see rest_of there.

    Raises:
        UserError: no such folder, or no estimate of these tracks in it.
    """
    if not storage.is_folder(root):
        raise UserError(f"{root}: no such folder")
    known = targets_of(stems, complete=complete)
    names = _names(known, stems, complete=complete)
    found: dict[str, dict[str, list[str]]] = {}
    for name in storage.list_files(root):
        parts = name.split("/")
        if len(parts) == 3 and parts[0] == SPLIT:
            parts = parts[1:]
        stem, ending = _split_ending(parts[-1])
        if len(parts) == 2 and ending in ENDINGS:
            target = names.get(storage.folded(stem), stem)
            folder = found.setdefault(storage.comparable(parts[0]), {})
            folder.setdefault(target, []).append(name)
    by_track = {track: found.pop(storage.comparable(track), {}) for track in tracks}
    targets = tuple(t for t in known if any(t in folder for folder in by_track.values()))
    if not targets:
        raise UserError(
            f"{root}: no estimates of the corpus' test tracks: expected TRACK/TARGET.wav or "
            f".flac, such as {tracks[0]}/{stems[0]}.wav"
        )
    remarks = {track: tuple(_problems(folder, targets)) for track, folder in by_track.items()}
    files = {
        track: {t: storage.join(root, folder[t][0]) for t in targets if len(folder.get(t, ())) == 1}
        for track, folder in by_track.items()
    }
    for track in sorted(found):
        detail = "the corpus has no test track of this name"
        remarks[track] = (Remark("", "unknown_track", detail),)
    return Estimates(targets, files, remarks)


def _names(targets: Sequence[str], stems: Sequence[str], *, complete: bool) -> dict[str, str]:
    """The target of each name that a file may have, folded."""
    names = {storage.folded(target): target for target in targets}
    if ACCOMPANIMENT in targets:
        names = dict.fromkeys(NAMES_OF_ACCOMPANIMENT, ACCOMPANIMENT) | names
    if complete and len(stems) == 2:
        rests = {stem: rest_of(stem, stems, complete=True) for stem in stems}
        names = {storage.folded(f"no_{stem}"): rest for stem, rest in rests.items()} | names
        if VOCALS in stems:
            names = dict.fromkeys(NAMES_OF_ACCOMPANIMENT, rests[VOCALS]) | names
    return names


def _split_ending(name: str) -> tuple[str, str]:
    stem, dot, ending = name.rpartition(".")
    return stem, (dot + ending).lower()


def _problems(folder: Mapping[str, Sequence[str]], targets: Sequence[str]) -> list[Remark]:
    there = ", ".join(sorted(folder)) or "no folder or nothing in it"
    problems = []
    for target in targets:
        files = folder.get(target, ())
        if not files:
            problems.append(Remark(target, "missing", f"no estimate of {target} ({there})"))
        elif len(files) > 1:
            names = dict.fromkeys(map(storage.name, files))
            # The same names in TRACK/ and test/TRACK/ are told apart by their folders.
            both = " and ".join(names if len(names) == len(files) else files)
            problems.append(Remark(target, "ambiguous", f"both {both}"))
    return problems


def read_estimates(
    files: Mapping[str, Path], *, samples: int, sample_rate_hz: int
) -> tuple[dict[str, Waveform], list[Remark]]:
    """Reads a track's estimates as museval would, and says what was changed.

    Args:
        files: by target.
        samples: length of the track; shorter estimates are padded with zeros, longer ones cut.
        sample_rate_hz: of the track; an estimate at another rate is left out, not resampled.

    Returns:
        float32 [samples, 2] by target, and a remark for each estimate that was left out or changed.
    """
    estimates = {}
    remarks = []
    for target, path in files.items():
        waveform, notes = _read(path, samples=samples, sample_rate_hz=sample_rate_hz)
        if waveform is not None:
            estimates[target] = waveform
        remarks += [Remark(target, reason, detail) for reason, detail in notes]
    return estimates, remarks


def _read(
    path: Path, *, samples: int, sample_rate_hz: int
) -> tuple[Waveform | None, list[tuple[Reason, str]]]:
    """An estimate as stereo of that length, or None; and its problems."""
    notes: list[tuple[Reason, str]] = []
    try:
        info, blocks = audio.stream_song(
            path, damaged=lambda damage: notes.append(("damaged", damage))
        )
        if info.sample_rate_hz != sample_rate_hz:
            detail = f"at {info.sample_rate_hz} Hz, the track at {sample_rate_hz} Hz"
            return None, [("sample_rate", detail)]
        if info.channels > 2:
            return None, [("channels", f"{info.channels} channels")]
        waveform = np.concatenate([np.zeros((0, info.channels), np.float32), *blocks])
    except UserError as error:
        # Without the path, which differs between machines.
        return None, [("not_audio", str(error).removeprefix(f"{path}: "))]
    if bad := np.count_nonzero(~np.isfinite(waveform)):
        return None, [("non_finite", f"{bad} values are not finite")]
    if info.channels == 1:
        notes.append(("mono", "mono, scored with both channels equal"))
        waveform = audio.as_stereo(waveform)
    missing = samples - len(waveform)
    if missing > 0:
        notes.append(("padded", f"{missing} samples short, padded with zeros"))
        waveform = np.pad(waveform, ((0, missing), (0, 0)))
    elif missing < 0:
        notes.append(("cut", f"{-missing} samples too long, cut"))
        waveform = waveform[:samples]
    return waveform, notes
