"""Converts a document's dataclasses to JSON; some mappings' entries become keys of their owner.

Standard library and the errors only.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from benchmarks.errors import UsageError

FLAT = "flat"


@dataclasses.dataclass(frozen=True)
class Flat:
    """The schema of a mapping whose entries become keys of its owner."""

    always: Mapping[str, Mapping[str, Any]]
    """The schema of each entry that is always there, by its key."""
    pattern: str | None
    """The pattern that the other keys match; None: any key is allowed."""


def flat(
    *, always: Mapping[str, Mapping[str, Any]] | None = None, pattern: str | None = None
) -> dict[str, Flat]:
    """The metadata of a field that is a mapping whose entries become keys of its owner."""
    return {FLAT: Flat(always or {}, pattern)}


def to_json(value: Any) -> Any:
    """The value as dicts, lists and plain values.

    Raises UsageError if two values would have the same key, e.g. a metric's and an option's.
    """
    if dataclasses.is_dataclass(value):
        found: dict[str, Any] = {}
        for field in dataclasses.fields(value):
            item = to_json(getattr(value, field.name))
            entries = item if FLAT in field.metadata else {field.name: item}
            twice = sorted(found.keys() & entries.keys())
            if twice:
                raise UsageError(f"the document has two values for {', '.join(twice)}")
            found.update(entries)
        return found
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def to_text(document: Any) -> str:
    """A document as `--json` prints it; ValueError if a number in it is not finite."""
    return json.dumps(to_json(document), indent=2, allow_nan=False)
