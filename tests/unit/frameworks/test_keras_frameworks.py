"""Keras on its backends, on the CPU: capabilities, environment, and the steps of a small model."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.planning.catalog import PROJECT_ROOT, discover
from tests.unit.frameworks import keras_training
from tests.unit.launch_settings import SETTINGS

BACKENDS = {
    "keras_tensorflow": ("tensorflow", "tensorflow"),
    "keras_jax": ("jax", "jax"),
    "keras_torch": ("torch", "pytorch"),
}
"""For each framework, Keras's name of its backend (also the backend's module), and Dyno's."""

WAYS = [
    ("keras_tensorflow", "eager", "fp32"),
    ("keras_tensorflow", "graph", "fp32"),
    ("keras_tensorflow", "compiled", "fp64"),
    ("keras_jax", "compiled", "fp32"),
    ("keras_jax", "compiled", "bf16"),
    ("keras_torch", "eager", "fp32"),
    ("keras_torch", "eager", "bf16_pure"),
]
DTYPES = {
    "fp32": ("float32", "float32", "float32"),
    "bf16": ("mixed_bfloat16", "float32", "bfloat16"),
    "bf16_pure": ("bfloat16", "bfloat16", "bfloat16"),
    "fp64": ("float64", "float64", "float64"),
}
"""The policy of each precision, with the dtypes of variables and of layers' outputs."""
TOLERANCES = {"fp32": 1e-5, "bf16": 2e-2, "bf16_pure": 2e-2, "fp64": 1e-12}
ROUNDED_INPUTS = 1e-5
"""Tolerance of the fitted line: Keras itself rounds the learning rate and penalty to float32."""
FUSED_ATTENTION = {
    "keras_tensorflow": None,
    "keras_jax": None,
    "keras_torch": "sdpa flash_attention",
}
"""The attention's kernel on a CPU."""

WITHOUT_BACKEND = """
import sys
sys.modules[sys.argv[2]] = None
import importlib
importlib.import_module(f"benchmarks.frameworks.{sys.argv[1]}.adapter")
"""
WITH_ANOTHER_BACKEND = """
from benchmarks.frameworks.keras import model
model.configure(backend="jax", precision="fp32")
"""


def package(framework):
    return importlib.import_module(f"benchmarks.frameworks.{framework}")


def skip_without(framework):
    for module in ("keras", BACKENDS[framework][0]):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def python(*arguments, environment=None):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


@dataclasses.dataclass(frozen=True)
class Trained:
    """One way of training the line, and what came of it."""

    framework: str
    execution: str
    precision: str
    result: dict
    home: Path
    scratch: Path


@pytest.fixture(scope="module", params=WAYS, ids="/".join)
def trained(request, tmp_path_factory):
    """The line, trained in a process of its own with a home of its own."""
    framework, execution, precision = request.param
    skip_without(framework)
    folders = {name: tmp_path_factory.mktemp(name) for name in ("cache", "scratch", "home")}
    settings = dataclasses.replace(
        SETTINGS,
        execution=execution,
        precision=precision,
        cache_folder=str(folders["cache"]),
        scratch_folder=str(folders["scratch"]),
    )
    done = python(
        "-m",
        keras_training.__name__,
        framework,
        json.dumps(dataclasses.asdict(settings)),
        environment={"HOME": str(folders["home"]), **package(framework).environment(settings)},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout.splitlines()[-1])
    return Trained(*request.param, result, folders["home"], folders["scratch"])


def expected():
    """The mean squared error of each step without the penalty, and the slope after the last."""
    x, y = keras_training.inputs(), keras_training.targets()
    slope, losses = 1.0, []
    for _ in range(keras_training.NUM_STEPS):
        errors = slope * x - y
        losses.append(float((errors**2).mean()))
        gradient = float((2 * errors * x).mean()) + 2 * keras_training.PENALTY * slope
        slope -= keras_training.LEARNING_RATE * gradient
    return losses, slope


def expected_by_adamw():
    """The table and its factor after the last step, with their moments, from the equations."""
    constants, rows, y = keras_training.ADAMW, keras_training.rows(), keras_training.targets()[:, 0]
    num_rows = keras_training.NUM_ROWS
    weights, m, v = np.ones(num_rows + 1), np.zeros(num_rows + 1), np.zeros(num_rows + 1)
    decay = np.array([*[constants["weight_decay"]] * num_rows, 0.0])
    rate, beta1, beta2 = (constants[name] for name in ("learning_rate", "beta1", "beta2"))
    for step in range(1, keras_training.NUM_STEPS + 1):
        table, factor = weights[:-1], weights[-1]
        errors = 2 * (table[rows] * factor - y) / len(y)
        by_row = np.bincount(rows, weights=errors * factor)
        gradient = np.array([*by_row, (errors * table[rows]).sum()])
        m, v = beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient**2
        root = np.sqrt(v / (1 - beta2**step)) + constants["epsilon"]
        weights = weights - rate * decay * weights - rate * m / (1 - beta1**step) / root
    return {"weights": weights, "moments": m, "second_moments": v}


@pytest.mark.parametrize("framework", ["keras", *BACKENDS])
def test_capabilities_import_no_framework(framework):
    code = f"import sys, benchmarks.frameworks.{framework} as _; print(*sys.modules)"
    loaded = set(python("-c", code).stdout.split())
    assert f"benchmarks.frameworks.{framework}" in loaded
    assert loaded.isdisjoint({"keras", "tensorflow", "jax", "torch"})


def test_the_family_is_no_framework_and_shares_its_implementation():
    catalog = discover()
    assert "keras" not in catalog.frameworks
    files = {catalog.implementations["resnet50_train", name].file for name in BACKENDS}
    assert [file.parts[-2:] for file in files] == [("keras", "training.py")]


