"""A small process that kills its parent's descendants if the parent dies unexpectedly.

Linux kills a worker with its parent, but not the worker's children, and macOS kills neither. Run
as `python watchdog.py FD`: lines "+MARK PGID" and "-MARK" arrive on the descriptor. When it is
closed, every group that is still listed is killed, and every process whose environment holds a
listed mark. Standard library only, imports nothing of Dyno.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

MARK_VARIABLE = "DYNO_LAUNCH"


def main(read_fd: int) -> None:
    """Keep the list until the parent closes the descriptor, then kill the groups still listed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[str, int] = {}
    with os.fdopen(read_fd) as lines:
        for line in lines:
            mark, *rest = line[1:].split()
            if line.startswith("+"):
                groups[mark] = int(rest[0])
            else:
                groups.pop(mark, None)
    for group in groups.values():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for pid in marked_processes(set(groups)):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def marked_processes(marks: set[str]) -> list[int]:
    """The processes whose environment holds one of these marks; none if there is no /proc."""
    wanted = {f"{MARK_VARIABLE}={mark}".encode() for mark in marks}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted & set((folder / "environ").read_bytes().split(b"\0")):
                found.append(int(folder.name))
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]))
