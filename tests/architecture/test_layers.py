"""The architecture of the design page, held: layers point one way, each closure stays closed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("imports", Path(__file__).with_name("imports.py"))
assert _spec is not None
assert _spec.loader is not None
architecture = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(architecture)

CHECKS = {
    "layers": architecture.layer_violations,
    "frameworks": architecture.framework_violations,
    "worker": architecture.worker_violations,
    "python": architecture.python_violations,
    "purity": architecture.purity_violations,
}

PLANTED = [
    ("layers", "benchmarks/contract/case.py", "import benchmarks.planning.catalog"),
    ("layers", "benchmarks/storage/store.py", "from benchmarks.running import runner"),
    ("layers", "benchmarks/planning/planner.py", "def f():\n    from benchmarks import cli"),
    ("frameworks", "benchmarks/running/runner.py", "import torch"),
    ("frameworks", "benchmarks/frameworks/jax/__init__.py", "import jax.numpy as jnp"),
    ("frameworks", "workloads/resnet50/training_spec.py", "from flax import linen"),
    ("worker", "benchmarks/worker/main.py", "import hydra"),
    ("worker", "benchmarks/worker/timed_launch.py", "def f():\n    import pandas as pd"),
    ("worker", "benchmarks/equivalence/pairwise.py", "from scipy import stats"),
    ("worker", "workloads/resnet50/training_spec.py", "from omegaconf import OmegaConf"),
    ("worker", "benchmarks/worker/timing.py", "from benchmarks.statistics import intervals"),
    ("python", "benchmarks/contract/message.py", "@dataclass(kw_only=True)\nclass Planted: ..."),
    ("python", "workloads/resnet50/training_spec.py", "pairs = zip((), (), strict=True)"),
    ("python", "benchmarks/worker/fence.py", "match 1:\n    case _:\n        pass"),
    ("purity", "benchmarks/statistics/ratios.py", "import pandas"),
    ("purity", "benchmarks/contract/record.py", "import psutil"),
]


@pytest.mark.parametrize("check", CHECKS)
def test_the_tree_has_no_violation(check: str) -> None:
    assert CHECKS[check](architecture.sources()) == []


@pytest.mark.parametrize(("check", "path", "statement"), PLANTED)
def test_a_planted_fault_is_found(check: str, path: str, statement: str) -> None:
    modules = architecture.sources()
    modules[path] = f"{modules.get(path, '')}\n{statement}\n"
    violations = CHECKS[check](modules)
    assert len(violations) == 1
    assert violations[0].startswith(f"{path}:")


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
