"""From a document's dataclasses to what JSON holds; some fields' entries are keys of their owner.

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
    """What a schema says of a mapping whose entries stand among the keys of its owner."""

    always: Mapping[str, Mapping[str, Any]]
    """By key, the schema of each entry that is always there."""
    pattern: str | None
    """What the other keys match; None: they may be any."""


def flat(
    *, always: Mapping[str, Mapping[str, Any]] | None = None, pattern: str | None = None
) -> dict[str, Flat]:
    """The metadata of a field, a mapping, whose entries stand among the keys of its owner."""
    return {FLAT: Flat(always or {}, pattern)}


def to_json(value: Any) -> Any:
    """The value as dicts, lists and plain values.

    Raises UsageError if two values would have one key, as a metric and an option of one name.
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
