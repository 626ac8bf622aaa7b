"""Exported files of models, kept between launches: whole or not at all. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

LIST_FILE = "files.json"
"""The other files of the folder with their hashes; written before the folder gets its name."""


def is_whole(folder: Path) -> bool:
    """Whether this folder holds exported files, each as it was kept."""
    try:
        kept = json.loads((folder / LIST_FILE).read_text(encoding="utf-8"))
        return bool(kept) and kept == _hashes(folder)
    except (OSError, ValueError):
        return False


def keep(files: Path, folder: Path) -> None:
    """Copy these exported files to a folder, which appears complete or not at all.

    It replaces a damaged folder. Does nothing if there are no files; OSError if the disk is full.
    """
    if not any(files.iterdir()):
        return
    partial, damaged = (folder.with_name(f"{folder.name}.{os.getpid()}-{i}") for i in range(2))
    try:
        shutil.copytree(files, partial)
        (partial / LIST_FILE).write_text(json.dumps(_hashes(partial)), encoding="utf-8")
        if folder.exists():
            folder.rename(damaged)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(damaged, ignore_errors=True)


def _hashes(folder: Path) -> dict[str, str]:
    """By their paths in the folder, the hashes of its files other than the list of them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != LIST_FILE:
            found[name] = _hash(path)
    return found


def _hash(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            found.update(part)
    return found.hexdigest()
