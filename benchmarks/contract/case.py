"""A case: one cell of the matrix, as Work (what), Way (with what and how) and Place (where).

Standard library only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

Option = Union[int, str]
Options = tuple[tuple[str, Option], ...]

EXECUTIONS = ("eager", "graph", "compiled")
RECIPE = "recipe"
"""The option of a way whose values are `RECIPES`."""
IDIOMATIC, TUNED = "idiomatic", "tuned"
RECIPES = (IDIOMATIC, TUNED)
"""Idiomatic: the framework's own layers and operations as its documentation and its users write
them, every setting at its documented best. Tuned: operations are rewritten beyond that, with the
same mathematics. Only cases of equal recipes are compared."""
AXES = (
    "workload",
    "size",
    "batch_size",
    "framework",
    "execution",
    "precision",
    "device",
    "num_devices",
    "seed",
)
"""The axes of every workload; its own options are further axes."""
GROUPS = ("suite", "protocol", "machine")
"""The choices beside the axes, each a folder of configs/; no option may have such a name."""


@dataclass(frozen=True)
class Work:
    """The computation, without any framework: cases with equal Work can be compared."""

    workload: str
    version: int
    """Version of the workload's mathematics; results of different versions are never compared."""
    size: str
    batch_size: int
    """Items in one step over all devices of the case: the global batch. Device i of N takes the
    batch_size / N items from i * batch_size / N on."""
    options: Options = ()
    """The workload's own options in the order of its spec, e.g. (("sequence_length", 512),)."""
    seed: int = 0
    """Seed of the canonical weights and batches."""
    num_replicas: int = 1
    """Equal parts of the batch over which statistics are taken separately, if the workload's
    mathematics depends on them (`WorkloadSpec.per_replica_statistics`); else 1."""


@dataclass(frozen=True)
class Way:
    """The framework that computes it, and how."""

    framework: str
    execution: str
    precision: str
    options: Options = ()
    base: str | None = None
    """The framework that computes, if `framework` is a library on one: `Capabilities.base`."""

    @property
    def recipe(self) -> str:
        """One of `RECIPES`; idiomatic if the workload has no such option."""
        return str(dict(self.options).get(RECIPE, IDIOMATIC))


@dataclass(frozen=True)
class Place:
    """Where it is computed."""

    device: str
    num_devices: int = 1
    """Devices of one launch, which share each step's batch equally."""


@dataclass(frozen=True)
class Case:
    """One cell of the matrix."""

    work: Work
    way: Way
    place: Place

    @property
    def case_id(self) -> str:
        """A readable name, stable between versions; unique within one version of the workload."""
        way = f"{self.way.framework}/{self.way.execution}/{self.way.precision}"
        # The usual recipe is not named: its cases keep the names that they had before recipes.
        options = tuple(one for one in self.way.options if one != (RECIPE, IDIOMATIC))
        return f"{_work_id(self.work)}/{way}{_options_id(options)}/{_place_id(self.place)}"

    @property
    def group_id(self) -> str:
        """The name of the group: the cases with this Work and Place, which are compared."""
        return f"{_work_id(self.work)}/{_place_id(self.place)}"

    @property
    def on_base(self) -> Case | None:
        """For a library's case the same case of the framework that it computes with, else None."""
        if self.way.base is None:
            return None
        way = dataclasses.replace(self.way, framework=self.way.base, base=None)
        return dataclasses.replace(self, way=way)

    @property
    def idiomatic(self) -> Case | None:
        """For a tuned case the same case as the framework's users write it, else None."""
        if self.way.recipe != TUNED:
            return None
        options = {**dict(self.way.options), RECIPE: IDIOMATIC}
        return dataclasses.replace(
            self, way=dataclasses.replace(self.way, options=tuple(options.items()))
        )

    @property
    def counterparts(self) -> tuple[Case, ...]:
        """The cases that differ from this one in its library, or in its tuning, alone.

        The case is compared with each of them, beside the base of its group: the ratios are the
        cost of the library and the gain of the tuning.
        """
        return tuple(one for one in (self.on_base, self.idiomatic) if one is not None)

    def axes(self) -> dict[str, Any]:
        """The case as the flat axes of the JSON documents; options become keys of their own."""
        return {
            "workload": self.work.workload,
            "size": self.work.size,
            "batch_size": self.work.batch_size,
            "framework": self.way.framework,
            "execution": self.way.execution,
            "precision": self.way.precision,
            "device": self.place.device,
            "num_devices": self.place.num_devices,
            **dict(self.work.options),
            **dict(self.way.options),
        }

    def to_json(self) -> dict[str, Any]:
        """The case as nested JSON, the inverse of `case_from_json`; it also identifies results.

        Replicas and base are left out if the case has none, so that results from before they
        existed still count. The recipe is not: a result from before it cannot say which it had.
        """
        way = dataclasses.asdict(self.way)
        if self.way.base is None:
            del way["base"]
        return {
            "work": work_to_json(self.work),
            "way": way,
            "place": dataclasses.asdict(self.place),
        }


def case_from_json(data: Mapping[str, Any]) -> Case:
    """The case that `Case.to_json` wrote; TypeError or KeyError if the data have another shape."""
    return Case(
        work=work_from_json(data["work"]),
        way=Way(**_with_options(data["way"])),
        place=Place(**data["place"]),
    )


def work_to_json(work: Work) -> dict[str, Any]:
    """The Work as JSON, which also identifies it: a single replica is left out."""
    fields = dataclasses.asdict(work)
    if work.num_replicas == 1:
        del fields["num_replicas"]
    return fields


def work_from_json(data: Mapping[str, Any]) -> Work:
    """The Work that `work_to_json` wrote."""
    return Work(**_with_options(data))


def _with_options(data: Mapping[str, Any]) -> dict[str, Any]:
    return {**data, "options": tuple((str(k), v) for k, v in data.get("options", ()))}


def _work_id(work: Work) -> str:
    seed = f"/seed{work.seed}" if work.seed else ""
    replicas = f"/replicas{work.num_replicas}" if work.num_replicas > 1 else ""
    options = _options_id(work.options)
    return f"{work.workload}/{work.size}/b{work.batch_size}{options}{seed}{replicas}"


def _place_id(place: Place) -> str:
    return place.device if place.num_devices == 1 else f"{place.device}x{place.num_devices}"


def _options_id(options: Options) -> str:
    return "".join(f"/{name}={value}" for name, value in options)
