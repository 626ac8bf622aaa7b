"""scripts/setup in a project of its own, with an interpreter that only notes what it is asked."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).resolve().parents[3] / "scripts" / "setup"

PYTHON = """#!/usr/bin/env bash
case "$1 ${2:-}" in
    "-m venv")
        mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/dyno"
        echo "version = 3.13.0" >"$3/pyvenv.cfg" ;;
    "-m pip")
        echo "$0 ${*:6}" >>pip.log
        if [ -e pip-fails ]; then echo "no such pin" >&2 && exit 1; fi ;;
    "prepare ")
        echo "$0" >>prepared.log && [ ! -e prepare-fails ] ;;
esac
"""


class Project:
    """A folder with scripts/setup, two frameworks and an interpreter on PATH."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.programs = root / "programs"
        (root / "scripts").mkdir()
        shutil.copy(SETUP, root / "scripts")
        (root / "pyproject.toml").write_text("[project]\n")
        for name, platforms in {"alpha": ("cpu", "cuda"), "beta": ("cpu",)}.items():
            folder = root / "benchmarks" / "frameworks" / name
            folder.mkdir(parents=True)
            (folder / "__init__.py").write_text("CAPABILITIES = None\n")
            for platform in platforms:
                (folder / f"requirements-{platform}.txt").write_text(f"{name}==1\n")
        self.add_program("python3.13", PYTHON)

    def add_program(self, name: str, text: str) -> None:
        self.programs.mkdir(exist_ok=True)
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.root / "scripts" / "setup", *arguments],
            cwd="/",
            env={"PATH": f"{self.programs}{os.pathsep}/usr/bin{os.pathsep}/bin"},
            capture_output=True,
            text=True,
            check=False,
        )

    def pip_calls(self) -> list[str]:
        """What pip was asked to install so far, each with its environment; then forgotten."""
        log = self.root / "pip.log"
        calls = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return calls


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


SHARED = (
    "-r benchmarks/frameworks/alpha/requirements-cpu.txt"
    " -r benchmarks/frameworks/beta/requirements-cpu.txt"
)


def test_on_cpu_everything_is_installed_in_one_call(project: Project) -> None:
    done = project.setup("--device", "cpu")
    assert (done.returncode, done.stdout) == (0, "")
    assert "3.5 GB" in done.stderr
    assert project.pip_calls() == [f".venv/bin/python -e . {SHARED}"]


def test_the_second_time_nothing_is_done_and_nothing_is_said(project: Project) -> None:
    project.setup("--device=cpu")
    project.pip_calls()
    done = project.setup()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert project.pip_calls() == []


@pytest.mark.parametrize(
    "changed", ["pyproject.toml", "benchmarks/frameworks/beta/requirements-cpu.txt"]
)
def test_a_changed_pin_is_installed(project: Project, changed: str) -> None:
    project.setup("--device=cpu")
    project.pip_calls()
    with (project.root / changed).open("a") as file:
        file.write("changed\n")
    assert project.setup().returncode == 0
    assert len(project.pip_calls()) == 1


def test_another_interpreter_is_installed_into(project: Project) -> None:
    project.setup("--device=cpu")
    project.pip_calls()
    (project.root / ".venv" / "pyvenv.cfg").write_text("version = 3.14.0\n")
    project.setup()
    assert len(project.pip_calls()) == 1


def test_dev_adds_its_packages_and_is_remembered(project: Project) -> None:
    project.setup("--device=cpu")
    project.pip_calls()
    project.setup("--dev")
    assert project.pip_calls() == [f".venv/bin/python -e .[dev] {SHARED}"]
    project.setup()
    assert project.pip_calls() == []


def test_on_cuda_each_framework_has_its_own_environment(project: Project) -> None:
    done = project.setup("--device", "cuda")
    assert project.pip_calls() == [
        ".venv/bin/python -e .",
        ".envs/alpha/bin/python numpy -r benchmarks/frameworks/alpha/requirements-cuda.txt",
    ]
    assert "beta: no packages for cuda, left out" in done.stderr
    project.setup()
    assert project.pip_calls() == []


def test_once_installed_it_prepares_the_quick_suite(project: Project) -> None:
    prepared = project.root / "prepared.log"
    assert "Preparing" in project.setup("--device=cpu").stderr
    project.setup()
    assert prepared.read_text() == ".venv/bin/dyno\n"


@pytest.mark.parametrize("option", ["--dev", "--no-prepare"])
def test_it_prepares_nothing_for_tests_or_if_told(project: Project, option: str) -> None:
    assert project.setup("--device=cpu", option).returncode == 0
    assert not (project.root / "prepared.log").exists()


def test_what_cannot_be_prepared_is_left_to_the_run(project: Project) -> None:
    (project.root / "prepare-fails").touch()
    done = project.setup("--device=cpu")
    assert done.returncode == 0
    assert "the first run makes what is missing" in done.stderr


def test_a_folder_that_frameworks_share_is_not_missed(project: Project) -> None:
    shared = project.root / "benchmarks" / "frameworks" / "shared"
    shared.mkdir()
    (shared / "__init__.py").write_text('FAMILY = "alpha and beta"\n')
    assert "shared" not in project.setup("--device", "cpu").stderr


def test_the_device_is_remembered(project: Project) -> None:
    project.setup("--device", "cuda")
    project.pip_calls()
    project.setup("--dev")
    assert project.pip_calls()[1].startswith(".envs/alpha/bin/python")


def test_a_failed_installation_shows_why_and_is_tried_again(project: Project) -> None:
    (project.root / "pip-fails").touch()
    done = project.setup("--device=cpu")
    assert done.returncode == 6
    assert "no such pin" in done.stderr
    assert "Installed" not in done.stderr
    (project.root / "pip-fails").unlink()
    project.pip_calls()
    assert project.setup("--device=cpu").returncode == 0
    assert len(project.pip_calls()) == 1


def test_without_a_recent_python_it_says_which_were_looked_for(project: Project) -> None:
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        project.add_program(name, "#!/bin/sh\nexit 1\n")
    done = project.setup("--device=cpu")
    assert done.returncode == 6
    assert "needs Python 3.11 or later; looked for python3.13" in done.stderr
    assert done.stderr.count("scripts/setup:") == 1


@pytest.mark.parametrize("arguments", [("--device",), ("--device", "abacus"), ("--all",)])
def test_refuses_what_it_does_not_know(project: Project, arguments: tuple[str, ...]) -> None:
    done = project.setup(*arguments)
    assert done.returncode == 2
    assert project.pip_calls() == []
