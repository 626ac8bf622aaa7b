"""The warm-up: mini-blocks until the step time is steady. Standard library and measuring."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.contract.framework import Framework
from benchmarks.contract.protocol import DeviceRules, MeasuringProtocol
from benchmarks.contract.workload import Program
from benchmarks.measuring.timing import time_block
from benchmarks.measuring.warmup import is_steady

MINI_BLOCK_S = 0.02
NUM_QUIET = 3
"""Mini-blocks in a row without a compilation before timing may start."""


@dataclass(frozen=True)
class WarmUp:
    """How the warm-up went."""

    mini_blocks_ns: tuple[tuple[int, int], ...]
    """(num_steps, duration_ns) of each mini-block."""
    step_s: float
    """Median seconds per step of the last window."""
    steady: bool
    outputs: Any


def warm_up(
    program: Program,
    framework: Framework,
    *,
    protocol: MeasuringProtocol,
    rules: DeviceRules,
    step_s: float,
) -> WarmUp:
    """Step until the step time is steady, or until the protocol's limit.

    `step_s` is a first estimate of the seconds per step, which sizes the mini-blocks.
    """
    num_steps = max(1, math.ceil(MINI_BLOCK_S / step_s))
    blocks: list[tuple[int, int]] = []
    quiet, outputs, steady = 0, None, False
    begin = time.perf_counter()
    while not steady and time.perf_counter() - begin < protocol.max_warmup_s:
        compiled = framework.num_compilations()
        block = time_block(program, framework, num_steps=num_steps, previous=outputs, rewarm=False)
        outputs = block.outputs
        blocks.append((num_steps, block.duration_ns))
        quiet = quiet + 1 if framework.num_compilations() == compiled else 0
        enough = quiet >= NUM_QUIET and _is_long_enough(blocks, begin, protocol, rules)
        steady = enough and is_steady(_step_seconds(blocks), window=protocol.warmup_window)
    last = _step_seconds(blocks)[-protocol.warmup_window :]
    return WarmUp(tuple(blocks), statistics.median(last), steady, outputs)


def _step_seconds(blocks: list[tuple[int, int]]) -> list[float]:
    return [duration_ns / num_steps / 1e9 for num_steps, duration_ns in blocks]


def _is_long_enough(
    blocks: list[tuple[int, int]], begin: float, protocol: MeasuringProtocol, rules: DeviceRules
) -> bool:
    """Whether the minimum of steps and seconds has passed; 0 seconds switches both off."""
    least_s = protocol.min_warmup_s and max(protocol.min_warmup_s, rules.min_warmup_s)
    num_steps = sum(n for n, _ in blocks)
    return num_steps >= protocol.min_warmup_steps and time.perf_counter() - begin >= least_s
