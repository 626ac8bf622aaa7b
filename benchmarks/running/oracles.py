"""The oracle of a work: float64 results on the CPU on which two independent frameworks agree.

    <cache>/oracle/<content hash>/    the first holder's results (worker.oracle_files)
    <cache>/oracle/<key>.json         a work's content hash, its two holders and their differences

A folder is named by the hash of its content, which is checked before it is used. If the code of a
holder, or of the proofs, has changed since, the oracle is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.evidence import PASS
from benchmarks.contract.plan import Interpreter
from benchmarks.contract.units import in_gib
from benchmarks.planning.catalog import FrameworkEntry
from benchmarks.planning.sources import proving_hash
from benchmarks.running.preparation import data_folder
from benchmarks.running.prover import Proof, Prover
from benchmarks.storage.files import replace_whole

MAX_FLOP_PER_STEP = 2e11
"""No oracle is computed if a step, or a batch of requests with its prompt, takes more FLOP: in
float64 two cores need about 15 s for this, and two holders make a dozen such steps each."""
PRECISION = "fp64"
DEVICE = "cpu"
_COMPILING = {"eager": 0, "graph": 1, "compiled": 2}
"""By execution, how much is compiled before the first step."""


@dataclass(frozen=True)
class Known:
    """An oracle that is stored here."""

    folder: Path
    holders: tuple[str, ...]


@dataclass(frozen=True)
class _Kept:
    """The results of one candidate."""

    framework: str
    folder: Path


@dataclass
class Oracles:
    """Finds the oracle of each work, and has it computed if it is not stored."""

    prover: Prover
    note: Callable[[str], None]
    _found: dict[tuple[Work, bool], Known | str] = field(default_factory=dict)

    def find(self, work: Work, *, follows: bool) -> Known | str:
        """The oracle of this work, or why there is none; with `follows`, it includes ten steps.

        Raises ProofStoppedError if a stop is requested.
        """
        follows = follows and self.prover.catalog.workloads[work.workload].spec.task.is_followed
        key = (work, follows)
        if key not in self._found:
            self._found[key] = self._stored(work, follows) or self._computed(work, follows)
        return self._found[key]

    def _stored(self, work: Work, follows: bool) -> Known | None:
        for with_steps in dict.fromkeys((True, follows)):
            file = self._file(work, with_steps)
            if not file.is_file():
                continue
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                known = json.loads(file.read_text(encoding="utf-8"))
                if known.get("code") != self._code(work, known["holders"]):
                    continue
                folder = self._root / Path(known["identity"]).name
                if _holds(folder, known["identity"]):
                    return Known(folder, tuple(known["holders"]))
            self.note(f"the stored oracle of {_named(work)} is damaged: it is computed again")
        return None

    def _computed(self, work: Work, follows: bool) -> Known | str:
        reason = self._reason_against(work)
        if reason is not None:
            return reason
        cases = self._candidates(work)
        if len(cases) < 2:
            installed = ", ".join(case.way.framework for case in cases) or "none"
            each = " and batch statistics per replica" * (work.num_replicas > 1)
            return f"it needs two frameworks with float64 on the CPU{each}, installed: {installed}"
        names = ", ".join(case.way.framework for case in cases[:2])
        self.note(f"computing the float64 oracle of {_named(work)} with {names}")
        for left_over in self._root.glob("partial-*"):
            if not psutil.pid_exists(int(left_over.name.partition("-")[2])):
                shutil.rmtree(left_over, ignore_errors=True)
        partial = self._root / f"partial-{os.getpid()}"
        try:
            return self._agreeing(cases, partial, work, follows)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _agreeing(self, cases: list[Case], partial: Path, work: Work, follows: bool) -> Known | str:
        """The oracle of the first two candidates that agree; else, how each of them differs."""
        kept: list[_Kept] = []
        reasons: list[str] = []
        for case in cases:
            name = case.way.framework
            for other in kept:
                proof = self.prover.prove(case, oracle=other.folder, follows=follows, confirms=True)
                if proof.verdict.status == PASS:
                    return self._keep(work, follows, other, name, proof)
                reasons.append(f"{name} against {other.framework}: {proof.verdict.reason}")
                if proof.status != "ok":
                    break
            else:
                folder = partial / name
                folder.mkdir(parents=True)
                proof = self.prover.prove(case, keep=folder, follows=follows)
                if proof.status == "ok":
                    kept.append(_Kept(name, folder))
                else:
                    reasons.append(f"{name}: {proof.verdict.reason}")
        return f"no two frameworks agree in float64: {'; '.join(reasons)}"

    def _keep(self, work: Work, follows: bool, first: _Kept, second: str, proof: Proof) -> Known:
        identity = content_hash(first.folder)
        folder = self._root / identity
        if not _holds(folder, identity):
            shutil.rmtree(folder, ignore_errors=True)
            first.folder.rename(folder)
        errors = {one.name: one.error for one in proof.verdict.checks if one.error is not None}
        known = Known(folder, (first.framework, second))
        text = json.dumps(
            {
                "identity": identity,
                "work": asdict(work),
                "holders": known.holders,
                "versions": {name: self._versions(name) for name in known.holders},
                "code": self._code(work, known.holders),
                "errors": errors,
            },
            indent=1,
        )
        replace_whole(self._file(work, follows), text)
        return known

    def _versions(self, framework: str) -> dict[str, str]:
        found = self.prover.interpreter(framework)
        return found.versions if isinstance(found, Interpreter) else {}

    def _code(self, work: Work, holders: Iterable[str]) -> dict[str, str]:
        """The hashes of the holders' code and of ours; a holder that is gone has none."""
        present = self.prover.catalog.implementations
        own = {
            name: self.prover.code_hash(work.workload, name)
            for name in holders
            if (work.workload, name) in present
        }
        return {**own, "harness": proving_hash()}

    def _reason_against(self, work: Work) -> str | None:
        """Why the oracle of this work cannot be computed on this machine, or None."""
        spec = self.prover.catalog.workloads[work.workload].spec
        flop, unit = spec.task.oracle_step(spec.flop_per_step(work), work)
        if flop > MAX_FLOP_PER_STEP:
            return (
                f"its float64 oracle takes {flop:.1e} FLOP for each {unit},"
                f" at most {MAX_FLOP_PER_STEP:.0e} expected"
            )
        # Whichever two of the candidates come to hold it.
        frameworks = self.prover.catalog.frameworks
        needed = max(
            (
                spec.memory_bytes(case, frameworks[case.way.framework].capabilities)
                for case in self._candidates(work)
            ),
            default=0,
        )
        limit = self.prover.memory_limit_bytes
        if needed > limit:
            return f"its float64 oracle takes {in_gib(needed)}, the limit is {in_gib(limit)}"
        return None

    def _candidates(self, work: Work) -> list[Case]:
        """The cases that can hold the oracle, one for each installed framework.

        Those that compile least come first: they take least time.
        """
        return sorted(self._holding(work), key=lambda case: _COMPILING[case.way.execution])

    def _holding(self, work: Work) -> Iterator[Case]:
        catalog = self.prover.catalog
        spec = catalog.workloads[work.workload].spec
        options = tuple((one, spec.default_option(one, work.size)) for one in spec.way_options)
        if PRECISION not in spec.precisions:
            return
        for name, framework in catalog.frameworks.items():
            execution = _execution(framework, work.workload)
            entry = catalog.implementations.get((work.workload, name))
            if execution is None or entry is None:
                continue
            if entry.differs or (work.num_replicas > 1 and not entry.is_per_replica):
                continue
            if isinstance(self.prover.interpreter(name), Interpreter):
                yield Case(work, Way(name, execution, PRECISION, options), Place(DEVICE))

    @property
    def _root(self) -> Path:
        return self.prover.folders.cache / "oracle"

    def _file(self, work: Work, follows: bool) -> Path:
        """The file of a work's oracle, named by its arrays, which depend on the spec's source."""
        key = data_folder(self.prover.catalog, work, self.prover.folders).name
        return self._root / f"{key}{'-followed' if follows else ''}.json"


def _holds(folder: Path, identity: str) -> bool:
    """Whether the folder exists and its content has this hash."""
    return folder.is_dir() and content_hash(folder) == identity


def content_hash(folder: Path) -> str:
    """The hash of every file below a folder, with its relative path."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()[:32]


def _execution(framework: FrameworkEntry, workload: str) -> str | None:
    """The first execution in which a framework can hold the oracle; None if there is none."""
    own: Any = framework.capabilities
    if not own.holds_oracle or PRECISION not in own.precisions.get(DEVICE, ()):
        return None
    for execution in own.executions:
        gaps = (
            one.covers(workload=workload, device=DEVICE, execution=execution, precision=PRECISION)
            for one in own.unsupported
        )
        if not any(gaps) and (execution, DEVICE) not in own.needs_compiler:
            return str(execution)
    return None


def _named(work: Work) -> str:
    return f"{work.workload} {sized(work)} seed {work.seed}"


def sized(work: Work) -> str:
    """Size, batch size and options of a work, for people."""
    options = "".join(f" {name}={value}" for name, value in work.options)
    replicas = f" {work.num_replicas} replicas" * (work.num_replicas > 1)
    return f"{work.size} b{work.batch_size}{options}{replicas}"
