"""`dyno parity` and `dyno run` as a user runs them, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLAIN_CODE = ROOT / "tests" / "overhead" / "straightforward"
BATCH_SIZES = {
    "resnet50_train": 8,
    "resnet50_infer": 2,
    "transformer_finetune": 4,
    "transformer_lora": 4,
    "transformer_infer": 2,
}
"""Batch size of the tests' work, by workload; the size is tiny."""
TIME_LIMIT_S = 3600


def cells_of(
    *arguments: str, cache: Path, workload: str = "resnet50_train"
) -> list[dict[str, Any]]:
    """The cells of the document that `dyno parity` prints for these arguments."""
    return _cells("parity", *arguments, cache=cache, workload=workload)


def cells_of_run(*arguments: str, store: Path, cache: Path, workload: str) -> list[dict[str, Any]]:
    """The same of the shortest `dyno run`."""
    options = ("--store", str(store), "--fresh", "protocol=smoke")
    return _cells("run", *options, *arguments, cache=cache, workload=workload)


def overrides_of(*arguments: str, cache: Path, workload: str) -> tuple[str, ...]:
    """The overrides that choose the tests' work; one thread, since threads wait by spinning."""
    return (
        *(f"workload={workload}", "size=tiny", f"batch_size={BATCH_SIZES[workload]}"),
        *("device=cpu", *arguments, "machine.num_threads=1", f"machine.cache_folder={cache}"),
        f"machine.lock_folder={cache / 'lock'}",
    )


def _cells(command: str, *arguments: str, cache: Path, workload: str) -> list[dict[str, Any]]:
    overrides = overrides_of(*arguments, cache=cache, workload=workload)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cli", command, *overrides, "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    assert done.returncode in (0, 3, 5), done.stderr[-4000:]
    cells: list[dict[str, Any]] = json.loads(done.stdout)["cells"]
    return cells
