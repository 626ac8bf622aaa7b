"""The architecture of the design page, held: layers point one way, each closure stays closed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.architecture import imports as architecture
from tests.architecture import patterns

CHECKS = {
    "layers": architecture.layer_violations,
    "rooms": architecture.room_violations,
    "circles": architecture.circle_violations,
    "frameworks": architecture.framework_violations,
    "relative": architecture.relative_violations,
    "worker": architecture.worker_violations,
    "python": architecture.python_violations,
    "purity": architecture.purity_violations,
    "kinds": patterns.kind_violations,
    "evidence": patterns.evidence_violations,
    "sentences": patterns.sentence_violations,
    "schemas": patterns.schema_violations,
}

PLANTED = [
    ("layers", "benchmarks/contract/case.py", "import benchmarks.planning.catalog"),
    ("layers", "benchmarks/storage/store.py", "from benchmarks.running import runner"),
    ("layers", "benchmarks/planning/planner.py", "def f():\n    from benchmarks import cli"),
    ("layers", "benchmarks/host/machine.py", "from benchmarks.worker import memory"),
    ("layers", "benchmarks/upstairs/attic.py", "import json"),
    ("rooms", "benchmarks/host/nvidia.py", "from benchmarks.worker.fence import FenceReport"),
    ("rooms", "benchmarks/host/compiler.py", "def f():\n    import benchmarks.frameworks.jax"),
    ("rooms", "benchmarks/documents/run.py", "from benchmarks.commands import run"),
    ("circles", "benchmarks/host/cgroup.py", "from benchmarks.host.machine import fingerprint"),
    (
        "circles",
        "benchmarks/contract/case.py",
        "def f():\n    from benchmarks.contract import plan",
    ),
    ("frameworks", "benchmarks/running/runner.py", "import torch"),
    ("frameworks", "benchmarks/frameworks/jax/__init__.py", "import jax.numpy as jnp"),
    ("frameworks", "workloads/resnet50/training_spec.py", "from flax import linen"),
    ("relative", "benchmarks/host/machine.py", "from ..worker import memory"),
    ("relative", "benchmarks/worker/fence.py", "def f():\n    from . import memory"),
    ("worker", "benchmarks/worker/main.py", "import hydra"),
    ("worker", "benchmarks/worker/timed_launch.py", "def f():\n    import pandas as pd"),
    ("worker", "benchmarks/equivalence/pairwise.py", "from scipy import stats"),
    ("worker", "workloads/resnet50/training_spec.py", "from omegaconf import OmegaConf"),
    ("worker", "benchmarks/worker/memory.py", "import pynvml"),
    ("worker", "benchmarks/worker/timing.py", "from benchmarks.statistics import intervals"),
    ("python", "benchmarks/contract/message.py", "@dataclass(kw_only=True)\nclass Planted: ..."),
    ("python", "workloads/resnet50/training_spec.py", "pairs = zip((), (), strict=True)"),
    ("python", "benchmarks/worker/fence.py", "match 1:\n    case _:\n        pass"),
    ("python", "benchmarks/worker/fence.py", "from datetime import UTC"),
    ("python", "benchmarks/worker/fence.py", "from itertools import pairwise"),
    ("python", "benchmarks/worker/fence.py", "import itertools\npairs = itertools.pairwise('ab')"),
    ("python", "workloads/resnet50/training_spec.py", "import tomllib"),
    ("purity", "benchmarks/statistics/ratios.py", "import pandas"),
    ("purity", "benchmarks/contract/record.py", "import psutil"),
    ("kinds", "benchmarks/planning/axes.py", "is_training = spec.requests is None"),
    ("kinds", "benchmarks/worker/main.py", "assert None is not requests"),
    ("kinds", "benchmarks/running/oracles.py", "follows = isinstance(spec.task, Training)"),
    ("kinds", "benchmarks/running/oracles.py", "follows = type(spec.task) is Training"),
    (
        "kinds",
        "benchmarks/running/oracles.py",
        "match spec.task:\n    case Training():\n        pass",
    ),
    ("kinds", "benchmarks/running/log.py", "from benchmarks.contract.task import Inference as I"),
    ("kinds", "benchmarks/planning/axes.py", "if not spec.requests:\n    pass"),
    ("kinds", "benchmarks/planning/axes.py", "kind = 'a' if spec.requests else 'b'"),
    ("evidence", "benchmarks/commands/ls.py", "verdict = body['evidence']['parity']"),
    ("evidence", "benchmarks/commands/ls.py", "verdict = body['evidence'].get('parity')"),
    ("evidence", "benchmarks/commands/ls.py", "verdict = asdict(record.evidence)['parity']"),
    ("evidence", "benchmarks/analysis/cells.py", "record.evidence['parity'] = None"),
    ("evidence", "benchmarks/worker/fence.py", "share = evidence.get('leftover_share')"),
    ("sentences", "benchmarks/planning/axes.py", "is_absent = str(cell.reason).startswith('no')"),
    ("sentences", "benchmarks/analysis/cells.py", "is_absent = 'device' in (cell.reason or '')"),
    ("sentences", "benchmarks/running/log.py", "found = re.match('out of memory', one.reason)"),
    ("sentences", "benchmarks/running/log.py", "match one.reason:\n    case _:\n        pass"),
    (
        "sentences",
        "benchmarks/planning/axes.py",
        "reason = cell.reason\nis_absent = reason.startswith('no')",
    ),
    (
        "sentences",
        "benchmarks/planning/axes.py",
        "def planted(cell):\n    if text := str(cell.reason):\n        return 'no' in text",
    ),
    ("sentences", "benchmarks/running/log.py", "is_slow = 'slow' in report.failure"),
    ("sentences", "benchmarks/running/log.py", "is_old = site.probe_failure.endswith('old')"),
    ("sentences", "benchmarks/worker/fence.py", "is_alike = cause != SAME_ANSWER"),
    ("schemas", "benchmarks/storage/store.py", "X = 'dyno.plan/1'"),
    ("schemas", "benchmarks/analysis/cells.py", "write('dyno.plan/1')"),
    ("schemas", "benchmarks/contract/plan.py", "OTHER = 'dyno.plan/1'"),
    ("schemas", "benchmarks/documents/run.py", "OTHER = 'dyno.run/1'"),
    ("schemas", "benchmarks/storage/store.py", "SCHEMA: str = 'dyno.run/1'"),
]


@pytest.mark.parametrize("check", CHECKS)
def test_the_tree_has_no_violation(check: str) -> None:
    assert CHECKS[check](architecture.sources()) == []


@pytest.mark.parametrize(("check", "path", "statement"), PLANTED)
def test_a_planted_fault_is_found(check: str, path: str, statement: str) -> None:
    modules = architecture.sources()
    before = set(CHECKS[check](modules))
    modules[path] = f"{modules.get(path, '')}\n{statement}\n"
    [violation] = set(CHECKS[check](modules)) - before
    assert violation.startswith(f"{path}:")


def test_a_circle_names_all_of_its_modules_and_no_others() -> None:
    circle = {
        "workloads/model/a.py": "from workloads.model import b",
        "workloads/model/b.py": "def f():\n    from workloads.model.c import forward",
        "workloads/model/c.py": "import workloads.model.a",
        "workloads/model/outside.py": "from workloads.model import a",
    }
    [found] = architecture.circle_violations(circle)
    members = "workloads/model/b.py, workloads/model/c.py"
    assert found == f"workloads/model/a.py: in a circle with {members}"
    circle["workloads/model/b.py"] = "if TYPE_CHECKING:\n    from workloads.model import c"
    assert architecture.circle_violations(circle) == []


def test_showing_a_sentence_or_asking_whether_there_is_one_is_no_logic() -> None:
    source = (
        "if cell.reason is None or not cell.reason:\n    show(f'{cell.reason}', why=cell.reason)"
    )
    assert patterns.sentence_violations({"benchmarks/presentation/notes.py": source}) == []


def test_the_parent_loads_no_framework() -> None:
    names = [
        path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in architecture.sources()
        if path.startswith("benchmarks/") and not architecture.may_import_framework(path)
    ]
    assert "benchmarks.commands.run" in names
    assert _loaded(names) & architecture.FRAMEWORKS == set()


def test_the_worker_loads_nothing_but_numpy() -> None:
    loaded = _loaded(["benchmarks.worker.main", "benchmarks.worker.canonical"])
    ours = {"benchmarks", "workloads", "numpy"}
    foreign = loaded - ours - set(sys.stdlib_module_names)
    assert {name for name in foreign if not name.startswith("_")} <= {"mypyc", "cython_runtime"}


def test_a_planted_load_is_seen() -> None:
    assert "pandas" in _loaded(["benchmarks.worker.main", "pandas"])


def _loaded(names: list[str]) -> set[str]:
    """Top-level packages in a fresh interpreter that has imported these modules."""
    script = (
        "import importlib, json, sys\n"
        "before = set(sys.modules)\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "new = set(sys.modules) - before\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in new})))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(result.stdout.splitlines()[-1]))
