"""The results of a long measurement in a JSON file that is whole at all times; and plain tables."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.storage.files import replace_whole


@dataclass
class Kept:
    """Results so far: each change is on the disk when the call returns."""

    path: Path
    settings: dict[str, Any]
    """What all results share: a measurement goes on only with equal settings."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What was found before the results, such as a planted slow-down's true size."""
    results: list[dict[str, Any]] = field(default_factory=list)

    def add(self, result: dict[str, Any]) -> None:
        self.results.append(result)
        self.save()

    def save(self) -> None:
        found = {"settings": self.settings, "facts": self.facts, "results": self.results}
        replace_whole(self.path, json.dumps(found, indent=1) + "\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="all results, JSON")
    parser.add_argument("--resume", action="store_true", help="go on with the results in --out")


def kept(args: argparse.Namespace, settings: dict[str, Any]) -> Kept:
    """The results to add to; ValueError if --out holds other ones or nobody asked to go on."""
    path = args.out.absolute()
    settings = json.loads(json.dumps(settings))
    if not path.exists():
        return Kept(path, settings)
    if not args.resume:
        raise ValueError(f"--out {path} exists\nhint: go on with --resume, or name another file")
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["settings"] != settings:
        raise ValueError(
            f"--resume: {path} was measured with {found['settings']}\n"
            f"received {settings}, expected the same\n"
            "hint: give the same arguments in the same commit, or another --out"
        )
    return Kept(path, **found)


def table(rows: Sequence[Sequence[str]]) -> str:
    """The rows as lines, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def shown(value: float | None, form: str) -> str:
    """The number in this format; a question mark if there is none."""
    return "?" if value is None else format(value, form)
