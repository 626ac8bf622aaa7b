"""Writes files that are complete or absent, even after a power cut. Standard library only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace_whole(path: Path, text: str) -> None:
    """Write text to path atomically: a reader sees the old file or the new one.

    A missing folder is created. Raises OSError if writing fails; the old file is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Make the file names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
