"""Every framework that there is meets one contract: found in the catalog, not listed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contract.framework import Settings
from benchmarks.planning.catalog import discover
from tests.conformance import adapter_checks

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = discover().frameworks
CHECKS = sorted(name for name in vars(adapter_checks) if name.startswith("check_"))
PRECISIONS = ("fp32", "bf16")


def settings_for(name: str, precision: str, folder: Path) -> Settings:
    return Settings(
        device="cpu",
        num_devices=1,
        execution=FRAMEWORKS[name].capabilities.executions[0],
        precision=precision,
        num_threads=1,
        memory_fraction=1.0,
        cache_folder=str(folder / "cache"),
        scratch_folder=str(folder / "scratch"),
    )


def is_there(name: str) -> bool:
    module = FRAMEWORKS[name].capabilities.import_name.partition(".")[0]
    return importlib.util.find_spec(module) is not None


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """A function from (framework, precision) to what each check of it came to."""
    known = {}

    def outcome(name: str, precision: str) -> dict[str, str | None]:
        if (name, precision) not in known:
            known[name, precision] = checked(name, precision, tmp_path_factory.mktemp(name))
        return known[name, precision]

    return outcome


def checked(name: str, precision: str, folder: Path) -> dict[str, str | None]:
    settings = settings_for(name, precision, folder)
    for path in (settings.cache_folder, settings.scratch_folder):
        Path(path).mkdir()
    entry = FRAMEWORKS[name]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.conformance.adapter_checks", entry.module),
            json.dumps(dataclasses.asdict(settings)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **entry.environment(settings)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_adapter_keeps_the_contract(name, precision, check, outcomes):
    if not is_there(name):
        pytest.skip(f"{name} is not installed")
    if precision not in FRAMEWORKS[name].capabilities.precisions["cpu"]:
        pytest.skip(f"{name} has no {precision} on the CPU")
    failure = outcomes(name, precision)[check]
    assert failure is None, failure


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_description_imports_no_framework_and_is_whole(name):
    own = FRAMEWORKS[name].capabilities
    assert own.executions
    assert "fp32" in own.precisions["cpu"]
    for gap in own.unsupported:
        assert gap.reason
        assert gap.link.startswith("https://")
    for platform in own.precisions:
        file = FRAMEWORKS[name].folder / f"requirements-{platform}.txt"
        assert file.exists() or own.precisions[platform] == (), f"no pins for {platform}"


def test_a_broken_adapter_does_not_pass(tmp_path):
    class Broken:
        """An adapter that hands out its own memory, and rounds."""

        def put(self, array):
            return array

        def get(self, value):
            return value

        def matmul(self, a, b):
            return (a.astype("float16") @ b.astype("float16")).astype("float32")

    settings = settings_for("pytorch", "fp32", tmp_path)
    for name in ("put_copies", "get_copies"):
        with pytest.raises(AssertionError):
            getattr(adapter_checks, f"check_{name}")(Broken(), settings)
    Broken.convolve = None
    with pytest.raises(AssertionError):
        adapter_checks.check_products_are_as_exact_as_their_name(Broken(), settings)
