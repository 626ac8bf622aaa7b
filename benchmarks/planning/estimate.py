"""Rough estimates of launches, with their basis: how long they take, and how many fit together."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from benchmarks.contract.case import Case
from benchmarks.contract.device import DEVICE_KINDS, DeviceRules
from benchmarks.contract.framework import Capabilities
from benchmarks.contract.plan import MEMORY_SHARE, MachineConfig
from benchmarks.contract.protocol import NUM_FIRST_STEPS, MeasuringProtocol
from benchmarks.contract.workload import WorkloadSpec, device_memory_bytes
from benchmarks.planning.history import History
from benchmarks.planning.surroundings import Surroundings

# Rule of thumb, from the reference machine (reference: feasibility): within a factor of three.
CPU_FLOP_PER_S_AND_CORE = 4e10
START_UP_S = {"eager": 10.0, "graph": 15.0, "compiled": 60.0}
"""Seconds of import, build, load and self-tests, and of compilation from an empty cache."""


class Estimate(NamedTuple):
    """Expected seconds of one launch."""

    launch_s: float
    basis: str


class Estimator:
    """Estimates for the launches of one plan on one machine."""

    def __init__(
        self, history: History, protocol: MeasuringProtocol, around: Surroundings, num_threads: int
    ) -> None:
        self._history = history
        self._protocol = protocol
        self._around = around
        self._num_threads = num_threads

    def launch(self, case: Case, spec: WorkloadSpec, rules: DeviceRules) -> Estimate:
        """The estimate from earlier launches of the case here, else from its FLOP."""
        seconds = self._history.launch_seconds(
            case.case_id, self._protocol.name, self._around.machine_key
        )
        if seconds:
            plural = "es" if len(seconds) > 1 else ""
            return Estimate(statistics.median(seconds), f"{len(seconds)} earlier launch{plural}")
        return Estimate(self._by_rule(case, spec, rules), "rule of thumb by FLOP")

    def _by_rule(self, case: Case, spec: WorkloadSpec, rules: DeviceRules) -> float:
        protocol, flop_per_step = self._protocol, spec.flop_per_step(case.work)
        guess = DEVICE_KINDS[case.place.device].guessed_flop_per_s
        by_cores = CPU_FLOP_PER_S_AND_CORE * self._num_threads
        step_s = flop_per_step / (case.place.num_devices * guess if guess else by_cores)
        warm_up_s = max(
            protocol.min_warmup_s and max(protocol.min_warmup_s, rules.min_warmup_s),
            max(protocol.min_warmup_steps, 2 * protocol.warmup_window) * step_s,
        )
        sample_s = rules.min_steps_per_sample * step_s
        block_s = protocol.num_samples(sample_s) * sample_s
        steps = spec.task.steps_per_turn(protocol)
        if steps is not None:
            block_s = steps * step_s
        turns_s = max(
            protocol.min_rounds * block_s,
            min(protocol.max_rounds * block_s, protocol.max_launch_s),
        )
        first_s = START_UP_S[case.way.execution] + NUM_FIRST_STEPS * step_s
        return first_s + min(warm_up_s, protocol.max_warmup_s) + turns_s


def launch_memory_bytes(case: Case, spec: WorkloadSpec, capabilities: Capabilities) -> int:
    """An upper estimate of one launch's memory, to be compared with `memory_limit`.

    It is the memory on each device, if devices have memory of their own, because the limit is then
    that of one device; else it is the memory of all devices of the launch on the host.
    """
    own = device_memory_bytes(spec, case, capabilities)
    if DEVICE_KINDS[case.place.device].has_own_memory:
        return own
    return case.place.num_devices * own


class MemoryLimit(NamedTuple):
    """The memory that launches alive together may take, on each device or on the host."""

    limit_bytes: int | None
    """None if the size of the device's memory is not known."""
    is_shared_equally: bool
    """Whether each launch gets an equal share, as pools on an accelerator do."""

    def holds(self, launches_bytes: list[int]) -> bool:
        """Whether launches of these sizes fit together."""
        if self.limit_bytes is None:
            return True
        if self.is_shared_equally:
            return max(launches_bytes) * len(launches_bytes) <= self.limit_bytes
        return sum(launches_bytes) <= self.limit_bytes


def memory_limit(device: str, config: MachineConfig, around: Surroundings) -> MemoryLimit:
    """The memory that the launches on this kind of device may take together.

    For devices with memory of their own it is the limit on each device, that of the smallest.
    """
    if not DEVICE_KINDS[device].has_own_memory:
        return MemoryLimit(config.memory_limit_bytes(around.memory_bytes), False)
    known = [one.get("memory_bytes") for one in around.machine.get("accelerators") or ()]
    amounts = [amount for amount in known if amount]
    return MemoryLimit(int(MEMORY_SHARE * min(amounts)) if amounts else None, True)
