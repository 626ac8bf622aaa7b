"""What a framework's folder offers: capabilities as data, an environment, and an adapter.

`benchmarks/frameworks/<name>/__init__.py` imports no framework and holds
    CAPABILITIES: Capabilities
    def environment(settings: Settings) -> dict[str, str]
        environment variables that must stand before the framework is imported.
`benchmarks/frameworks/<name>/adapter.py` imports the framework and holds
    class Adapter, which is a `Framework`.
`benchmarks/frameworks/<name>/requirements-<platform>.txt` pins its packages.
A folder that several frameworks share holds `FAMILY: str` in place of CAPABILITIES, and is none.

A library that computes with another framework, its base, is a folder of a few lines: here one that
is called `library` on `jax`, whose requirements begin with `-r ../jax/requirements-<platform>.txt`:
    CAPABILITIES = capabilities_on(
        jax.CAPABILITIES,
        name="library",
        import_name="library",
        distributions=("library", *jax.CAPABILITIES.distributions),
    )
    environment = jax.environment
and in its adapter.py
    from benchmarks.frameworks.jax.adapter import Adapter as Adapter
NumPy and standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Unsupported:
    """A combination that a framework cannot do; an axis of None stands for every value."""

    reason: str
    link: str
    """Where the framework's own documentation or tracker says so."""
    device: str | None = None
    execution: str | None = None
    precision: str | None = None
    workload: str | None = None

    def covers(self, *, workload: str, device: str, execution: str, precision: str) -> bool:
        """Whether this combination is meant."""
        asked = (
            (self.workload, workload),
            (self.device, device),
            (self.execution, execution),
            (self.precision, precision),
        )
        return all(own is None or own == value for own, value in asked)


@dataclass(frozen=True)
class Capabilities:
    """What a framework can do, as data that is read without importing it."""

    name: str
    import_name: str
    """The module whose presence in an interpreter means that the framework is installed."""
    distributions: tuple[str, ...]
    """The packages whose versions identify a result, the framework's own first."""
    executions: tuple[str, ...]
    precisions: Mapping[str, tuple[str, ...]]
    """For each device that the framework can use, the precisions it has there."""
    asynchronous_devices: tuple[str, ...]
    """Devices where a call returns before the work is done: blocks there hold several steps."""
    out_of_memory_patterns: tuple[str, ...]
    """Regular expressions that an out-of-memory error of this framework matches."""
    needs_compiler: tuple[tuple[str, str], ...] = ()
    """(execution, device) pairs that need a C++ compiler on the machine."""
    limits_memory_on: tuple[str, ...] = ()
    """Devices where a launch can be held to a share of the memory, so that several fit."""
    max_num_devices: int = 1
    """The most devices that one launch can use: they share each step's batch equally."""
    family: str | None = None
    """The name that implementation files carry where several frameworks share them: keras for
    keras_jax; None: the framework's own name."""
    base: str | None = None
    """The name of the framework that it computes with, if it is a library on one: its cost beside
    that framework is shown. It holds no oracle, and a base is no library itself."""
    fused_attention: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For each device the precisions in which attention is one kernel that keeps no matrix of
    attention weights, neither in inference nor for the backward pass."""
    exporter_distributions: tuple[str, ...] = ()
    """Further packages that its exporters use. Their versions identify only results of models that
    are exported from it."""
    holds_oracle: bool = False
    """Whether its float64 on the CPU can hold the oracle: independent of the others that
    are (not another's code on top), and fast enough."""
    unsupported: tuple[Unsupported, ...] = ()
    import_variables: tuple[tuple[str, str], ...] = ()
    """Variables that must stand whenever it is imported, by a probe as well: what keeps it from
    reporting its use to its maker."""


def capabilities_on(
    base: Capabilities,
    *,
    name: str,
    import_name: str,
    distributions: tuple[str, ...],
    unsupported: tuple[Unsupported, ...] = (),
) -> Capabilities:
    """What a library can do on a framework: what that can, but for holding the oracle.

    Args:
        base: the capabilities of the framework that computes; those of a framework of its own.
        name: of the library, and of its folder.
        import_name: the library's module, which is missing if the library is not installed.
        distributions: the packages whose versions identify a result: the library's own first, then
            those of the base that it uses.
        unsupported: what the base can do and the library cannot. A precision that is unsupported
            whatever the device, the execution and the workload is left out of the precisions.
    """
    whole = (one for one in unsupported if not (one.device or one.execution or one.workload))
    lost = {one.precision for one in whole}
    return replace(
        base,
        name=name,
        import_name=import_name,
        distributions=distributions,
        precisions={
            device: tuple(one for one in offered if one not in lost)
            for device, offered in base.precisions.items()
        },
        base=base.name,
        holds_oracle=False,
        unsupported=(*base.unsupported, *unsupported),
    )


@dataclass(frozen=True)
class Settings:
    """How a launch is to run: within the capabilities, which the worker checks beforehand."""

    device: str
    num_devices: int
    execution: str
    precision: str
    num_threads: int
    """Intra-operation threads of the launch, the same for every framework. Several devices of the
    kind `cpu` are equal parts of them."""
    memory_fraction: float
    """The share of each device's memory that this launch may take; 1.0 on CPU."""
    cache_folder: str
    """Private to this (case, pins): the framework's compile caches go here."""
    scratch_folder: str
    """Private to this launch, removed afterwards."""


class Framework(Protocol):
    """What an adapter must offer to the worker and to the implementations."""

    def configure(self, settings: Settings) -> None:
        """Apply threads, precision, memory pool and caches; called before any array exists."""

    def devices(self) -> dict[str, int]:
        """The devices that the framework sees here, with their number: {"cpu": 1, "cuda": 2}."""

    def put(self, array: np.ndarray) -> Any:
        """The array on the configured device, with its dtype; of several devices, the first."""

    def get(self, value: Any) -> np.ndarray:
        """A copy of the value on the host; bf16 comes back as float32."""

    def wait(self, values: Any) -> None:
        """Return when these values are computed and every device of the launch is idle."""

    def placement(self, value: Any) -> str:
        """The kind of device where a value really lives, as `contract.device` names it.

        Of a value on several devices it is the kind of all; ValueError if they are not of one kind.
        """

    def num_compilations(self) -> int | None:
        """Compilations so far in this process, or None where the framework cannot say."""

    def peak_memory_bytes(self) -> int | None:
        """Peak bytes on the device since `settle`, or None where the framework cannot say.

        Of several devices the largest peak: it is what must fit.
        """

    def matmul(self, a: Any, b: Any) -> Any:
        """A @ b in the configured precision, for the self-test and the roof: on one device.

        A launch's roof is that of one device times their number.
        """

    def convolve(self, images: Any, kernel: Any) -> Any:
        """The convolution of BHWC images with an HWCD kernel in the configured precision, BHWD.

        Of stride 1, padded by (kernel_size - 1) // 2 on each side, by the operation that programs
        use: its error tells the precision that really ran.
        """

    def settle(self) -> None:
        """Close compile pools and begin the device's peak anew: what follows is measured."""

    def describe(self) -> dict[str, str]:
        """Versions and the *effective* settings that can change speed, read back.

        Under `products` the dtype that products are really computed in: float32 for bf16 on a CPU
        without units for it.
        """
