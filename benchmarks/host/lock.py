"""The machine's lock: one measurement at a time. It is released when its holder dies.

The file lies in a folder that all users and checkouts of the machine share. Any user could have put
something else in its place, so it is opened only if it is a plain file, and never through a link.
May import the errors and the host.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.errors import EnvironmentNotReadyError
from benchmarks.host.cpu_time import process_start_ticks

LOCK_FILE = "dyno-machine.lock"
SHARED_FOLDERS = (Path("/run/lock"), Path("/tmp"))  # noqa: S108 - shared on purpose: see `_open`
MAX_OWNER_BYTES = 1000
MAX_SINCE_CHARACTERS = 40
NUM_PIDS = 2**31
"""The bound of process ids: those that a C int holds."""
ANOTHER_FOLDER = "choose another folder with machine.lock_folder"
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def shared_folder() -> Path:
    """The folder of this machine's lock, the same for every user, checkout and environment."""
    for folder in SHARED_FOLDERS:
        if folder.is_dir() and folder.stat().st_mode & stat.S_IWOTH:
            return folder
    return Path(tempfile.gettempdir())


@contextlib.contextmanager
def machine_lock(folder: Path) -> Iterator[None]:
    """Hold the lock in this folder while measuring; the machine's is in `shared_folder()`.

    Raises EnvironmentNotReadyError if another process holds the lock, which the message names, or
    if its file cannot be opened.
    """
    path = folder / LOCK_FILE
    fd = _open(path)
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
    """Names the process that holds the lock in a folder; None if none does. Changes nothing."""
    owner = _read_owner(folder / LOCK_FILE)
    if owner is None or not _is_alive(owner):
        return None
    return _named(owner)


def _open(path: Path) -> int:
    """The opened file of the lock; it is created if it is missing, and every user may lock it.

    An existing file is opened without O_CREAT, which Linux refuses for another user's file in such
    a folder (fs.protected_regular).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentNotReadyError(
            f"the folder of the machine's lock, {path.parent}, cannot be made: {error.strerror}",
            hint=ANOTHER_FOLDER,
        ) from error
    try:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
            os.fchmod(fd, 0o666)  # whatever the umask
        except FileExistsError:
            fd = os.open(path, os.O_RDWR | _FLAGS)
    except OSError as error:
        raise _is_unusable(path, str(error.strerror)) from error
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(fd)
        raise _is_unusable(path, "it is not a plain file")
    return fd


class _Owner(NamedTuple):
    """The process that the file names as the lock's holder."""

    pid: int
    start_ticks: int | None
    """When the process started; None only on a system without /proc."""
    since: str


def _owner() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "start_ticks": process_start_ticks(os.getpid()),
        "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }


def _read_owner(path: Path) -> _Owner | None:
    """The holder as the file names it; None if the content is not what a holder writes.

    Any user may have written the file: nothing in it is believed unchecked.
    """
    try:
        fd = os.open(path, os.O_RDONLY | _FLAGS)
        try:
            is_file = stat.S_ISREG(os.fstat(fd).st_mode)
            found = json.loads(os.read(fd, MAX_OWNER_BYTES)) if is_file else None
        finally:
            os.close(fd)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    pid, ticks, since = (found.get(name) for name in _Owner._fields)
    own_ticks = process_start_ticks(os.getpid())
    if type(pid) is not int or not 0 < pid < NUM_PIDS or type(ticks) is not type(own_ticks):
        return None
    if not isinstance(since, str) or len(since) > MAX_SINCE_CHARACTERS or not since.isprintable():
        return None
    return _Owner(pid, ticks, since)


def _is_alive(owner: _Owner) -> bool:
    """Whether the process that wrote this still lives; its pid may have been reused since."""
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, and belongs to another user
    return process_start_ticks(owner.pid) == owner.start_ticks


def _named(owner: _Owner) -> str:
    return f"pid {owner.pid}, since {owner.since}"


def _is_held(path: Path) -> EnvironmentNotReadyError:
    owner = _read_owner(path)
    who = f" ({_named(owner)})" if owner else ""
    return EnvironmentNotReadyError(
        f"another dyno run{who} is measuring on this machine",
        hint="wait until it has ended; two runs at once would disturb each other",
    )


def _is_unusable(path: Path, cause: str) -> EnvironmentNotReadyError:
    return EnvironmentNotReadyError(
        f"the machine's lock {path} cannot be opened: {cause}",
        hint=f"remove it, or {ANOTHER_FOLDER}" if os.path.lexists(path) else ANOTHER_FOLDER,
    )
