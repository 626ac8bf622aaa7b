"""The document of `dyno parity --json`, and what it is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.contract.case import Case
from benchmarks.contract.evidence import Check, Evidence, ParityVerdict, ProductPrecision
from benchmarks.documents.axes import Axes, axes_of

SCHEMA: Literal["dyno.parity/1"] = "dyno.parity/1"


@dataclass(frozen=True)
class ProvenCell:
    """One cell, and what its proof came to."""

    case: Case
    verdict: ParityVerdict
    evidence: Evidence = field(default_factory=Evidence)
    settings: Mapping[str, Any] = field(default_factory=dict)
    holders: tuple[str, ...] = ()
    """The frameworks that hold the oracle."""
    log: Path | None = None


@dataclass(frozen=True)
class Oracle:
    """What a cell was compared with."""

    content: str | None
    """Its hash."""
    holders: tuple[str, ...]
    """The frameworks that computed it and agree."""


@dataclass(frozen=True)
class ParityCell(Axes):
    """One cell, and what its proof came to; an error that is not finite is null."""

    seed: int
    status: str
    checks: tuple[Check, ...]
    reason: str | None
    first_difference: str | None
    causes: tuple[str, ...]
    oracle: Oracle
    precision_like: Mapping[str, ProductPrecision] | None
    """By operation, the precision that it is as exact as, measured."""
    effective: Mapping[str, Any] | None
    """What the program says that it works with."""
    settings: Mapping[str, Any] | None
    """What the framework says of itself."""


@dataclass(frozen=True)
class ParityDocument:
    """The proofs of a plan's cells."""

    schema: Literal["dyno.parity/1"]
    cells: tuple[ParityCell, ...]


def document(cells: Sequence[ProvenCell]) -> ParityDocument:
    """The document of proofs."""
    return ParityDocument(SCHEMA, tuple(_cell(cell) for cell in cells))


def _cell(cell: ProvenCell) -> ParityCell:
    verdict = cell.verdict
    return ParityCell(
        **axes_of(cell.case),
        seed=cell.case.work.seed,
        status=verdict.status,
        checks=verdict.checks,
        reason=verdict.reason,
        first_difference=verdict.first_difference,
        causes=verdict.causes,
        oracle=Oracle(verdict.oracle, cell.holders),
        precision_like=cell.evidence.precision or None,
        effective=_effective(cell.evidence),
        settings=cell.settings.get("effective"),
    )


def _effective(evidence: Evidence) -> Mapping[str, Any] | None:
    if evidence.inspection_failure is not None:
        return {"failure": evidence.inspection_failure}
    return None if evidence.effective is None else asdict(evidence.effective)
