"""The cells of a plan: drafted one by one, settled once the cohorts are known."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.contract.case import TUNED, Case
from benchmarks.contract.plan import Cell, CohortPlan, Interpreter
from benchmarks.contract.record import SERIAL
from benchmarks.contract.units import in_gib
from benchmarks.planning.catalog import Catalog
from benchmarks.planning.cohorts import Part
from benchmarks.planning.config import Configuration
from benchmarks.planning.estimate import Estimator, launch_memory_bytes, memory_limit
from benchmarks.planning.history import History
from benchmarks.planning.identity import Conditions, result_key
from benchmarks.planning.skips import Offer, skip_of
from benchmarks.planning.sources import Sources, implementation_hash
from benchmarks.planning.surroundings import Interpreters, Surroundings


class Drafting:
    """Decides about the cells of one plan; their common inputs are read once."""

    def __init__(
        self,
        catalog: Catalog,
        configuration: Configuration,
        interpreters: Interpreters,
        around: Surroundings,
        history: History,
    ) -> None:
        machine, protocol = configuration.machine, configuration.protocol
        num_threads = machine.num_threads or around.num_cores
        limits = {d: memory_limit(d, machine, around) for d in configuration.device_rules}
        self._catalog = catalog
        self._configuration = configuration
        self._limits = limits
        self._history = history
        self._interpreters = interpreters
        self._offer = Offer(catalog, interpreters, limits, around.has_compiler)
        self._conditions = Conditions(protocol, around.machine_key, num_threads)
        self._estimator = Estimator(history, protocol, around, num_threads)
        self._sources = Sources(catalog.roots)

    def draft(self, case: Case) -> Cell:
        """The case as a skipped cell, with the reason, or as one to be run, with its result key."""
        spec = self._catalog.workloads[case.work.workload].spec
        capabilities = self._catalog.frameworks[case.way.framework].capabilities
        memory_bytes = launch_memory_bytes(case, spec, capabilities)
        skip = skip_of(case, memory_bytes, self._offer)
        if skip:
            return Cell(case, "skip", skip.kind, skip.reason, memory_bytes=memory_bytes)
        key = self._result_key(case)
        implementation = self._catalog.implementations[case.work.workload, case.way.framework]
        return Cell(
            case,
            "run",
            memory_bytes=memory_bytes,
            result_key=key,
            differs=implementation.differs,
            rewrites=implementation.rewrites if case.way.recipe == TUNED else None,
            has_own_clock=capabilities.has_own_clock,
        )

    def fits(self, together: Sequence[Cell]) -> bool:
        """Whether launches of these cells, on one kind of device, can be alive together."""
        sizes = [cell.memory_bytes or 0 for cell in together]
        limit = self._limits[together[0].case.place.device]
        return len(together) <= self._configuration.machine.max_resident and limit.holds(sizes)

    def settle(
        self, cells: Iterable[Cell], parts: Iterable[Part], cohorts: Iterable[CohortPlan]
    ) -> Iterator[Cell]:
        """The cells with the results that the store has, and estimates for the other launches."""
        missing: Counter[str] = Counter()
        serial: dict[str, str] = {}
        for part in parts:
            missing.update(part.missing)
            if part.resident == SERIAL:
                serial |= {one.case.case_id: self._why_serial(one, part) for one in part.others}
        planned = Counter(launch.case_id for one in cohorts for launch in one.launches)
        for cell in cells:
            name = cell.case.case_id
            settled = cell
            if missing[name]:
                settled = dataclasses.replace(cell, reason=serial.get(name))
            elif cell.action == "run":
                settled = self._had(cell, again=name in planned)
            yield self._timed(settled, planned[name]) if name in planned else settled

    def _why_serial(self, cell: Cell, part: Part) -> str:
        max_resident = self._configuration.machine.max_resident
        memory = self._limits[cell.case.place.device]
        if max_resident < 2 or memory.limit_bytes is None:
            why = f"machine.max_resident={max_resident}"
        else:
            sizes = [in_gib(one.memory_bytes or 0) for one in (cell, part.base)]
            halves = "halves of " * memory.is_shared_equally
            why = (
                f"needs {sizes[0]}, its base {sizes[1]}, which do not fit together"
                f" within {halves}{in_gib(memory.limit_bytes)}"
            )
        return f"{why}: launched one after another with its base (A B B A)"

    def _result_key(self, case: Case) -> str:
        implementation = (case.work.workload, case.way.framework)
        exporters = self._catalog.implementations[implementation].exporters(case.way.precision)
        found = [self._interpreters[name] for name in (case.way.framework, *exporters)]
        return result_key(
            case,
            implementation_hash(self._sources, self._catalog, implementation),
            interpreters=[one for one in found if isinstance(one, Interpreter)],
            rules=self._configuration.device_rules[case.place.device],
            conditions=self._conditions,
            task=self._catalog.workloads[case.work.workload].spec.task,
        )

    def _timed(self, cell: Cell, num_launches: int) -> Cell:
        case = cell.case
        spec = self._catalog.workloads[case.work.workload].spec
        rules = self._configuration.device_rules[case.place.device]
        estimate = self._estimator.launch(case, spec, rules)
        return dataclasses.replace(
            cell, estimate_s=num_launches * estimate.launch_s, estimate_basis=estimate.basis
        )

    def _had(self, cell: Cell, *, again: bool) -> Cell:
        done = self._history.cohorts(cell.result_key)
        runs = ", ".join(sorted({one.run_id for one in done}))
        reason = f"{len(done)} cohort{'s' * (len(done) != 1)} in {runs}"
        if again:
            reason += "; launched again as the base of other cases"
        return dataclasses.replace(cell, action="have", kind="have", reason=reason)
