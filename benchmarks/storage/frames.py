"""Records as lines of framed JSON, each with a checksum and appended in one write.

    {"rec":<raw JSON>,"crc":"<CRC-32 of the raw bytes, 8 hex digits>"}<newline>

Each line is plain JSON to other tools. The checksum is taken over the bytes and not over
re-serialised JSON, because two decimal texts can be the same number. A last line without a newline
is an interrupted write: it was never acknowledged, is ignored when reading, and moved aside by the
next append. Any other line that fails its check is damage, and an error.
Standard library, the errors and `files` only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.errors import StoreError
from benchmarks.storage.files import sync_folder

MAX_FRAME_BYTES = 16 * 2**20
MAX_FILE_BYTES = 512 * 2**20

_FRAME = re.compile(rb'\{"rec":(?P<raw>\{.*\}),"crc":"(?P<crc>[0-9a-f]{8})"\}', re.DOTALL)
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Frame(NamedTuple):
    """One record's JSON, and the byte in the file at which its line begins."""

    body: dict[str, Any]
    offset: int


def encode(body: Mapping[str, Any]) -> bytes:
    """The framed line of a JSON object; ValueError if it holds NaN or is too large."""
    raw = json.dumps(body, allow_nan=False, separators=(",", ":")).encode("ascii")
    frame = b'{"rec":%b,"crc":"%08x"}\n' % (raw, zlib.crc32(raw))
    if len(frame) > MAX_FRAME_BYTES:
        raise ValueError(f"record has {len(frame)} bytes, expected at most {MAX_FRAME_BYTES}")
    return frame


def decode(line: bytes) -> dict[str, Any]:
    """The JSON object of a framed line without its newline; ValueError if it is damaged."""
    if len(line) >= MAX_FRAME_BYTES:
        raise ValueError(f"line has {len(line)} bytes, expected less than {MAX_FRAME_BYTES}")
    match = _FRAME.fullmatch(line)
    if match is None:
        raise ValueError(f"not a framed record: {line[:60]!r}")
    raw = match["raw"]
    if match["crc"] != b"%08x" % zlib.crc32(raw):
        raise ValueError(f"checksum is {zlib.crc32(raw):08x}, expected {match['crc'].decode()}")
    return parse_object(raw)


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in these bytes; ValueError on a duplicate key, NaN, infinity or bad JSON."""
    try:
        value = json.loads(
            raw,
            object_pairs_hook=_unique_keys,
            parse_constant=_finite_number,
            parse_float=_finite_number,
        )
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, received {type(value).__name__}")
    return value


def read(path: Path) -> list[Frame]:
    """Every record of a file in order; an unfinished last line is left out.

    Raises StoreError, with file and offset, if any line before it is damaged.
    """
    content = read_bytes(path, max_bytes=MAX_FILE_BYTES)
    end = content.rfind(b"\n") + 1
    _check_torn(path, content[end:], offset=end)
    frames = []
    offset = 0
    for line in content[:end].split(b"\n")[:-1]:
        frames.append(Frame(_decode_at(path, line, offset), offset))
        offset += len(line) + 1
    return frames


def append(path: Path, frame: bytes) -> None:
    """Append one encoded line; when this returns, it is on the disk.

    Any number of processes may append at once. If the line cannot be written completely, the file
    is restored and StoreError raised.
    """
    try:
        fd = os.open(path, _APPEND, 0o644)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        start = _repaired_end(path, fd)
        _write_whole(path, fd, frame, start)
        if start == 0:  # the file may be new: its name must be durable as well
            sync_folder(path.parent)
    finally:
        os.close(fd)


def read_bytes(path: Path, *, max_bytes: int) -> bytes:
    """The content of a file that is no link; StoreError if it is too large or unreadable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(fd, "rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > max_bytes:
        raise StoreError(f"{path} is larger than {max_bytes} bytes")
    return content


def damaged(path: Path, offset: int, cause: object) -> StoreError:
    """The error to raise for a file that is damaged at this byte."""
    return StoreError(
        f"{path} is damaged at byte {offset}: {cause}",
        hint="restore the file from a copy, or move its folder out of the store",
    )


def _decode_at(path: Path, line: bytes, offset: int) -> dict[str, Any]:
    try:
        return decode(line)
    except ValueError as error:
        raise damaged(path, offset, error) from error


def _check_torn(path: Path, tail: bytes, *, offset: int) -> None:
    """StoreError if the tail is a complete line with a damaged newline; a cut line is fine."""
    if not tail:
        return
    try:
        decode(tail[:-1])
    except ValueError:
        return  # a cut line: a prefix of a frame never ends like this
    raise damaged(path, offset + len(tail) - 1, "a complete record lacks its newline")


def _repaired_end(path: Path, fd: int) -> int:
    """Move an unfinished last line aside, and return the offset of the next line."""
    size = os.fstat(fd).st_size
    begin = max(0, size - MAX_FRAME_BYTES)
    window = os.pread(fd, size - begin, begin) if not _ends_line(fd, size) else b""
    if not window:
        return size
    cut = window.rfind(b"\n") + 1
    if cut == 0 and begin > 0:
        raise damaged(path, begin, f"no line ends within {MAX_FRAME_BYTES} bytes")
    tail, end = window[cut:], begin + cut
    _check_torn(path, tail, offset=end)
    try:
        _quarantine(path, tail)
        os.ftruncate(fd, end)
        os.fsync(fd)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return end


def _ends_line(fd: int, size: int) -> bool:
    return size == 0 or os.pread(fd, 1, size - 1) == b"\n"


def _quarantine(path: Path, tail: bytes) -> None:
    fd = os.open(path.with_name(f"{path.name}.quarantine"), _APPEND, 0o644)
    with os.fdopen(fd, "ab") as file:
        file.write(tail + b"\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _write_whole(path: Path, fd: int, frame: bytes, start: int) -> None:
    try:
        num_written = os.write(fd, frame)
        if num_written != len(frame):
            raise OSError(0, f"{num_written} of {len(frame)} bytes were written")
        os.fsync(fd)
    except OSError as error:
        with contextlib.suppress(OSError):  # if this fails, the next append repairs the file
            os.ftruncate(fd, start)
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path}: {error.strerror}",
        hint="earlier records are intact; free some space or choose another --store",
    )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError(f"duplicate key among {[key for key, _ in pairs][:20]}")
    return value


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number
