"""What every fake framework claims to be able to do."""

from __future__ import annotations

from benchmarks.contract.framework import Capabilities, Settings

HOLDERS = ("fake_astray", "fake_steady", "fake_double")
"""Those whose float64 may hold the oracle; the first of them is wrong."""
COMPILING = ("fake_caching", "fake_misplaced")
"""Those with two executions, between which nothing differs."""


def capabilities(name: str) -> Capabilities:
    """A framework that is always installed, on two kinds of device."""
    return Capabilities(
        name=name,
        import_name="numpy",
        distributions=("numpy",),
        executions=("eager", "compiled") if name in COMPILING else ("eager",),
        precisions={"cpu": ("fp32", "fp64"), "cuda": ("fp32",)},
        holds_oracle=name in HOLDERS,
        asynchronous_devices=(),
        limits_memory_on=("cuda",),
        out_of_memory_patterns=("out of memory",),
        has_own_clock=True,
    )


def environment(settings: Settings) -> dict[str, str]:
    """One thread for NumPy's products: several wait for each other by spinning."""
    return {"OPENBLAS_NUM_THREADS": "1"}
