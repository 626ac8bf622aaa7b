"""Every implementation computes the reference's step: same weights, same batch, on the CPU."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks.contract.case import Work
from benchmarks.contract.framework import Settings
from benchmarks.contract.workload import Arrays
from benchmarks.measuring import data
from tests.parity.comparison import LIMITS, failures, relative_error
from tests.parity.discovery import (
    DEVICE,
    PLAIN_CODE,
    PROJECT_ROOT,
    ParityCase,
    parity_cases,
    reference_module,
    uncovered,
)

TIME_LIMIT_S = 1200
SECOND_STEP_ERROR = 1e-6
"""In fp64, of all that is read after two steps: the first step's update multiplies errors."""


@dataclass(frozen=True)
class Oracle:
    """The reference's results for one Work, and the arrays that they follow from."""

    data_folder: Path
    initial: Arrays
    stable: frozenset[str]
    """Parameters whose gradients reduced precision leaves comparable."""
    first: Arrays
    second: Arrays
    """After a step on the first batch and one on the second."""
    repeated: Arrays
    """After two steps on the first batch."""


@dataclass(frozen=True)
class Run:
    """What one case read, beside its oracle."""

    parity_case: ParityCase
    oracle: Oracle
    first: Arrays
    second: Arrays
    again: Arrays

    def failures(self, read: Arrays) -> list[str]:
        """How a first step differs from the oracle's."""
        return failures(
            read,
            self.oracle.first,
            initial=self.oracle.initial,
            spec=self.parity_case.workload.spec,
            stable=self.oracle.stable,
            limits=LIMITS[self.parity_case.case.way.precision],
        )


@pytest.fixture(scope="module")
def oracles(tmp_path_factory):
    """A function from a case to its oracle, which is computed once for each Work."""
    known: dict[Work, Oracle] = {}

    def oracle(parity_case: ParityCase) -> Oracle:
        work = parity_case.case.work
        if work not in known:
            known[work] = _oracle(parity_case, tmp_path_factory.mktemp("oracle"))
        return known[work]

    return oracle


def _parameters() -> Iterator:
    for one in parity_cases():
        marks = [pytest.mark.slow] if one.is_slow else []
        yield pytest.param(one, id=one.case.case_id, marks=marks)


@pytest.fixture(scope="module", params=_parameters())
def run(request, oracles, tmp_path_factory) -> Run:
    """One case, run in a process of its own."""
    parity_case = request.param
    reason = parity_case.reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    oracle = oracles(parity_case)
    folder = tmp_path_factory.mktemp("case")
    _run_case(parity_case, oracle, folder)
    reads = {name: _load(folder / f"{name}.npz") for name in ("first", "second", "again")}
    return Run(parity_case, oracle, **reads)


def test_every_implementation_has_a_framework_and_a_reference():
    assert uncovered() == []


def test_first_step_agrees_with_the_reference(run):
    assert run.failures(run.first) == []


def test_every_value_is_finite_and_float32_or_wider(run):
    for name, array in {**run.first, **run.second}.items():
        assert array.dtype in (np.float32, np.float64), name
        assert np.isfinite(array).all(), name


def test_step_changes_every_parameter(run):
    names = [name for name in run.first if name.startswith("weights/")]
    initial = {name: run.oracle.initial[name.removeprefix("weights/")] for name in names}
    unchanged = [name for name in names if np.array_equal(run.first[name], initial[name])]
    assert names
    assert unchanged == []


def test_second_step_uses_the_second_batch(run):
    # In any precision, the layer next to the labels shows by its gradient whose labels they are.
    names = {f"optimizer/{name}" for name in run.oracle.stable}
    change = {name: run.second[name] - run.first[name] for name in names}
    to_second, to_first = (
        relative_error(change, {n: oracle[n] - run.oracle.first[n] for n in names}, names)
        for oracle in (run.oracle.second, run.oracle.repeated)
    )
    assert to_second < to_first


def test_second_step_continues_from_the_first(run):
    if run.parity_case.case.way.precision != "fp64":
        pytest.skip("only fp64 is exact enough to follow a second step")
    for group in ("loss", "weights", "optimizer", "statistics"):
        names = {name for name in run.oracle.second if name.split("/")[0] == group}
        error = relative_error(run.second, run.oracle.second, names)
        assert error <= SECOND_STEP_ERROR, group


def test_load_resets_everything(run):
    assert run.failures(run.again) == []


def _oracle(parity_case: ParityCase, folder: Path) -> Oracle:
    work = parity_case.case.work
    data.write(parity_case.workload.spec, work, folder / "data")
    _python(
        "tests.parity.reference_worker",
        reference_module(parity_case.workload),
        json.dumps(dataclasses.asdict(work)),
        str(folder / "data"),
        str(folder),
    )
    reads = {name: _load(folder / f"{name}.npz") for name in ("first", "second", "repeated")}
    stable = frozenset(json.loads((folder / "stable.json").read_text(encoding="utf-8")))
    return Oracle(folder / "data", data.read_weights(folder / "data"), stable, **reads)


def _run_case(parity_case: ParityCase, oracle: Oracle, folder: Path) -> None:
    settings = Settings(
        device=DEVICE,
        num_devices=1,
        execution=parity_case.case.way.execution,
        precision=parity_case.case.way.precision,
        num_threads=2,
        memory_fraction=1.0,
        cache_folder=str(folder / "cache"),
        scratch_folder=str(folder / "scratch"),
    )
    for name in ("cache", "scratch"):
        (folder / name).mkdir()
    request = {
        "case": parity_case.case.to_json(),
        "settings": dataclasses.asdict(settings),
        "framework_module": parity_case.framework.module,
        "implementation_module": parity_case.implementation.module,
        "spec_module": parity_case.workload.spec_module,
        "data_folder": str(oracle.data_folder),
        "folder": str(folder),
    }
    environment = parity_case.framework.environment(settings)
    _python("tests.parity.agreement_worker", json.dumps(request), environment=environment)


def _python(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
    search_path = os.pathsep.join([str(PROJECT_ROOT), str(PLAIN_CODE.parent)])
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": search_path, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def _load(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)
