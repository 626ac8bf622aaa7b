"""Files that are whole or not there, also after a power cut. Standard library only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace_whole(path: Path, text: str) -> None:
    """Put text at path, whose folder is made if it is missing: a reader sees the old or the new.

    Raises OSError if it cannot be written; what was at path before is then still there.
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
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
