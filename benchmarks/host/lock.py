"""One measurement at a time on a machine: a lock that its holder's death releases.

May import the errors and measuring.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.errors import EnvironmentNotReadyError
from benchmarks.host.cpu_time import process_start_ticks

_LOCK_FILE = Path("locks") / "machine.lock"


@contextlib.contextmanager
def machine_lock(folder: Path) -> Iterator[None]:
    """Hold this machine for measuring; `folder` is the cache folder.

    Raises EnvironmentNotReadyError, naming the holder, where another process holds it.
    """
    path = folder / _LOCK_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _is_held(path) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(_owner()).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def holder(folder: Path) -> str | None:
    """Who holds the lock of a cache folder, for people; None where nobody does. Changes nothing."""
    owner = _read_owner(folder / _LOCK_FILE)
    if owner is None or not _is_alive(owner):
        return None
    return _named(owner)


def _owner() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "start_ticks": process_start_ticks(os.getpid()),
        "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }


def _read_owner(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    known = isinstance(owner, dict) and isinstance(owner.get("pid"), int) and "since" in owner
    return owner if known else None


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether the very process that wrote this lives: its number may have been given anew."""
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, as somebody else's
    return process_start_ticks(owner["pid"]) == owner.get("start_ticks")


def _named(owner: dict[str, Any]) -> str:
    return f"pid {owner['pid']}, since {owner['since']}"


def _is_held(path: Path) -> EnvironmentNotReadyError:
    owner = _read_owner(path)
    who = f" ({_named(owner)})" if owner else ""
    return EnvironmentNotReadyError(
        f"another dyno run{who} is measuring on this machine",
        hint="wait until it has ended; two at once would spoil each other's numbers",
    )
