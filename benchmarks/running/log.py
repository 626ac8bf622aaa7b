"""Captures a launch's output in a file of bounded size. Standard library only."""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

HEAD_BYTES = 8 * 2**20
TAIL_BYTES = 2 * 2**20
CHUNK_BYTES = 2**16


class LogCapture:
    """Drains a pipe into a file: the first 8 MiB, a line on dropped bytes, the last 2 MiB.

    A flood of output cannot block the process that writes it, nor fill memory or disk.
    """

    def __init__(self, read_fd: int, path: Path) -> None:
        self._read_fd = read_fd
        self._path = path
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._dropped_bytes = 0
        self._thread = threading.Thread(target=self._drain, name="log", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Wait for the end of the output, but no longer: a stray child may keep the pipe open."""
        self._thread.join(timeout_s)

    def _drain(self) -> None:
        with suppress(OSError):  # a full disk costs the log, never the launch
            self._copy()
        while os.read(self._read_fd, CHUNK_BYTES):
            pass
        os.close(self._read_fd)

    def _copy(self) -> None:
        written = 0
        with self._path.open("wb") as file:
            while chunk := os.read(self._read_fd, CHUNK_BYTES):
                if written < HEAD_BYTES:
                    written += file.write(chunk)
                    file.flush()
                else:
                    self._keep(chunk)
            if self._dropped_bytes:
                file.write(f"\n... {self._dropped_bytes} bytes dropped ...\n".encode())
            file.writelines(self._tail)

    def _keep(self, chunk: bytes) -> None:
        self._tail.append(chunk)
        self._tail_bytes += len(chunk)
        while self._tail_bytes > TAIL_BYTES:
            dropped = len(self._tail.popleft())
            self._tail_bytes -= dropped
            self._dropped_bytes += dropped
