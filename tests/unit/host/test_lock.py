import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.errors import EnvironmentNotReadyError
from benchmarks.host.cpu_time import process_start_ticks
from benchmarks.host.lock import LOCK_FILE, holder, machine_lock, shared_folder

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
        file = tmp_path / LOCK_FILE
        owner = json.loads(file.read_text())
    file.write_text(json.dumps({**owner, "start_ticks": owner["start_ticks"] + 1}))
    assert holder(tmp_path) is None
    file.write_text(json.dumps(owner))
    assert holder(tmp_path) is not None


def test_looking_for_a_holder_makes_nothing(tmp_path: Path) -> None:
    assert holder(tmp_path / "cache") is None
    assert not (tmp_path / "cache").exists()


def test_every_user_can_lock_the_file_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with machine_lock(tmp_path):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / LOCK_FILE).stat().st_mode) == 0o666


@pytest.mark.parametrize("kind", ["link", "second name", "pipe", "folder"])
def test_what_is_no_plain_file_is_refused_and_left_alone(kind: str, tmp_path: Path) -> None:
    precious, path = tmp_path / "precious", tmp_path / LOCK_FILE
    precious.write_text("kept")
    make = {
        "link": lambda: path.symlink_to(precious),
        "second name": lambda: path.hardlink_to(precious),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }
    make[kind]()
    with pytest.raises(EnvironmentNotReadyError, match="cannot be opened"), machine_lock(tmp_path):
        pass
    assert holder(tmp_path) is None
    assert precious.read_text() == "kept"


def test_a_holder_that_would_write_to_the_terminal_is_not_told(tmp_path: Path) -> None:
    owner = {"pid": os.getpid(), "start_ticks": process_start_ticks(os.getpid())}
    told_since = [
        ("noon", f"pid {os.getpid()}, since noon"),
        ("\x1b[2J", None),
        ("long" * 20, None),
    ]
    for since, told in told_since:
        (tmp_path / LOCK_FILE).write_text(json.dumps({**owner, "since": since}))
        assert holder(tmp_path) == told


FORGED = {"pid": os.getpid(), "start_ticks": process_start_ticks(os.getpid()), "since": "noon"}


@pytest.mark.parametrize(
    "forged",
    [
        *({**FORGED, "pid": pid} for pid in (10**30, 2**31, 0, -1, True, 1.0, "1", None)),
        *({"pid": pid, "since": "noon"} for pid in (0, -1, True, 2**31 - 1)),
        {**FORGED, "start_ticks": None if FORGED["start_ticks"] else 1},
        {**FORGED, "start_ticks": str(FORGED["start_ticks"])},
        {**FORGED, "since": 5},
        [FORGED],
    ],
)
def test_a_forged_holder_is_none(forged: object, tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text(json.dumps(FORGED))
    assert holder(tmp_path) is not None
    (tmp_path / LOCK_FILE).write_text(json.dumps(forged))
    assert holder(tmp_path) is None


@pytest.mark.parametrize("content", [b"[" * 1000, b"\xff", b"", b"9" * 999])
def test_a_file_that_is_no_holder_names_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_bytes(content)
    assert holder(tmp_path) is None


def test_looking_at_a_folder_in_the_files_place_keeps_no_file_open(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).mkdir()
    first = os.dup(0)  # the lowest free descriptor
    os.close(first)
    assert holder(tmp_path) is None
    again = os.dup(0)
    os.close(again)
    assert again == first


def test_the_hint_is_to_remove_only_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken" / LOCK_FILE).mkdir(parents=True)
    another = "choose another folder with machine.lock_folder"
    for name, message, hint in [
        ("file", "cannot be made: File exists", another),
        ("file/below", "cannot be made: Not a directory", another),
        ("taken", "cannot be opened: Is a directory", f"remove it, or {another}"),
    ]:
        with pytest.raises(EnvironmentNotReadyError) as refused, machine_lock(tmp_path / name):
            pass
        assert message in str(refused.value)
        assert refused.value.hint == hint


def test_the_machines_lock_is_one_for_every_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shared_folder()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    assert shared_folder() == before
    assert before.stat().st_mode & stat.S_IWOTH


def test_a_folder_that_only_some_users_can_write_to_is_not_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, all_users = tmp_path / "own", tmp_path / "all"
    own.mkdir(mode=0o755)
    all_users.mkdir()
    all_users.chmod(0o1777)
    monkeypatch.setattr("benchmarks.host.lock.SHARED_FOLDERS", (tmp_path / "no", own, all_users))
    assert shared_folder() == all_users
