"""Makes cases from the matrices of a suite and the axes of the command line; counts them first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contract.case import (
    AXES,
    EXECUTIONS,
    Case,
    Option,
    Options,
    Place,
    Way,
    Work,
)
from benchmarks.contract.device import DEVICE_KINDS
from benchmarks.contract.precision import PRECISIONS
from benchmarks.contract.workload import Values, WorkloadSpec
from benchmarks.errors import UsageError
from benchmarks.planning.catalog import Catalog
from benchmarks.planning.config import MatrixConfig
from benchmarks.planning.libraries import LIBRARIES, others_first, with_bases
from benchmarks.planning.names import unknown_name
from benchmarks.planning.overrides import MAX_CELLS, too_many

ALL = "all"
AUTO_DEVICE = "auto"
INTEGER_AXES = {"batch_size": 1, "num_devices": 1, "seed": 0}
"""Axes that hold integers, each with its least value."""


OptionAxis = tuple[str, tuple[Option | None, ...]]
"""An option's name and values; None stands for the workload's default at each size."""


@dataclass(frozen=True)
class Matrix:
    """The axes of one workload's cells; every value is checked, and `all` is expanded."""

    spec: WorkloadSpec
    sizes: tuple[str, ...]
    batch_sizes: tuple[int | None, ...]
    """Batch sizes; None stands for the workload's default at each size."""
    frameworks: tuple[str, ...]
    bases: Mapping[str, str]
    """For each library the framework that it computes with."""
    executions: tuple[str, ...]
    precisions: tuple[str, ...]
    devices: tuple[str, ...]
    num_devices: tuple[int, ...]
    seeds: tuple[int, ...]
    options: tuple[OptionAxis, ...]
    """The axes of the work's options."""
    way_options: tuple[OptionAxis, ...]

    @property
    def num_cells(self) -> int:
        """The number of cells before duplicates are merged."""
        options = (values for _, values in (*self.options, *self.way_options))
        return math.prod(len(values) for values in (*self._axes(), *options))

    def cases(self, auto_device: str) -> Iterator[Case]:
        """The cells in the order of their groups; within a group the last axes change fastest."""
        for seed, size, batch_size, device, num_devices in itertools.product(
            self.seeds, self.sizes, self.batch_sizes, self.devices, self.num_devices
        ):
            place = Place(auto_device if device == AUTO_DEVICE else device, num_devices)
            items = batch_size or self.spec.default_batch_size[size]
            for options in self._sets(self.options, size):
                work = Work(
                    self.spec.name,
                    self.spec.version,
                    size,
                    items,
                    options,
                    seed,
                    num_replicas=num_devices if self.spec.per_replica_statistics else 1,
                )
                for way in self._ways(size):
                    yield Case(work, way, place)

    def _axes(self) -> tuple[tuple[Any, ...], ...]:
        return (
            *(self.seeds, self.sizes, self.batch_sizes, self.devices, self.num_devices),
            *(self.precisions, self.frameworks, self.executions),
        )

    def _ways(self, size: str) -> Iterator[Way]:
        for precision, framework, execution, options in itertools.product(
            self.precisions,
            self.frameworks,
            self.executions,
            list(self._sets(self.way_options, size)),
        ):
            yield Way(framework, execution, precision, options, self.bases.get(framework))

    def _sets(self, axes: Sequence[OptionAxis], size: str) -> Iterator[Options]:
        names = [name for name, _ in axes]
        for values in itertools.product(*(values for _, values in axes)):
            yield tuple(
                (name, self.spec.default_option(name, size) if value is None else value)
                for name, value in zip(names, values, strict=True)
            )


