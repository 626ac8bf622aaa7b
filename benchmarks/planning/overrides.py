"""The overrides of a command line, parsed by Hydra's grammar and sorted by how they are applied.

Axes are applied by `planning.axes` to every matrix of the suite, `protocol.*` and `machine.*` by
Hydra; everything else is refused here, before any configuration is composed, because overrides of
Hydra itself can run code (reference: reliability and formats, section 4.1).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.contract.case import AXES, GROUPS
from benchmarks.contract.plan import MachineConfig
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.errors import UsageError
from benchmarks.planning.names import unknown_name

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override, RangeSweep

NODES: dict[str, type[Any]] = {"protocol": MeasuringProtocol, "machine": MachineConfig}
MAX_CELLS = 2000
"""The most cells of a plan, and values of an axis: more are a mistake on the command line."""

_INSTANTIATION = re.compile(r"(?<!\w)_(target|partial|args|recursive|convert)_(?!\w)")


@dataclass(frozen=True)
class Overrides:
    """The overrides of a command line, sorted."""

    axes: dict[str, tuple[Any, ...]]
    """Values by axis or by workload option; if an axis is given twice, the last one counts."""
    groups: dict[str, str]
    """The chosen suite, protocol and machine; without an entry for those not chosen."""
    hydra: tuple[str, ...]
    """Overrides below protocol and machine, for Hydra to apply."""

    def is_named(self, axis: str, value: str) -> bool:
        """Whether the user named this value itself, and not by `all`."""
        return value in self.axes.get(axis, ())


def parse(overrides: Sequence[str], *, options: Iterable[str] = ()) -> Overrides:
    """The overrides, sorted; `options` are the names of the workloads' own axes.

    Raises UsageError if an override is refused, unknown, malformed, or has more than MAX_CELLS
    values.
    """
    axes: dict[str, tuple[Any, ...]] = {}
    groups: dict[str, str] = {}
    hydra: list[str] = []
    known = (*AXES, *options)
    for text in overrides:
        _refuse_code(text)
        override = _parsed(text)
        key = str(override.key_or_group)
        _refuse_form(override, text)
        if key in known:
            axes[key] = _values(override, text)
        elif key in GROUPS:
            groups[key] = _choice(override, text)
        else:
            hydra.append(_for_hydra(override, text, known))
    return Overrides(axes, groups, tuple(hydra))


def _refuse_code(text: str) -> None:
    """Refuse an override that could make Hydra or OmegaConf run code or read the environment."""
    key = text.partition("=")[0].strip().lstrip("+~")
    if re.match(r"hydra\b", key):
        raise UsageError(
            f"{text}: overrides of hydra are refused, because they can run code and write files",
            hint="Dyno runs the sweep itself; only axes, suite, protocol and machine can be set",
        )
    match = _INSTANTIATION.search(text)
    if match:
        raise UsageError(
            f"{text}: {match[0]} is refused, because it names code to run",
            hint="frameworks and workloads are found in their folders; see --extend",
        )
    if "${" in text:
        raise UsageError(
            f"{text}: interpolations are refused, because they can read the environment",
            hint="write the value itself",
        )


def _parsed(text: str) -> Override:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        detail = str(error).splitlines()[0].removesuffix(".")
        raise UsageError(
            f"{text}: not an override: {detail}",
            hint="expected KEY=VALUE, e.g. framework=pytorch,jax or protocol.num_cohorts=5",
        ) from error


def _refuse_form(override: Override, text: str) -> None:
    if override.is_delete():
        raise UsageError(f"{text}: nothing can be removed with ~", hint="set another value instead")
    if override.package is not None:
        raise UsageError(f"{text}: packages (@) are refused", hint="expected KEY=VALUE")


def _choice(override: Override, text: str) -> str:
    if override.is_sweep_override():
        raise UsageError(
            f"{text}: one run has one {override.key_or_group}",
            hint="start a run for each, or write a suite file with several matrices",
        )
    value = _plain(override.value())
    if not isinstance(value, str) or not value:
        raise UsageError(f"{text}: expected a name, received {value!r}")
    return value


def _for_hydra(override: Override, text: str, known: Iterable[str]) -> str:
    """The override in Hydra's form; UsageError unless its field exists."""
    key = str(override.key_or_group)
    node, _, rest = key.partition(".")
    if node not in NODES or not rest:
        settable = [*known, *GROUPS, *(f"{name}.{f}" for name in NODES for f in _fields(name))]
        raise unknown_name(key, settable, kind="key", where=text)
    field, _, entry = rest.partition(".")
    if field not in _fields(node):
        raise unknown_name(field, _fields(node), kind=f"key of {node}", where=text)
    if override.is_sweep_override():
        raise UsageError(
            f"{text}: a sweep over {key} is not possible", hint="start a run for each value"
        )
    value = text.partition("=")[2]
    # ++ sets a field whether or not the preset has it, so that an entry can be added to a dict.
    return f"++{key}={value}" if entry else f"{key}={value}"


def _fields(node: str) -> list[str]:
    return [field.name for field in dataclasses.fields(NODES[node])]


def _values(override: Override, text: str) -> tuple[Any, ...]:
    """The values of an axis: one, a list of them, or a range that is counted first."""
    from hydra.core.override_parser.types import ChoiceSweep, Glob, RangeSweep, Sweep

    value = override._value  # value() returns only the text of a sweep
    if isinstance(value, RangeSweep):
        return _range(value, text)
    if isinstance(value, ChoiceSweep):
        if value.shuffle:
            raise UsageError(f"{text}: Dyno itself shuffles the order of launches and turns")
        values = value.list
    elif isinstance(value, (Sweep, Glob)):
        raise UsageError(f"{text}: expected a value, a comma list, range(start,stop,step) or all")
    else:
        values = value if isinstance(value, list) else [value]
    if len(values) > MAX_CELLS:
        raise too_many(len(values), text)
    return tuple(_plain(one) for one in values)


def _range(sweep: RangeSweep, text: str) -> tuple[Any, ...]:
    start, stop, step = sweep.start or 0, sweep.stop, sweep.step
    if stop is None or step == 0:
        raise UsageError(f"{text}: expected range(start,stop,step) with a step that is not 0")
    num_values = (stop - start) / step
    if not math.isfinite(num_values):
        raise UsageError(f"{text}: expected a range between finite numbers")
    if num_values > MAX_CELLS:
        raise too_many(math.ceil(num_values), text)
    if num_values <= 0 or sweep.shuffle:
        raise UsageError(f"{text}: expected a range that holds values and is not shuffled")
    return tuple(start + index * step for index in range(math.ceil(num_values)))


def too_many(num_cells: int, what: str) -> UsageError:
    """The error for a selection above MAX_CELLS, to be raised before it is expanded."""
    shown = f"{num_cells:,}" if num_cells < 10**12 else f"{num_cells:.0e}"
    return UsageError(
        f"{what}: {shown} cells, at most {MAX_CELLS:,} in one plan",
        hint="select less, or split the sweep into several runs",
    )


def _plain(value: Any) -> Any:
    """The value without its quotes."""
    from hydra.core.override_parser.types import QuotedString

    return value.text if isinstance(value, QuotedString) else value
