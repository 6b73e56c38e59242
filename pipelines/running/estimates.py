"""Writes separated stems, part by part; the files get their names when all are complete."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from stemforge.errors import UserError
from stemforge.features.audio.codecs import AudioWriter, check_limits, open_output
from stemforge.features.audio.formats import Codec, Subtype
from stemforge.features.signal.stft import Waveform
from stemforge.unfinished import temporary_name


def write_estimates(
    paths: Mapping[str, Path],
    estimates: Iterable[Mapping[str, Waveform]],
    *,
    codec: Codec,
    channels: int,
    sample_rate_hz: int,
    subtype: Subtype | None = None,
    bitrate: str | None = None,
) -> dict[str, int]:
    """Writes one file per stem.

    Args:
        paths: their final names, by stem; folders are made as needed.
        estimates: parts of each stem, as Separator.separate_stream yields them.
        codec: see `open_output`, also for the rest.
        channels: of the song.
        sample_rate_hz: of the song.
        subtype: of the samples.
        bitrate: of the stream.

    Returns:
        How many values above full scale were clipped, by stem.

    Raises:
        UserError: a file cannot be written, the codec does not support the song's rate or
            channels, or what the parts raise; then no file is left.
    """
    check_limits(codec, channels=channels, sample_rate_hz=sample_rate_hz)  # before any work
    temporary = {s: temporary_name(p, by_process=True) for s, p in paths.items()}
    made: list[Path] = []
    try:
        for path in paths.values():
            made += [folder for folder in reversed(path.parents) if not folder.exists()]
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise UserError(
                    f"{path.parent}: cannot be made, because a file is in its place: move the file"
                ) from None
        with ExitStack() as files:
            clipped = dict.fromkeys(paths, 0)
            writers: dict[str, AudioWriter] = {}
            for parts in estimates:
                for stem, waveform in parts.items():
                    if stem not in writers:  # after the first part: no song without samples
                        writers[stem] = files.enter_context(
                            open_output(
                                temporary[stem],
                                codec=codec,
                                channels=channels,
                                sample_rate_hz=sample_rate_hz,
                                subtype=subtype,
                                bitrate=bitrate,
                            )
                        )
                    clipped[stem] += writers[stem].write(waveform)
        for stem, path in paths.items():
            temporary[stem].replace(path)
    except BaseException:
        for path in temporary.values():
            with suppress(OSError):  # the first error is the one to report
                path.unlink(missing_ok=True)
        for folder in reversed(made):
            with suppress(OSError):  # not empty, or never made
                folder.rmdir()
        raise
    return clipped
