"""The proofs of the tests' cells: as few commands as can be, each when it is first needed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from tests.parity import parity_cli


class Key(NamedTuple):
    """A cell, or one for each phase of its workload."""

    workload: str
    framework: str
    execution: str
    precision: str

    @property
    def id(self) -> str:
        """The name of a test of this cell."""
        return "-".join(self)


class Proofs:
    """The cells that `dyno parity` prints, those of one workload from few commands.

    `wanted` are the cells that the tests are going to ask for.
    """

    def __init__(self, wanted: Iterable[Key], cache: Path) -> None:
        self.cache = cache
        self._wanted = list(dict.fromkeys(wanted))
        self._found: dict[Key, list[dict[str, Any]]] = {}

    def cells(self, key: Key) -> list[dict[str, Any]]:
        """One cell, or one for each phase."""
        if key not in self._found:
            self._prove([key, *(one for one in self._wanted if one.workload == key.workload)])
        return self._found[key]

    def oracle(self, workload: str, phase: str | None = None) -> Path:
        """The folder of the oracle that the workload's cells are held against."""
        cells = self.cells(Key(workload, "pytorch", "eager", "fp64"))
        [cell] = [one for one in cells if one.get("phase") == phase]
        assert cell["status"] == "pass", cell["reason"]
        return self.cache / "oracle" / str(cell["oracle"]["content"])

    def _prove(self, keys: list[Key]) -> None:
        for executions, precision, frameworks in _products(keys):
            for cell in parity_cli.cells_of(
                *("--extend", str(parity_cli.PLAIN_CODE), f"framework={','.join(frameworks)}"),
                *(f"execution={','.join(executions)}", f"precision={precision}"),
                cache=self.cache,
                workload=keys[0].workload,
            ):
                found = Key(*(cell[axis] for axis in Key._fields))
                self._found.setdefault(found, []).append(cell)


class _Product(NamedTuple):
    executions: tuple[str, ...]
    precision: str
    frameworks: list[str]


def _products(keys: Iterable[Key]) -> list[_Product]:
    """The products of frameworks and executions that hold these cells of a workload, and no other.

    A precision has one product for all frameworks that are asked for in the same executions.
    """
    executions: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for key in keys:
        executions[key.precision, key.framework][key.execution] = None
    products: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (precision, framework), asked in executions.items():
        products[precision, tuple(sorted(asked))].append(framework)
    return [_Product(asked, precision, names) for (precision, asked), names in products.items()]
