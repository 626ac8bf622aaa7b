"""The kinds of device: all that the harness knows of each, one entry in one table.

A new kind is an entry here, a file in configs/device/ with its line in configs/dyno.yaml, and what
the frameworks' folders say of it. The table is read when a question is asked and never copied at
import, so that a test can plant an entry. Standard library only.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CPU = "cpu"
"""The host's processor: always there, so that it is what `auto` falls back on."""


@dataclass(frozen=True)
class DeviceRules:
    """What a kind of device asks of the measurement; the files in configs/device/."""

    name: str = CPU
    min_steps_per_block: int = 1
    """1 where a step's end is known to the host, 5 where work is queued ahead."""
    min_warmup_s: float = 1.0
    """Seconds until clocks have settled."""
    peak_flop_per_s: dict[str, dict[str, float]] = field(default_factory=dict)
    """Datasheet dense peak by device model, a shell pattern of its whole name, and by precision;
    above 1.05 of it a result is suspect."""

    def peak_of(self, accelerator: Mapping[str, Any], precision: str) -> float | None:
        """The dense peak of a device as the machine's description has it; None if not known.

        Of a GPU that is divided (MIG) the description is the whole one's: a launch gets a part.
        """
        if accelerator.get("mig"):
            return None
        name = str(accelerator.get("name"))
        patterns = (one for one in self.peak_flop_per_s if fnmatch.fnmatchcase(name, one))
        return self.peak_flop_per_s.get(next(patterns, ""), {}).get(precision)


@dataclass(frozen=True)
class DeviceKind:
    """One kind of device."""

    name: str
    preference: int
    """`auto` stands for the kind with the highest that a framework sees here."""
    has_own_memory: bool
    """Whether its memory is not the host's. It then bounds what launches take together, in equal
    shares, because its allocators reserve a pool each."""
    queues_work: bool
    """Whether a call returns before its work is done, so that a block must hold several steps."""
    guessed_flop_per_s: float | None
    """Rate for the estimate of a launch's duration, within a factor of three; None: by the cores
    (reference machine; see reference: feasibility)."""


DEVICE_KINDS: Mapping[str, DeviceKind] = {
    one.name: one
    for one in (
        DeviceKind(
            CPU, preference=0, has_own_memory=False, queues_work=False, guessed_flop_per_s=None
        ),
        DeviceKind(
            "cuda", preference=3, has_own_memory=True, queues_work=True, guessed_flop_per_s=2e13
        ),
        DeviceKind(
            "metal", preference=1, has_own_memory=False, queues_work=True, guessed_flop_per_s=2e12
        ),
        DeviceKind(
            "tpu", preference=2, has_own_memory=True, queues_work=True, guessed_flop_per_s=2e13
        ),
    )
}
"""By name, in the order in which `all` lists them."""


def is_host(device: str) -> bool:
    """Whether this is the host's processor: a launch's memory there is its process's own."""
    return device == CPU


def best(seen: Iterable[str]) -> str:
    """The kind that a user most likely wants measured, of those that are seen here."""
    known = set(seen) & set(DEVICE_KINDS)
    return max(known, key=lambda name: DEVICE_KINDS[name].preference, default=CPU)


def default_rules() -> dict[str, DeviceRules]:
    """The rules of every kind that no file of configs/device/ changes."""
    return {
        name: DeviceRules(name, min_steps_per_block=5 if kind.queues_work else 1)
        for name, kind in DEVICE_KINDS.items()
    }