def matrices(
    configs: Sequence[MatrixConfig], overrides: Mapping[str, Sequence[Any]], catalog: Catalog
) -> list[Matrix]:
    """The suite's matrices; axes from the command line replace their own.

    A workload from the command line takes its other axes from the suite's matrices for it. If there
    are none, it takes them from the matrices whose sizes it has.

    Raises UsageError if a name is unknown, a value has the wrong type, `all` cannot be enumerated,
    or there are more cells than MAX_CELLS.
    """
    _refuse_idle_options(configs, overrides, catalog)
    found = [
        matrix
        for index, config in enumerate(configs)
        for matrix in _of_config(config, configs, overrides, catalog, f"matrices[{index}].")
    ]
    distinct = [matrix for i, matrix in enumerate(found) if matrix not in found[:i]]
    num_cells = sum(matrix.num_cells for matrix in distinct)
    if num_cells > MAX_CELLS:
        raise too_many(num_cells, "the selection")
    return distinct


def cases(found: Iterable[Matrix], auto_device: str) -> list[Case]:
    """The cells of all matrices in their order, each once."""
    return list(dict.fromkeys(case for matrix in found for case in matrix.cases(auto_device)))


def _of_config(
    config: MatrixConfig,
    configs: Sequence[MatrixConfig],
    overrides: Mapping[str, Sequence[Any]],
    catalog: Catalog,
    where: str,
) -> Iterator[Matrix]:
    """One matrix for each workload, because sizes and options are the workload's."""
    given = {axis: _given(axis, getattr(config, axis), overrides, where) for axis in AXES}
    options = {
        name: _given(name, config.options.get(name), overrides, f"{where}options.")
        for name in (*config.options, *overrides)
        if name not in AXES
    }
    frameworks = _frameworks(given["framework"], catalog)
    for workload in _chosen(given["workload"], tuple(catalog.workloads), "workload"):
        spec = catalog.workloads[workload].spec
        if not _takes(config, configs, overrides, spec):
            continue
        yield Matrix(
            spec=spec,
            sizes=_chosen(given["size"], tuple(spec.sizes), f"size of {workload}"),
            batch_sizes=_integers(given["batch_size"], "batch_size", optional=True),
            frameworks=frameworks,
            bases=catalog.bases,
            executions=_chosen(given["execution"], EXECUTIONS, "execution"),
            precisions=_chosen(given["precision"], tuple(PRECISIONS), "precision"),
            devices=_chosen(given["device"], tuple(DEVICE_KINDS), "device", further=(AUTO_DEVICE,)),
            num_devices=_integers(given["num_devices"], "num_devices"),
            seeds=_integers(given["seed"], "seed"),
            options=_option_axes(spec.options, options, each=spec.every_value_of),
            way_options=_option_axes(spec.way_options, options),
        )


def _takes(
    config: MatrixConfig,
    configs: Sequence[MatrixConfig],
    overrides: Mapping[str, Sequence[Any]],
    spec: WorkloadSpec,
) -> bool:
    """Whether a chosen workload takes its other axes from this matrix."""
    return "workload" not in overrides or config in _own_or_fitting(configs, overrides, spec)


def _own_or_fitting(
    configs: Sequence[MatrixConfig], overrides: Mapping[str, Sequence[Any]], spec: WorkloadSpec
) -> Sequence[MatrixConfig]:
    """The suite's matrices that give a workload from the command line its other axes."""
    own = [one for one in configs if {spec.name, ALL} & set(_values(one.workload))]
    known = {ALL, *spec.sizes}
    fitting = [one for one in configs if "size" in overrides or known >= set(_values(one.size))]
    return own or fitting or configs


@dataclass(frozen=True)
class _Given:
    """Values as the user wrote them, and where."""

    values: tuple[Any, ...]
    where: str

    @property
    def is_all(self) -> bool:
        return ALL in self.values


def _given(axis: str, own: Any, overrides: Mapping[str, Sequence[Any]], where: str) -> _Given:
    if axis in overrides:
        return _Given(tuple(overrides[axis]), f"{axis}={','.join(map(str, overrides[axis]))}")
    values = _values(own)
    return _Given(values, f"{where}{axis}={','.join(map(str, values))}")


