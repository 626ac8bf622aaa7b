"""The document of `dyno parity --json`, and what it is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contract.case import Case
from benchmarks.equivalence.verdict import ParityVerdict

SCHEMA = "dyno.parity/1"


@dataclass(frozen=True)
class ProvenCell:
    """One cell, and what its proof came to."""

    case: Case
    verdict: ParityVerdict
    evidence: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    holders: tuple[str, ...] = ()
    """The frameworks that hold the oracle."""
    log: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The cell of the `dyno.parity/1` document."""
        verdict = self.verdict.to_json()
        return {
            "case_id": self.case.case_id,
            **self.case.axes(),
            "seed": self.case.work.seed,
            **verdict,
            "oracle": {"content": verdict["oracle"], "holders": list(self.holders)},
            "precision_like": self.evidence.get("precision"),
            "effective": self.evidence.get("effective"),
            "settings": self.settings.get("effective"),
        }


def document(cells: Sequence[ProvenCell]) -> dict[str, Any]:
    """The `dyno.parity/1` document; an error that is not finite is null."""
    return {"schema": SCHEMA, "cells": [cell.to_json() for cell in cells]}
