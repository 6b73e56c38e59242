"""The files of a report: index.html, and a script with frames and sound for each song.

The scripts are classic ones, since a browser loads neither JSON nor modules from file://.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

INDEX, SONGS = "index.html", "songs"
SCRIPTS = ("state.js", "charts.js", "player.js", "song.js", "report.js")  # in the order of the page


@dataclass(frozen=True)
class Song:
    """What the page shows and plays of a song.

    Attributes:
        name: of the track.
        seconds: its length.
        hop_s: distance between the starts of two scored frames.
        window_s: their length.
        sdr: by method and target a value in dB a frame, None where there is none.
        outline: of its mixture, in percent of full scale; empty where it is not known.
        excerpts: kind, start and end in s, in the order of the song.
        sounds: Opus files of the excerpts, one after the other, by MIXTURE_SOUND, `true_sound`
            and `method_sound`.
    """

    name: str
    seconds: float
    hop_s: float
    window_s: float
    sdr: Mapping[str, Mapping[str, Sequence[float | None]]]
    outline: Sequence[int]
    excerpts: Sequence[tuple[str, float, float]]
    sounds: Mapping[str, bytes]


MIXTURE_SOUND = "mixture"


def true_sound(stem: str) -> str:
    """The name of a true stem's sound; assets/state.js has the same names."""
    return f"true/{stem}"


def method_sound(method: str, target: str) -> str:
    """The name of an estimate's sound."""
    return f"method/{method}/{target}"


def song_file(number: int) -> str:
    """Of the song with this number, from 0; names of songs are not all names of files."""
    return f"{SONGS}/{number + 1:04d}.js"


def song_script(number: int, song: Song) -> str:
    """A script that gives the song to the page."""
    fields = {
        "name": song.name,
        "seconds": round(song.seconds, 3),
        "hop_s": song.hop_s,
        "window_s": song.window_s,
        "sdr": song.sdr,
        "outline": list(song.outline),
        "excerpts": [[kind, round(start, 4), round(end, 4)] for kind, start, end in song.excerpts],
        "sounds": {name: base64.b64encode(data).decode() for name, data in song.sounds.items()},
    }
    return f"receiveSong({number}, {to_script(fields)});\n"


def render(
    data: Mapping[str, Any], *, inline: Sequence[str] = (), sound: Mapping[str, str] | None = None
) -> str:
    """The page.

    Args:
        data: see eval.report.contents.board_data; with `curves`, `models`, `repeat` and `sound`.
        inline: scripts of songs that are part of the page itself.
        sound: by `licence` and `rule` what is said beside the player; None: there is no sound.

    Returns:
        HTML that needs nothing from elsewhere, but the songs' scripts that are not inline.
    """
    environment = Environment(
        loader=PackageLoader("stemforge.eval.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    assets = resources.files("stemforge.eval.report").joinpath("assets")
    return environment.get_template("report.html.jinja").render(
        data=data,
        json=to_script(data),
        style=(assets / "report.css").read_text(encoding="utf-8"),
        scripts=[(assets / name).read_text(encoding="utf-8") for name in SCRIPTS],
        inline=inline,
        sound=sound,
    )


def _code(text: str) -> Markup:
    """Text with `code` in it, as the leaderboard's Markdown has it."""
    parts = [Markup("<code>{}</code>").format(p) if n % 2 else escape(p)
             for n, p in enumerate(text.split("`"))]  # fmt: skip
    return Markup("").join(parts)


def to_script(value: Any) -> str:
    """JSON that is safe within a script element: names cannot end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
