"""The peak FLOP/s of hardware: a faster result is an error of the measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contract.protocol import DeviceRules

TOLERANCE = 1.05
CPU_CLOCK_HZ = 6.5e9
"""Above the clock of every processor sold."""
CPU_FLOP_PER_CYCLE = {"fp64": 32, "fp32": 64, "tf32": 64, "bf16": 2048, "fp16": 2048, "int8": 4096}
"""For each core: two AVX-512 FMA units (fp64, fp32), one AMX tile unit (the others); Intel 64 and
IA-32 Architectures Optimization Reference Manual. Other processors reach less."""


def peak_flop_per_s(
    rules: DeviceRules,
    *,
    precision: str,
    num_cores: int,
    accelerators: Sequence[Mapping[str, Any]],
) -> float | None:
    """The rate that none of these devices can exceed; None if the peak of one is not known."""
    if rules.name == "cpu":
        return num_cores * CPU_CLOCK_HZ * CPU_FLOP_PER_CYCLE.get(precision, 4096)
    peaks = [rules.peak_of(one, precision) for one in accelerators]
    known = [peak for peak in peaks if peak is not None]
    return max(known) if known and len(known) == len(peaks) else None


def impossible(flop_per_s: float, peak: float | None) -> str | None:
    """Why this rate is impossible, or None."""
    if peak is None or flop_per_s <= TOLERANCE * peak:
        return None
    return (
        f"{flop_per_s / 1e12:.3g} TFLOP/s is above {TOLERANCE:g} times the device's peak"
        f" of {peak / 1e12:.3g} TFLOP/s"
    )
