import json
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from benchmarks.worker import probe

PACKAGE = """
from benchmarks.contract.framework import Capabilities

CAPABILITIES = Capabilities(
    name="lab", import_name="numpy", distributions=("numpy", "no-such-distribution"),
    exporter_distributions=("pytest",),
    executions=("eager",), precisions={"cpu": ("fp32",)}, asynchronous_devices=(),
    out_of_memory_patterns=(),
)
"""
ADAPTER = """
print("a framework's greeting on stdout")

class Adapter:
    def devices(self):
        return {"cpu": 1, "cuda": 2}
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "probed_lab_framework"
    folder.mkdir()
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "adapter.py").write_text(ADAPTER)
    return folder


def test_says_versions_and_devices_in_a_file_whatever_the_framework_prints(package: Path) -> None:
    output = package / "answer.json"
    command = [sys.executable, "-m", probe.__name__, package.name, "--output", str(output)]
    done = subprocess.run(command, cwd=package.parent, capture_output=True, text=True, check=True)
    assert "greeting" in done.stdout
    assert json.loads(output.read_text()) == {
        "python": ".".join(map(str, sys.version_info[:3])),
        "versions": {"numpy": numpy.__version__},
        "exporter_versions": {"pytest": pytest.__version__},
        "devices": {"cpu": 1, "cuda": 2},
    }


def test_an_import_that_fails_leaves_no_answer(package: Path) -> None:
    (package / "adapter.py").write_text("raise ImportError('libcudart.so.13 is missing')")
    output = package / "answer.json"
    command = [sys.executable, "-m", probe.__name__, package.name, "--output", str(output)]
    done = subprocess.run(command, cwd=package.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ImportError: libcudart.so.13 is missing"
    assert not output.exists()
