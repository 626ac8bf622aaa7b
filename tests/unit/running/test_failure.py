"""A death is named by what killed it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.running.failure import num_oom_kills, of_death


@pytest.mark.parametrize(
    ("returncode", "num_kills", "status", "words"),
    [
        (-11, 0, "crashed", "SIGSEGV in phase import"),
        (-6, 0, "crashed", "SIGABRT"),
        (-9, 0, "killed", "from outside"),
        (-9, 1, "oom_host", "out of memory"),
        (0, 0, "crashed", "without a word (exit code 0)"),
        (3, 0, "crashed", "exit code 3"),
        (None, 0, "crashed", "had to be killed"),
        (-63, 0, "crashed", "signal 63"),
    ],
)
def test_status_and_reason(returncode: int | None, num_kills: int, status: str, words: str) -> None:
    failure = of_death(
        returncode, phase="import", word="ended without a word", num_oom_kills=num_kills
    )
    assert failure.status == status
    assert words in failure.reason
    assert failure.phase == "import"


def test_kills_for_memory_are_counted_where_the_system_tells(tmp_path: Path) -> None:
    assert num_oom_kills(tmp_path) == 0
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text("pgfault 12\noom_kill 3\n")
    assert num_oom_kills(tmp_path) == 3
