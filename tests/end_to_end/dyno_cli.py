"""`dyno` as a user runs it: a process of its own, with a store of its own, on a quiet machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes import extension as fakes
from tests.schemas import validated

ROOT = Path(__file__).resolve().parents[2]
DYNO = (sys.executable, "-m", "tests.end_to_end.quiet_machine")
FAKE_MATRIX = ("workload=fake_train", "size=tiny", "batch_size=2")
LIMIT_S = 60.0
TIMEOUT_S = 250.0
FAKE_AXES = (*FAKE_MATRIX, "execution=eager", "precision=fp32", "device=cpu")


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout, which its schema allows."""
        return validated(json.loads(self.out))


def command(*arguments: str, store: Path, extension: Path | None = None) -> list[str]:
    """The command line of one dyno command on a private store, with the fakes."""
    return [
        *(*DYNO, *arguments),
        *("--extend", str(extension or fakes.extension())),
        *("--store", str(store), *_own_folders(arguments, store.parent / "cache")),
    ]


def dyno(*arguments: str, store: Path, extension: Path | None = None) -> Outcome:
    """Run a command to its end."""
    return _outcome(command(*arguments, store=store, extension=extension), store.parent)


def prove(*arguments: str, cache: Path) -> Outcome:
    """`dyno parity` on the CPU, with a cache folder and a lock of its own."""
    own = ("--extend", str(fakes.extension()), *_own_folders(("parity",), cache))
    return _outcome([*DYNO, "parity", *arguments, *own], cache.parent)


def _own_folders(arguments: Sequence[str], cache: Path) -> list[str]:
    """A cache folder and a lock: other tests run at the same time."""
    if arguments[0] not in ("run", "plan", "parity", "prepare"):
        return []
    given = {argument.partition("=")[0] for argument in arguments}
    own = {"machine.cache_folder": cache, "machine.lock_folder": cache / "lock"}
    return [f"{key}={folder}" for key, folder in own.items() if key not in given]


def _outcome(words: Sequence[str], folder: Path) -> Outcome:
    result = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=folder,
        env=environment(),
        check=False,
    )
    return Outcome(result.returncode, result.stdout, result.stderr)


def environment() -> dict[str, str]:
    """Our environment, with a canary that must never reach a worker."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "API_TOKEN": "canary-4711"}


def marked_processes(mark: str = "") -> list[int]:
    """Processes that a run of ours started and that are still there, zombies included."""
    return [pid for pid, launch in _marks() if launch.startswith(mark)]


def launches_alive(mark: str) -> set[str]:
    """The launches that have a process at this moment."""
    return {launch for _, launch in _marks() if launch.startswith(mark)}


def start(*arguments: str, store: Path, extension: Path | None = None) -> subprocess.Popen[bytes]:
    """A command in the background."""
    return subprocess.Popen(
        command(*arguments, store=store, extension=extension),
        cwd=store.parent,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for(condition: Any, what: str) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT_S:g} s for {what}"
        time.sleep(0.05)


def _marks() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        for variable in variables:
            name, _, value = variable.decode(errors="replace").partition("=")
            if name == "DYNO_LAUNCH":
                yield int(folder.name), value
