"""What headers of audio files state, where that is more or less than is there."""

import os
import re
from pathlib import Path

# libsndfile's log of a header: a length that is not the file's.
LOGGED_LENGTH = re.compile(r"(\d+) \(should be (\d+)\)")
HEADER_BYTES = 512  # of a WAV file before its samples, as programs write it
MAX_PADDING_BYTES = 2**16  # behind the samples
MAX_WRONG_BYTES = 64  # by which programs write the length of a whole file wrong
# What a header holds for a length that its writer did not know.
UNKNOWN_LENGTHS = {2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1}


def wav_damage(path: Path) -> str:
    """What the chunks of a WAV file say that is not so; "" where all is well, and for others.

    libsndfile's log would tell too, but it speaks of the length of the whole file as well, which
    programs write wrong without harm to the samples.
    """
    with path.open("rb") as file:
        if file.read(4) not in (b"RIFF", b"RF64"):
            return ""
        file.seek(12)
        has_data, long_bytes = False, None
        while len(chunk := file.read(8)) == 8:
            name, length = chunk[:4], int.from_bytes(chunk[4:], "little")
            if name == b"ds64":  # RF64: the length in bytes of the file, then of the samples
                long_bytes = int.from_bytes(file.read(16)[8:], "little")
                file.seek(-16, os.SEEK_CUR)
            elif name == b"data" and length == 2**32 - 1 and long_bytes is not None:
                length = long_bytes
            left = path.stat().st_size - file.tell()
            if name == b"RIFF":
                return "another WAV file follows it"
            if has_data and not re.fullmatch(rb"[ -~]{4}", name):
                said = f"unfinished? {left + 8} bytes follow the samples that its header states"
                return said if left > MAX_PADDING_BYTES else ""
            if name == b"data" and left < length and length not in UNKNOWN_LENGTHS:
                return f"cut off? its header states {length} bytes of samples, {left} are there"
            has_data |= name == b"data"
            file.seek(length + length % 2, os.SEEK_CUR)
    return ""


def logged_damage(log: str, *, wrong_bytes: int) -> str:
    """What libsndfile's log of a header that is no WAV file's says of a file that is too short."""
    for stated, there in LOGGED_LENGTH.findall(log):
        if int(stated) - int(there) > wrong_bytes and int(stated) not in UNKNOWN_LENGTHS:
            return f"cut off? its header states {stated} bytes, {there} are there"
    return ""


def aiff_damage(path: Path, samples: int) -> str:
    """Whether an AIFF file's COMM chunk states more samples than its sound chunk holds."""
    with path.open("rb") as file:
        if file.read(4) != b"FORM":
            return ""
        file.seek(12)
        while len(chunk := file.read(8)) == 8:
            if chunk[:4] == b"COMM":
                return too_few(int.from_bytes(file.read(6)[2:], "big"), samples)
            length = int.from_bytes(chunk[4:], "big")
            file.seek(length + length % 2, os.SEEK_CUR)
    return ""


def caf_damage(path: Path) -> str:
    """Whether a CAF file's data chunk states more bytes than there are."""
    with path.open("rb") as file:
        if file.read(4) != b"caff":
            return ""
        file.seek(8)
        while len(chunk := file.read(12)) == 12:
            length = int.from_bytes(chunk[4:], "big")
            left = path.stat().st_size - file.tell()
            if chunk[:4] == b"data" and left < length and length not in UNKNOWN_LENGTHS:
                return f"cut off? its header states {length} bytes of samples, {left} are there"
            if length > left:
                return ""
            file.seek(length, os.SEEK_CUR)
    return ""


def flac_samples(path: Path) -> int:
    """How many samples the header of a FLAC file states; 0 for none, and for other files."""
    with path.open("rb") as file:
        head = file.read(26)  # fLaC, a block's header, and STREAMINFO up to its 36 bits of samples
    is_flac = head.startswith(b"fLaC") and len(head) == 26
    return int.from_bytes(head[18:], "big") % 2**36 if is_flac else 0


def too_few(stated: int, there: int) -> str:
    """What a header says that states more samples than there are; "" where it does not."""
    if stated <= there or stated in UNKNOWN_LENGTHS:
        return ""
    return f"cut off? its header states {stated} samples, {there} are there"
