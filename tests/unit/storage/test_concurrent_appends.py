"""Processes that append at the same time, and processes that are killed while they append."""

import subprocess
import sys
from pathlib import Path

from benchmarks.storage import frames

APPENDER = """
import sys
from pathlib import Path
from benchmarks.storage import frames

path, writer, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for index in range(count):
    frames.append(path, frames.encode({"writer": writer, "index": index, "fill": "x" * 20_000}))
    print(index, flush=True)
"""


def start(path: Path, writer: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPENDER, str(path), writer, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def stored(path: Path, writer: str) -> list[int]:
    bodies = [frame.body for frame in frames.read(path)]
    return [body["index"] for body in bodies if body["writer"] == writer]


def test_concurrent_appenders_lose_and_mix_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    writers = {name: start(path, name, 40) for name in "abc"}
    for process in writers.values():
        process.communicate()
        assert process.returncode == 0
    assert [stored(path, name) for name in writers] == [list(range(40))] * 3


def test_a_killed_appender_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for turn in range(20):
        process = start(path, f"turn{turn}", 10_000)
        assert process.stdout is not None
        acknowledged = [process.stdout.readline() for _ in range(1 + turn % 4)]
        process.kill()
        acknowledged += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        num_acknowledged = sum(line.endswith("\n") for line in acknowledged)
        indices = stored(path, f"turn{turn}")
        assert indices == list(range(len(indices)))
        assert len(indices) >= num_acknowledged > 0
