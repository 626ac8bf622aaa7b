"""The peak FLOP/s of hardware: a faster result is an error of the measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contract.device import DeviceRules, is_host
from benchmarks.contract.precision import PRECISIONS

TOLERANCE = 1.05
CPU_CLOCK_HZ = 6.5e9
"""Above the clock of every processor sold."""


def peak_flop_per_s(
    rules: DeviceRules,
    *,
    precision: str,
    num_cores: int,
    accelerators: Sequence[Mapping[str, Any]],
    num_devices: int = 1,
) -> float | None:
    """The rate that so many of these devices cannot exceed; None if the peak of one is not known.

    Several devices of the kind `cpu` share the cores of one.
    """
    if is_host(rules.name):
        return num_cores * CPU_CLOCK_HZ * PRECISIONS[precision].cpu_flop_per_cycle
    peaks = [rules.peak_of(one, precision) for one in accelerators]
    known = [peak for peak in peaks if peak is not None]
    return num_devices * max(known) if known and len(known) == len(peaks) else None


def impossible(flop_per_s: float, peak: float | None) -> str | None:
    """Why this rate is impossible, or None."""
    if peak is None or flop_per_s <= TOLERANCE * peak:
        return None
    return (
        f"{flop_per_s / 1e12:.3g} TFLOP/s is above {TOLERANCE:g} times the devices' peak"
        f" of {peak / 1e12:.3g} TFLOP/s"
    )
