"""Downloads a file. What a broken transfer or a killed run has left is resumed."""

import http
import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stemforge.errors import UserError
from stemforge.pipelines.console import progress
from stemforge.pipelines.running.work import check_free_space
from stemforge.unfinished import remove, temporary_name

CHUNK_BYTES = 2**20
TIMEOUT_S = 30.0
# In one call. Each has to get further than all before it: a server that always stops at the same
# byte ends the call at the second.
TRANSFERS = 20


@dataclass(frozen=True)
class Version:
    """Which version of a file a server sends.

    Attributes:
        url: the file's address.
        mark: its strong ETag or else its date, for If-Range; "" where the server sends neither.
        size: in bytes; None where the server does not say.
    """

    url: str
    mark: str
    size: int | None


def fetch_file(url: str, path: Path, *, advice: str) -> None:
    """Downloads a file, with progress.

    Args:
        url: of the file. The transfer can be resumed where its server supports Range.
        path: its name once it is complete. Until then it and a note on its version have temporary
            names in the same folder, where the next call finds them.
        advice: what to do where the address cannot be reached; the end of the message.

    Raises:
        UserError: the address cannot be reached or the transfer ends too early, again and again,
            or the disk has no room.
    """
    part = temporary_name(path)
    note = temporary_name(path.with_name(f"{path.name}.json"))
    furthest = -1
    for _ in range(TRANSFERS):
        problem = _transfer(url, part, note, label=path.name.lstrip("."), advice=advice)
        if not problem:
            part.replace(path)
            remove(note)
            return
        there = part.stat().st_size if part.exists() else 0
        if there <= furthest:
            break
        furthest = there
    raise UserError(f"{url}: {problem}: try again later, or {advice}")


def unreachable(url: str, error: Exception, advice: str) -> UserError:
    """The error of an address that does not answer, or answers with an error."""
    reason = getattr(error, "reason", None) or error
    return UserError(f"{url}: cannot be reached: {reason}: {advice}")


def _transfer(url: str, part: Path, note: Path, *, label: str, advice: str) -> str:
    """Adds to the part what the server sends; returns what is missing then, "" if nothing is."""
    known = _read_note(note)
    done = part.stat().st_size if part.exists() else 0
    if known is None or known.url != url or not known.mark:
        done = 0
    elif done and done == known.size:
        return ""
    # If-Range: the whole file, if it is another version now.
    resume = {"Range": f"bytes={done}-", "If-Range": known.mark} if known and done else {}
    response = _open(url, resume, advice)
    if response is None:
        remove(part)
        return "the file there is shorter now"
    with response:
        version, start = _version(url, response)
        if start and (version, start) != (known, done):
            remove(part)
            return "the file there has changed"
        return _append(response, part, note, version, start=start, label=label)


def _open(url: str, resume: Mapping[str, str], advice: str) -> Any:
    """The server's answer; None where it has no bytes from the wanted one on."""
    try:
        request = urllib.request.Request(url, headers=dict(resume))
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if resume and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        raise unreachable(url, error, advice) from None
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts among them
        raise unreachable(url, error, advice) from None
    except ValueError:
        raise UserError(f"{url}: not an address: expected https://HOST/FILE") from None


def _version(url: str, response: Any) -> tuple[Version, int]:
    """The version that is sent, and from which byte on."""
    headers = response.headers
    etag, size, start = headers.get("ETag", ""), headers.get("Content-Length", ""), 0
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
        start, size = (int(found[1]), found[2]) if found else (-1, "")
    mark = etag if etag.startswith('"') else headers.get("Last-Modified", "")
    return Version(url, mark, int(size) if size.isdecimal() else None), start


def _append(
    response: Any, part: Path, note: Path, version: Version, *, start: int, label: str
) -> str:
    if version.size is not None:
        check_free_space(part.parent, version.size - start, what=f"downloading {label}")
    total = None if version.size is None else round(version.size / 1e6)
    done = start
    with (
        part.open("ab" if start else "wb") as file,
        progress(total, label=label, unit="MB", done=round(start / 1e6)) as bar,
    ):
        note.write_text(json.dumps(asdict(version)), encoding="utf-8")  # the old part is gone now
        problem = ""
        while not problem:
            try:
                chunk = response.read1(CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                problem = f"the connection broke ({error})"
                break
            if not chunk:
                break
            file.write(chunk)
            done += len(chunk)
            bar.update(round(done / 1e6) - bar.n)
    if problem or done < (version.size or 0):
        of = f" of {version.size}" if version.size else ""
        return f"{problem or 'the transfer ended'} after {done}{of} bytes"
    return ""


def _read_note(note: Path) -> Version | None:
    """The version that the part is of; None where there is none, or a killed run's half of one."""
    try:
        return Version(**json.loads(note.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
