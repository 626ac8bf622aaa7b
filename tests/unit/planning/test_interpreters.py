"""Frameworks on disk that a probe really imports, in the interpreter that runs the tests."""

import sys
import venv
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest

from benchmarks.contract.framework import Capabilities
from benchmarks.contract.plan import Interpreter, MachineConfig
from benchmarks.planning import interpreters, probes

PACKAGE = """
from benchmarks.contract.framework import Capabilities

CAPABILITIES = Capabilities(
    name="lab", import_name="numpy", distributions=("numpy",), executions=("eager",),
    precisions={"cpu": ("fp32",)}, asynchronous_devices=(), out_of_memory_patterns=(),
)
"""
ADAPTER = """
class Adapter:
    def devices(self):
        return {"cpu": 1}
"""


class Lab:
    """A project's root with one framework, `lab`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = root / "extension" / "frameworks" / "lab"
        self.package.mkdir(parents=True)
        self.implement(ADAPTER)
        (self.package / "__init__.py").write_text(PACKAGE)

    def implement(self, adapter: str) -> None:
        (self.package / "adapter.py").write_text(adapter)

    def resolve(self, import_name: str = "numpy", **options: object) -> Interpreter | str:
        capabilities = Capabilities(
            name="lab",
            import_name=import_name,
            distributions=("lab-distribution",),
            executions=("eager",),
            precisions={"cpu": ("fp32",)},
            asynchronous_devices=(),
            out_of_memory_patterns=(),
        )
        entry = SimpleNamespace(
            name="lab",
            module="extension.frameworks.lab",
            folder=self.package,
            capabilities=capabilities,
        )
        catalog = SimpleNamespace(frameworks={"lab": entry}, python_path=(str(self.root),))
        config = MachineConfig(python=options.pop("python", {}))
        found = interpreters.resolve(catalog, config, ["lab"], root=self.root, **options)
        assert list(found) == ["lab"]
        return found["lab"]

    def kept(self) -> list[Path]:
        return list((self.root / ".dyno" / "probes").glob("*"))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def empty_environment(folder: Path) -> str:
    venv.create(folder, with_pip=False, symlinks=True)
    return str(folder / "bin" / "python")


def test_a_framework_says_its_versions_and_devices(lab: Lab) -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    assert lab.resolve() == Interpreter(
        python=sys.executable,
        versions={"python": python, "numpy": numpy.__version__},
        devices={"cpu": 1},
    )


def test_a_second_look_starts_no_process(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lab.resolve()
    monkeypatch.setattr(probes, "probe", lambda _: "probed again")
    assert lab.resolve() == first


def test_a_changed_adapter_is_probed_again(lab: Lab) -> None:
    lab.resolve()
    lab.implement(ADAPTER.replace('"cpu": 1', '"cpu": 1, "cuda": 8'))
    assert lab.resolve().devices == {"cpu": 1, "cuda": 8}


def test_hidden_devices_are_probed_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.resolve()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(probes, "probe", lambda _: "probed again")
    found = lab.resolve()
    assert isinstance(found, Interpreter)
    assert found.probe_failure == "probed again"


def test_keeps_nothing_where_told_so(lab: Lab) -> None:
    assert isinstance(lab.resolve(keep=False), Interpreter)
    assert not (lab.root / ".dyno").exists()


def test_a_damaged_cache_file_is_probed_again(lab: Lab) -> None:
    first = lab.resolve()
    (kept,) = lab.kept()
    kept.write_text("{")
    assert lab.resolve() == first


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        (
            "raise ImportError('libcudart.so.13 \\x1b[31mis missing')",
            "import died: ImportError: libcudart.so.13 [31mis missing",
        ),
        ("import os\nos.kill(os.getpid(), 11)", "import died: SIGSEGV"),
        ("import sys\nsys.exit(3)", "import died: exit code 3"),
        ("import os\nos._exit(0)", "the probe left no answer: FileNotFoundError"),
    ],
)
def test_a_dying_import_is_told_and_not_kept(lab: Lab, adapter: str, reason: str) -> None:
    lab.implement(adapter)
    found = lab.resolve()
    assert isinstance(found, Interpreter)
    assert (found.versions, found.devices) == ({}, {})
    assert str(found.probe_failure).startswith(reason)
    assert lab.kept() == []


def test_a_hanging_import_is_ended(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PROBE_TIMEOUT_S", 0.5)
    lab.implement("import threading\nthreading.Event().wait()")
    found = lab.resolve()
    assert isinstance(found, Interpreter)
    assert found.probe_failure == "import did not end within 0.5 s"


def test_what_is_not_installed_says_how_to_install_it(lab: Lab) -> None:
    found = lab.resolve("no_such_module")
    assert found == (
        f"no_such_module is not installed for {sys.executable}; install lab-distribution there"
    )
    for platform in ("cuda", "cpu"):
        (lab.package / f"requirements-{platform}.txt").touch()
    assert lab.resolve("no_such_module.core").endswith("; scripts/setup installs it on cpu, cuda")


def test_a_framework_s_own_environment_comes_before_ours(lab: Lab) -> None:
    empty_environment(lab.root / ".envs" / "lab")
    found = lab.resolve()
    assert isinstance(found, str)
    assert found.startswith("numpy is not installed for .envs/lab/bin/python; ")


def test_the_user_s_interpreter_comes_first(lab: Lab) -> None:
    empty_environment(lab.root / ".envs" / "lab")
    assert lab.resolve(python={"lab": sys.executable}).python == sys.executable
    python = empty_environment(lab.root / "own")
    assert lab.resolve(python={"lab": "own/bin/python"}).startswith(
        "numpy is not installed for own/bin/python"
    )
    (package,) = Path(python).parent.parent.glob("lib/python3*/site-packages")
    (package / "numpy").mkdir()
    assert lab.resolve(python={"lab": python}).python == python


def test_an_interpreter_that_is_not_there_is_named(lab: Lab) -> None:
    assert lab.resolve(python={"lab": "/no/such/python"}) == (
        "machine.python.lab=/no/such/python: expected the path of a Python interpreter"
    )


def test_a_probe_sees_no_token(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary")
    lab.implement("import os\nassert 'canary' not in str(os.environ)\n" + ADAPTER)
    assert isinstance(lab.resolve(), Interpreter)
