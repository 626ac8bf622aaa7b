"""Ensures that no descendant outlives the parent: adopts orphans, and starts a watchdog."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

from benchmarks.running import watchdog

PR_SET_CHILD_SUBREAPER = 36


class Guard:
    """While this is open, no registered process outlives the parent."""

    def __enter__(self) -> Guard:
        if sys.platform == "linux":  # a worker's orphans become our children, to be reaped
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._groups: dict[str, int] = {}
        read_fd, self._write_fd = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(Path(watchdog.__file__)), str(read_fd)],
            pass_fds=(read_fd,),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
        os.close(read_fd)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._write_fd)
        self._process.wait()

    def register(self, mark: str, group: int) -> None:
        """Have the watchdog kill this process group if the parent dies."""
        self._groups[mark] = group
        os.write(self._write_fd, f"+{mark} {group}\n".encode())

    def release(self, mark: str) -> None:
        """Forget a group that has ended, and reap its orphans."""
        del self._groups[mark]
        os.write(self._write_fd, f"-{mark}\n".encode())
        ours = {self._process.pid, *self._groups.values()}
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess, ChildProcessError):
                if child.pid not in ours and child.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(child.pid, os.WNOHANG)
