"""Text and JSON that other programs wrote: its encodings, and one line for what is neither."""

import codecs
import json
import reprlib
from typing import Any

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_text(data: bytes) -> str:
    """Text in UTF-8, with a byte order mark or without, or in UTF-16 with one.

    Returns:
        The text without its mark; line ends are unchanged.

    Raises:
        ValueError: it is in another encoding, or not text; the message names the line.
    """
    encoding = "utf-16" if data.startswith(UTF16_MARKS) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, errors="ignore").count("\n") + 1
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise ValueError(f"line {line}: not {name} text: save the file as UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"line {line}: a zero byte, so not text: save the file as UTF-8")
    return text


def parse_json(data: bytes) -> Any:
    """JSON in any encoding that `decode_text` reads; NaN and Infinity count as numbers.

    Raises:
        ValueError: not text or not JSON; the message is one line.
    """
    text = decode_text(data)
    try:
        value = json.loads(text)
        if "\\u" in text:  # half of a surrogate pair can be neither printed nor written
            written = json.dumps(value, ensure_ascii=False)
            written.encode()
            if "\\u0000" in written:  # no name of a file holds it
                raise ValueError("a zero character in a text")
    except RecursionError:
        raise ValueError("not JSON that can be read: nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("not JSON: half of a surrogate pair (\\ud800 and the like)") from None
    except ValueError as error:  # JSONDecodeError, and integers of thousands of digits
        raise ValueError(f"not JSON: {brief(error)}") from None
    return value


def show(value: object) -> str:
    """A value of someone's file as a message shows it: short, whatever it is."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of thousands of digits
        return f"a very large {type(value).__name__}"


def brief(text: object, most: int = 300) -> str:
    """Words of someone's file, or of a library about it, on one line of a bounded length."""
    line = " ".join(str(text).split())
    if not line and isinstance(text, Exception):
        return type(text).__name__
    return line if len(line) <= most else f"{line[:most]} ..."
