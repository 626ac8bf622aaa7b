"""A plan's inputs beside its overrides: this machine, its interpreters, the clock."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.contract.plan import Interpreter, MachineConfig
from benchmarks.planning.catalog import Catalog

Interpreters = dict[str, "Interpreter | str"]
"""For each framework its interpreter, or why it is not installed."""


@dataclass(frozen=True)
class Surroundings:
    """Where and when a plan is made; tests make their own."""

    interpreters: Callable[[Catalog, MachineConfig, Iterable[str]], Interpreters]
    machine: dict[str, Any]
    """Fingerprint, as in every record's environment."""
    machine_key: str
    """Hash of the properties that must be equal for results to be comparable."""
    num_cores: int
    memory_bytes: int
    """Bytes of the machine's memory that this process may use."""
    has_compiler: bool
    """Whether there is a C++ compiler."""
    now: datetime
    token: str
    """Six hexadecimal digits that distinguish runs of the same second."""


def here() -> Surroundings:
    """The surroundings of this process, now."""
    from benchmarks.host import machine
    from benchmarks.host.compiler import find_compiler
    from benchmarks.planning.interpreters import resolve

    fingerprint = machine.fingerprint()
    return Surroundings(
        interpreters=resolve,
        machine=fingerprint,
        machine_key=machine.fingerprint_key(fingerprint),
        num_cores=machine.effective_cores(),
        memory_bytes=machine.total_memory_bytes(),
        has_compiler=find_compiler() is not None,
        now=datetime.now(UTC),
        token=secrets.token_hex(3),
    )
