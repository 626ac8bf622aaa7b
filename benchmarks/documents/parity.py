"""The document of `dyno parity --json`, and the proven cells that it is made from."""

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
    """One cell, and the result of its proof."""

    case: Case
    verdict: ParityVerdict
    evidence: Evidence = field(default_factory=Evidence)
    settings: Mapping[str, Any] = field(default_factory=dict)
    holders: tuple[str, ...] = ()
    """The frameworks that computed the oracle and agree."""
    log: Path | None = None
    rewrites: str | None = None
    """The operations that it rewrites, if its recipe is tuned."""


@dataclass(frozen=True)
class Oracle:
    """The oracle with which a cell was compared."""

    content: str | None
    """Hash of the oracle's content."""
    holders: tuple[str, ...]
    """The frameworks that computed it and agree."""


@dataclass(frozen=True)
class ParityCell(Axes):
    """One cell, and the result of its proof; an error that is not finite is null."""

    seed: int
    status: str
    checks: tuple[Check, ...]
    reason: str | None
    first_difference: str | None
    causes: tuple[str, ...]
    oracle: Oracle
    precision_like: Mapping[str, ProductPrecision] | None
    """The measured effective precision of each operation, by its name."""
    effective: Mapping[str, Any] | None
    """The effective settings that the program reports."""
    settings: Mapping[str, Any] | None
    """The effective settings that the framework reports."""
    rewrites: str | None
    """The operations that a tuned case rewrites; null for an idiomatic one."""


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
        rewrites=cell.rewrites,
    )


def _effective(evidence: Evidence) -> Mapping[str, Any] | None:
    if evidence.inspection_failure is not None:
        return {"failure": evidence.inspection_failure}
    return None if evidence.effective is None else asdict(evidence.effective)
