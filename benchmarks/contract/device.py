"""The kinds of device: everything that the harness knows about each, in one table.

A new kind needs an entry here, a file in configs/device/ with its line in configs/dyno.yaml, and
support in the frameworks' folders. The table is read at each use and never copied at import, so
that a test can add an entry. Standard library only.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CPU = "cpu"
"""The host's processor: always available, so that `auto` falls back on it."""


@dataclass(frozen=True)
class DeviceRules:
    """How to measure on a kind of device; set by the files in configs/device/."""

    name: str = CPU
    min_steps_per_sample: int = 1
    """Steps between two readings of the clock: 1 if a call returns when its work is done, 5 if work
    is queued ahead of the device."""
    min_warmup_s: float = 1.0
    """Seconds of warm-up until clocks have settled."""
    peak_flop_per_s: dict[str, dict[str, float]] = field(default_factory=dict)
    """The datasheet's dense peak by device model (a shell pattern for the whole name) and by
    precision; a result above 1.05 times the peak is suspect."""

    def peak_of(self, accelerator: Mapping[str, Any], precision: str) -> float | None:
        """The dense peak of a device in the machine's description; None if it is not known.

        It is not known for a part of a GPU (MIG), because the description is of the whole GPU.
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
    """`auto` stands for the kind with the highest preference that a framework sees here."""
    has_own_memory: bool
    """Whether its memory is not the host's. Launches then get equal shares of it, because each
    launch's allocator reserves a pool."""
    queues_work: bool
    """Whether a call returns before its work is done, so that a block must hold several steps."""
    guessed_flop_per_s: float | None
    """Rate for the estimate of a launch's duration, right within a factor of three; None: it
    depends on the number of cores (reference machine; see reference: feasibility)."""


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
"""The kinds by name, in the order in which `all` lists them."""


def is_host(device: str) -> bool:
    """Whether this is the host's processor: a launch's memory is then that of its process."""
    return device == CPU


def best(seen: Iterable[str]) -> str:
    """The kind among those seen here that a user most likely wants to measure."""
    known = set(seen) & set(DEVICE_KINDS)
    return max(known, key=lambda name: DEVICE_KINDS[name].preference, default=CPU)


def default_rules() -> dict[str, DeviceRules]:
    """The rules of every kind, before the files of configs/device/ change them."""
    return {
        name: DeviceRules(name, min_steps_per_sample=5 if kind.queues_work else 1)
        for name, kind in DEVICE_KINDS.items()
    }
