"""Holds documents to their committed schemas."""

import json
from typing import Any

import jsonschema

from benchmarks.documents.schemas import FOLDER


def validated(document: Any) -> Any:
    """The document, which its schema allows; else jsonschema's ValidationError."""
    name = document["schema"].removeprefix("dyno.").replace("/", "-")
    schema = json.loads((FOLDER / f"{name}.json").read_text())
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)
    return document
