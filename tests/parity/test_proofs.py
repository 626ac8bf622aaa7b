"""Every implementation that there is does the oracle's work: found in the catalog, not listed."""

from __future__ import annotations

from collections.abc import Iterator

import parity_cli
import pytest

from benchmarks.contract.framework import Capabilities
from benchmarks.planning.catalog import discover

CATALOG = discover([parity_cli.PLAIN_CODE])
FAST_PRECISION = "fp64"
"""The one that tells mistakes from rounding; the others are slow tests."""
PRECISIONS = (FAST_PRECISION, "fp32", "bf16")
Key = tuple[str, str, str]


def frameworks(*, plain: bool) -> list[Capabilities]:
    """Those with an implementation: Dyno's own, or the plain code that they are compared with."""
    implemented = {framework for _, framework in CATALOG.implementations}
    return [
        entry.capabilities
        for name, entry in CATALOG.frameworks.items()
        if name in implemented and (parity_cli.PLAIN_CODE in entry.folder.parents) == plain
    ]


def is_slow(own: Capabilities, execution: str, precision: str) -> bool:
    """What runs a C++ compiler for a minute, and all but one precision."""
    return precision != FAST_PRECISION or (execution, "cpu") in own.needs_compiler


def _parameters(*, plain: bool) -> Iterator:
    for own in frameworks(plain=plain):
        for execution in own.executions:
            for precision in PRECISIONS:
                slow = plain or is_slow(own, execution, precision)
                marks = [pytest.mark.slow] if slow else []
                yield pytest.param(
                    (own.name, execution, precision),
                    id=f"{own.name}-{execution}-{precision}",
                    marks=marks,
                )


class Proofs:
    """The proofs of groups of cells, each made when it is first asked for."""

    def __init__(self, cache) -> None:
        self.cache = cache
        self.cells: dict[Key, dict] = {}

    def cell(self, key: Key) -> dict:
        if key not in self.cells:
            framework, execution, precision = key
            for cell in parity_cli.cells_of(
                *("--extend", str(parity_cli.PLAIN_CODE)),
                f"framework={framework}",
                f"execution={execution}",
                f"precision={precision}",
                cache=self.cache,
            ):
                self.cells[cell["framework"], cell["execution"], cell["precision"]] = cell
        return self.cells[key]


@pytest.fixture(scope="module")
def proofs(cache):
    return Proofs(cache)


def test_every_implementation_has_a_framework():
    orphans = [
        str(entry.file)
        for (_, framework), entry in CATALOG.implementations.items()
        if framework not in CATALOG.frameworks
    ]
    assert orphans == []


@pytest.mark.parametrize("key", [*_parameters(plain=False), *_parameters(plain=True)])
def test_an_implementation_does_the_oracles_work(key, proofs):
    cell = proofs.cell(key)
    if cell["status"] == "skip":
        pytest.skip(cell["reason"])
    assert (cell["status"], cell["reason"]) == ("pass", None)
    names = {check["name"] for check in cell["checks"]}
    assert {"gemm", "convolution", "loss", "gradient", "statistics", "update"} <= names
    assert {"reproduced", "other_batch", "losses", "momentum"} <= names


@pytest.mark.parametrize("key", list(_parameters(plain=False)))
def test_an_implementation_says_what_it_works_with(key, proofs):
    cell = proofs.cell(key)
    if cell["status"] == "skip":
        pytest.skip(cell["reason"])
    effective, precision = cell["effective"], key[2]
    master = "float64" if precision == "fp64" else "float32"
    expected = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16"}[precision]
    assert {effective[name] for name in ("parameters", "gradients", "optimizer")} == {master}
    assert effective["activations"] == expected
    assert effective["layout"] in ("NHWC", "NCHW")
    assert cell["settings"]["products"] in (expected, "float32")
    assert {one["like"] for one in cell["precision_like"].values()} == {precision}
