"""The rate inside, and the formats that are written; no library is loaded here."""

from typing import Literal, get_args

SAMPLE_RATE_HZ = 44100  # the only rate inside; Spleeter's nets were trained at it
Subtype = Literal["PCM_16", "PCM_24", "FLOAT"]
SUBTYPES: tuple[Subtype, ...] = get_args(Subtype)
Codec = Literal["wav", "flac", "mp3", "m4a", "ogg", "opus"]
CODECS: tuple[Codec, ...] = get_args(Codec)