@pytest.mark.parametrize("framework", BACKENDS)
def test_capabilities_are_the_backends_without_a_witness_for_the_oracle(framework):
    own, backend = (package(name).CAPABILITIES for name in (framework, BACKENDS[framework][1]))
    assert (own.family, own.import_name, own.distributions[0]) == ("keras", "keras", "keras")
    assert set(own.distributions[1:]) <= set(backend.distributions)
    assert set(own.executions) <= set(backend.executions)
    assert own.precisions.keys() == backend.precisions.keys()
    assert set(backend.unsupported) <= set(own.unsupported)
    assert not own.holds_oracle
    assert own.max_num_devices == 1


@pytest.mark.parametrize("framework", BACKENDS)
def test_whatever_is_left_out_of_the_backends_capabilities_has_a_reason(framework):
    own, backend = (package(name).CAPABILITIES for name in (framework, BACKENDS[framework][1]))
    lost = [
        ("cpu", execution, precision)
        for execution in backend.executions
        for precision in backend.precisions["cpu"]
        if execution not in own.executions or precision not in own.precisions["cpu"]
    ]
    for device, execution, precision in lost:
        assert any(
            gap.covers(workload="any", device=device, execution=execution, precision=precision)
            for gap in own.unsupported
        )
    assert ("fp64" in own.precisions["cpu"]) == (framework == "keras_tensorflow")


@pytest.mark.parametrize("framework", BACKENDS)
def test_environment_names_the_backend_and_a_private_home(framework):
    keras_name, backend = BACKENDS[framework]
    variables = package(framework).environment(SETTINGS)
    assert variables["KERAS_BACKEND"] == keras_name
    assert Path(SETTINGS.scratch_folder) in Path(variables["KERAS_HOME"]).parents
    assert variables.items() >= package(backend).environment(SETTINGS).items()


@pytest.mark.parametrize(("device", "name"), [("cpu", "cpu"), ("cuda", "cuda"), ("metal", "mps")])
def test_environment_tells_keras_which_of_torchs_devices_is_meant(device, name):
    variables = package("keras_torch").environment(dataclasses.replace(SETTINGS, device=device))
    assert variables["KERAS_TORCH_DEVICE"] == name


@pytest.mark.parametrize("framework", BACKENDS)
def test_packages_are_the_backends_and_one_version_of_keras(framework):
    folder = PROJECT_ROOT / "benchmarks" / "frameworks"
    backend = BACKENDS[framework][1]
    names = {file.name for file in (folder / framework).glob("requirements-*.txt")}
    assert names == {file.name for file in (folder / backend).glob("requirements-*.txt")}
    for name in names:
        lines = (folder / framework / name).read_text(encoding="utf-8").splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert pins == [f"-r ../{backend}/{name}", "keras==3.15.1"]


@pytest.mark.parametrize("framework", BACKENDS)
def test_says_that_the_backend_is_missing(framework):
    backend = BACKENDS[framework][0]
    *_, cause = python("-c", WITHOUT_BACKEND, framework, backend).stderr.splitlines()
    assert cause.startswith("ModuleNotFoundError")
    assert backend in cause


def test_refuses_to_compute_with_another_backend(tmp_path):
    skip_without("keras_torch")
    environment = {"KERAS_BACKEND": "numpy", "KERAS_HOME": str(tmp_path)}
    done = python("-c", WITH_ANOTHER_BACKEND, environment=environment)
    assert "RuntimeError: keras computes with numpy, expected jax" in done.stderr


def test_each_step_tells_its_own_loss_without_the_penalty(trained):
    losses, _ = expected()
    tolerance = max(TOLERANCES[trained.precision], ROUNDED_INPUTS)
    assert trained.result["losses"] == pytest.approx([*losses, losses[0]], rel=tolerance)


def test_gradients_are_those_of_the_loss_and_the_penalty(trained):
    _, slope = expected()
    tolerance = max(TOLERANCES[trained.precision], ROUNDED_INPUTS)
    assert trained.result["last_slope"] == pytest.approx(slope, rel=tolerance)


def test_adamw_is_that_of_the_equations_and_adds_up_a_rows_gradients(trained):
    for name, values in expected_by_adamw().items():
        found = trained.result["adamw"][name]
        largest = np.abs(values).max()
        assert found == pytest.approx(values, abs=TOLERANCES[trained.precision] * largest)


def test_fused_attention_is_that_of_the_backend_on_a_cpu(trained):
    assert trained.result["fused_attention"] == FUSED_ATTENTION[trained.framework]


def test_nothing_is_compiled_again_after_the_first_step_or_an_assignment(trained):
    first, *later = trained.result["compilations"]
    assert set(later) == {first}


def test_the_execution_and_the_precision_are_those_asked_for(trained):
    described, execution = trained.result["described"], trained.execution
    policy, variable, output = DTYPES[trained.precision]
    assert described["keras.backend"] == BACKENDS[trained.framework][0]
    assert described["keras.jit_compile"] == str(execution == "compiled")
    assert described["keras.run_eagerly"] == str(execution == "eager")
    assert described["keras.dtype_policy"] == policy
    assert (trained.result["kernel"], trained.result["output"]) == (variable, output)
    assert trained.result["examined"]["gradients"] == variable
    assert all(isinstance(value, str) for value in described.values())


def test_the_step_is_where_it_belongs_and_does_work(trained):
    assert trained.result["placement"] == "cpu"
    assert trained.result["examined"]["flop_per_step"] >= 4 * keras_training.NUM_SAMPLES


def test_keras_leaves_nothing_in_the_users_home(trained):
    assert not (trained.home / ".keras").exists()
    assert (trained.scratch / "keras").is_dir()
