import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.errors import EnvironmentNotReadyError
from benchmarks.host.lock import holder, machine_lock

HOLDER = """
import sys
from pathlib import Path
from benchmarks.host.lock import machine_lock

with machine_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_run(tmp_path: Path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_run_is_refused_and_told_who_measures(tmp_path: Path, other_run) -> None:
    expected = rf"another dyno run \(pid {other_run.pid}, since 2.* UTC\) is measuring"
    with pytest.raises(EnvironmentNotReadyError, match=expected), machine_lock(tmp_path):
        pass
    assert holder(tmp_path).startswith(f"pid {other_run.pid}, since ")


def test_a_killed_run_holds_nothing(tmp_path: Path, other_run) -> None:
    other_run.kill()
    other_run.wait()
    assert holder(tmp_path) is None
    with machine_lock(tmp_path):
        assert holder(tmp_path).startswith(f"pid {os.getpid()}")


def test_nobody_holds_it_afterwards_and_it_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with machine_lock(tmp_path):
            assert holder(tmp_path) is not None
        assert holder(tmp_path) is None


def test_an_error_inside_releases_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError), machine_lock(tmp_path):
        raise KeyError
    assert holder(tmp_path) is None


def test_a_process_with_the_same_number_is_not_the_holder(tmp_path: Path) -> None:
    with machine_lock(tmp_path):
        file = tmp_path / "locks" / "machine.lock"
        owner = json.loads(file.read_text())
    file.write_text(json.dumps({**owner, "start_ticks": owner["start_ticks"] + 1}))
    assert holder(tmp_path) is None
    file.write_text(json.dumps(owner))
    assert holder(tmp_path) is not None


def test_looking_for_a_holder_makes_nothing(tmp_path: Path) -> None:
    assert holder(tmp_path / "cache") is None
    assert not (tmp_path / "cache").exists()
