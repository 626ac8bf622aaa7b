"""The contract of a framework's folder: capabilities as data, an environment, and an adapter.

`benchmarks/frameworks/<name>/__init__.py` imports no framework and holds
    CAPABILITIES: Capabilities
    def environment(settings: Settings) -> dict[str, str]
        environment variables that must be set before the framework is imported.
`benchmarks/frameworks/<name>/adapter.py` imports the framework and holds
    class Adapter, which is a `Framework`.
`benchmarks/frameworks/<name>/requirements-<platform>.txt` pins its packages.
A folder that several frameworks share is no framework: it holds `FAMILY: str`, no CAPABILITIES.

A library that computes with another framework, its base, is a folder of a few lines. For a library
called `library` on `jax`, requirements begin with `-r ../jax/requirements-<platform>.txt`; it holds
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
    """The page of the framework's documentation or issue tracker that says so."""
    device: str | None = None
    execution: str | None = None
    precision: str | None = None
    workload: str | None = None

    def covers(self, *, workload: str, device: str, execution: str, precision: str) -> bool:
        """Whether this entry includes the combination."""
        asked = (
            (self.workload, workload),
            (self.device, device),
            (self.execution, execution),
            (self.precision, precision),
        )
        return all(own is None or own == value for own, value in asked)


@dataclass(frozen=True)
class Capabilities:
    """The capabilities of a framework, as data that is read without importing it."""

    name: str
    import_name: str
    """The module whose presence in an interpreter means that the framework is installed."""
    distributions: tuple[str, ...]
    """The packages whose versions identify a result, the framework's own first."""
    executions: tuple[str, ...]
    precisions: Mapping[str, tuple[str, ...]]
    """For each device that the framework can use, the precisions that it has there."""
    asynchronous_devices: tuple[str, ...]
    """Devices on which a call returns before its work is done: blocks there hold several steps."""
    out_of_memory_patterns: tuple[str, ...]
    """Regular expressions that an out-of-memory error of this framework matches."""
    needs_compiler: tuple[tuple[str, str], ...] = ()
    """(execution, device) pairs that need a C++ compiler on the machine."""
    limits_memory_on: tuple[str, ...] = ()
    """Devices on which a launch can be limited to a share of the memory, so that several fit."""
    max_num_devices: int = 1
    """The most devices that one launch can use: they share each step's batch equally."""
    family: str | None = None
    """The name of implementation files that several frameworks share, e.g. keras for keras_jax;
    None: the framework's own name."""
    base: str | None = None
    """For a library, the name of the framework that it computes with; the library's cost relative
    to that framework is shown. A library holds no oracle, and its base is no library."""
    fused_attention: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For each device the precisions in which attention is one kernel that stores no matrix of
    attention weights, neither in inference nor for the backward pass."""
    exporter_distributions: tuple[str, ...] = ()
    """Further packages that its exporters use. Their versions identify only results of models that
    are exported from it."""
    holds_oracle: bool = False
    """Whether it can compute the oracle, in float64 on the CPU: it must be fast enough, and
    independent of the other frameworks that do (not a layer on one of them)."""
    has_own_clock: bool = False
    """Whether its times are simulated, as those of the fakes of our tests: they are then not held
    against the clock of the process that measures."""
    unsupported: tuple[Unsupported, ...] = ()
    import_variables: tuple[tuple[str, str], ...] = ()
    """Environment variables that must be set for every import, also by a probe: they keep the
    framework from reporting its use to its maker."""


def capabilities_on(
    base: Capabilities,
    *,
    name: str,
    import_name: str,
    distributions: tuple[str, ...],
    unsupported: tuple[Unsupported, ...] = (),
) -> Capabilities:
    """The capabilities of a library: those of its base, except that it holds no oracle.

    Args:
        base: the capabilities of the framework that computes; it must not be a library itself.
        name: the name of the library and of its folder.
        import_name: the library's module, which is missing if the library is not installed.
        distributions: the packages whose versions identify a result: the library's own first, then
            those of the base that it uses.
        unsupported: combinations that the base supports and the library does not. A precision that
            is unsupported for every device, execution and workload is left out of the precisions.
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
    """The settings of a launch; the worker checks them against the capabilities beforehand."""

    device: str
    num_devices: int
    execution: str
    precision: str
    num_threads: int
    """Intra-operation threads of the launch, the same for every framework. Several `cpu` devices
    share these threads equally."""
    memory_fraction: float
    """The share of each device's memory that this launch may take; 1.0 on CPU."""
    cache_folder: str
    """Folder of the framework's compile caches, private to this (case, package versions)."""
    scratch_folder: str
    """Folder private to this launch, removed afterwards."""


class Framework(Protocol):
    """The interface that an adapter offers to the worker and to the implementations."""

    def configure(self, settings: Settings) -> None:
        """Apply threads, precision, memory pool and caches; called before any array exists."""

    def devices(self) -> dict[str, int]:
        """The devices that the framework sees here, with their number: {"cpu": 1, "cuda": 2}."""

    def put(self, array: np.ndarray) -> Any:
        """The array on the configured device (the first of several), with its dtype."""

    def get(self, value: Any) -> np.ndarray:
        """A copy of the value on the host; bf16 comes back as float32."""

    def wait(self, values: Any) -> None:
        """Return when these values are computed and every device of the launch is idle."""

    def placement(self, value: Any) -> str:
        """The kind of device where a value really is, as `contract.device` names it.

        A value may be on several devices; ValueError if these are not of one kind.
        """

    def num_compilations(self) -> int | None:
        """Compilations so far in this process, or None if the framework cannot count them."""

    def peak_memory_bytes(self) -> int | None:
        """Peak bytes on the device since `settle`, or None if the framework does not know.

        With several devices it is the largest of their peaks, which must fit on each.
        """

    def matmul(self, a: Any, b: Any) -> Any:
        """A @ b on one device in the configured precision, for the self-test and the roofline.

        A launch's roofline is that of one device times the number of devices.
        """

    def convolve(self, images: Any, kernel: Any) -> Any:
        """The convolution of BHWC images with an HWCD kernel in the configured precision, BHWD.

        The stride is 1 and the padding (kernel_size - 1) // 2 on each side. It must be the
        operation that programs use, because its error shows the precision that really ran.
        """

    def settle(self) -> None:
        """Close compile pools and reset the device's peak memory: measuring begins after this."""

    def describe(self) -> dict[str, str]:
        """Versions and the *effective* settings that can change speed, read back.

        `products` is the dtype in which matmuls are really computed: float32 for bf16 on a CPU
        without bf16 units.
        """
