"""The flat axes of a case, which the cells of every document begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contract.case import Case, Option
from benchmarks.documents.encoding import flat


@dataclass(frozen=True)
class Axes:
    """A case as flat axes; the workload's options are keys beside the axes.

    `base` is the framework that a library computes with, null for a framework.
    """

    case_id: str
    workload: str
    size: str
    batch_size: int
    framework: str
    execution: str
    precision: str
    device: str
    num_devices: int
    base: str | None
    options: Mapping[str, Option] = field(metadata=flat())


def axes_of(case: Case) -> dict[str, Any]:
    """The fields of `Axes` for a case."""
    options = {**dict(case.work.options), **dict(case.way.options)}
    axes = {name: value for name, value in case.axes().items() if name not in options}
    return {"case_id": case.case_id, **axes, "base": case.way.base, "options": options}
