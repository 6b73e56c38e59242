"""The sampling rate used inside, and names of the written formats; no library is loaded here."""

from typing import Literal, get_args

SAMPLE_RATE_HZ = 44100  # the only rate used inside; Spleeter's nets were trained at it
Subtype = Literal["PCM_16", "PCM_24", "FLOAT"]
SUBTYPES: tuple[Subtype, ...] = get_args(Subtype)
Codec = Literal["wav", "flac", "mp3", "m4a", "ogg", "opus"]
CODECS: tuple[Codec, ...] = get_args(Codec)