def _values(own: Any) -> tuple[Any, ...]:
    """The values of a suite's axis, which is one value or a list."""
    return tuple(own) if isinstance(own, (list, tuple)) else (own,)


def _chosen(
    given: _Given, known: tuple[str, ...], kind: str, *, further: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """The chosen names, each of which is known; all known names for `all`."""
    _refuse_mixed(given)
    if given.is_all:
        return known
    for value in given.values:
        if not isinstance(value, str) or value not in (*known, *further):
            raise unknown_name(str(value), (*known, *further), kind=kind, where=given.where)
    return given.values


def _frameworks(given: _Given, catalog: Catalog) -> tuple[str, ...]:
    """The frameworks, the base of each library among them."""
    known = others_first(tuple(catalog.frameworks), catalog.bases)
    chosen = _chosen(given, known, "framework", further=(LIBRARIES,))
    return with_bases(chosen, catalog.bases, where=given.where)


def _integers(given: _Given, axis: str, *, optional: bool = False) -> tuple[Any, ...]:
    least = INTEGER_AXES[axis]
    if given.is_all:
        raise UsageError(f"{given.where}: all {axis} cannot be enumerated; name the values")
    for value in given.values:
        if value is None and optional:
            continue
        if type(value) is not int or value < least:
            raise UsageError(
                f"{given.where}: received {value!r}, expected integers of {least} or more"
            )
    _refuse_mixed(given)
    return given.values


def _option_axes(
    known: Mapping[str, Values], given: Mapping[str, _Given], *, each: Sequence[str] = ()
) -> tuple[OptionAxis, ...]:
    """The values of each option; if none is requested, options in `each` take all values."""
    found = {name: _option(given.get(name), name, values) for name, values in known.items()}
    whole = {name: tuple(known[name]) for name in each if found.get(name) == (None,)}
    return tuple({**found, **whole}.items())


def _option(given: _Given | None, name: str, known: Values) -> tuple[Option | None, ...]:
    """The values of a workload's own axis; None, for its default, if none is requested."""
    if given is None or given.values == (None,):
        return (None,)
    _refuse_mixed(given)
    if given.is_all and isinstance(known, range):
        raise UsageError(f"{given.where}: all {name} cannot be enumerated; name the values")
    if given.is_all:
        return tuple(known)
    for value in given.values:
        if type(value) in (int, str) and value in known:
            continue
        if isinstance(known, range):
            least, most = known[0], known[-1]
            raise UsageError(
                f"{given.where}: received {value!r}, expected integers from {least} to {most:,}"
            )
        raise unknown_name(str(value), [str(one) for one in known], kind=name, where=given.where)
    return given.values


def _refuse_mixed(given: _Given) -> None:
    if not given.values:
        raise UsageError(f"{given.where}: expected at least one value")
    if given.is_all and len(given.values) > 1:
        raise UsageError(f"{given.where}: expected `all` without other values")


def _refuse_idle_options(
    configs: Sequence[MatrixConfig], overrides: Mapping[str, Sequence[Any]], catalog: Catalog
) -> None:
    """UsageError for an option that no selected workload has, since it would be ignored."""
    asked = [name for name in overrides if name not in AXES]
    for index, config in enumerate(configs):
        given = _given("workload", config.workload, overrides, f"matrices[{index}].")
        specs = [
            catalog.workloads[one].spec
            for one in _chosen(given, tuple(catalog.workloads), "workload")
            if _takes(config, configs, overrides, catalog.workloads[one].spec)
        ]
        if not specs:
            continue
        known = {name for spec in specs for name in _option_names(spec)}
        for name in config.options:
            if name not in known:
                where = f"matrices[{index}].options"
                raise unknown_name(name, sorted(known), kind="option", where=where)
        asked = [name for name in asked if name not in known]
    if asked:
        raise UsageError(f"{asked[0]}=...: none of the selected workloads has this option")


def _option_names(spec: WorkloadSpec) -> tuple[str, ...]:
    return (*spec.options, *spec.way_options)
