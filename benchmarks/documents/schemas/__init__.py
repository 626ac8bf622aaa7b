"""The JSON schema of each document, generated from its dataclasses into the files beside this one.

    python -m benchmarks.documents.schemas

writes the files again. A test compares them, so that no document changes its shape unnoticed. A
change that breaks readers of the earlier shape raises the version in the document's `schema`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from benchmarks.documents.doctor import Report
from benchmarks.documents.encoding import FLAT, Flat
from benchmarks.documents.ls import Listing
from benchmarks.documents.parity import ParityDocument
from benchmarks.documents.plan import PlanDocument
from benchmarks.documents.run import RunDocument

FOLDER = Path(__file__).parent
DOCUMENTS: dict[str, tuple[type, ...]] = {
    "doctor-1": (Report,),
    "ls-1": get_args(Listing),
    "parity-1": (ParityDocument,),
    "plan-1": (PlanDocument,),
    "run-1": (RunDocument,),
}
"""The shapes that each document may have, by the name of its file."""


def schema_of(name: str) -> dict[str, Any]:
    """The JSON schema of a document."""
    shapes, definitions = msgspec.json.schema_components(
        DOCUMENTS[name], ref_template="#/$defs/{name}"
    )
    for kind in {one for shape in DOCUMENTS[name] for one in _dataclasses(shape)}:
        _close(kind, definitions[kind.__name__])
    document, version = name.split("-")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"dyno.{document}/{version}",
        **(shapes[0] if len(shapes) == 1 else {"anyOf": list(shapes)}),
        "$defs": definitions,
    }


def schema_text(name: str) -> str:
    """The content of a schema's file."""
    return json.dumps(schema_of(name), indent=1, sort_keys=True) + "\n"


def _close(kind: type, schema: dict[str, Any]) -> None:
    """Require every key, allow no other, and describe the mappings whose entries become keys."""
    further, patterns = [], {}
    for field in dataclasses.fields(kind):
        told: Flat | None = field.metadata.get(FLAT)
        if told is None:
            continue
        values = schema["properties"].pop(field.name)["additionalProperties"]
        schema["properties"].update(told.always)
        if told.pattern is None:
            further.append(values)
        else:
            patterns[told.pattern] = values
    for one in schema["properties"].values():
        one.pop("default", None)
    schema["required"] = list(schema["properties"])
    schema["additionalProperties"] = {"anyOf": further} if further else False
    if patterns:
        schema["patternProperties"] = patterns


def _dataclasses(kind: Any) -> Iterator[type]:
    """The dataclasses that a type is made of, including itself."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        yield kind
        for hint in get_type_hints(kind).values():
            yield from _dataclasses(hint)
    for part in get_args(kind):
        yield from _dataclasses(part)
