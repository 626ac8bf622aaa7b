"""`dyno parity` as a user runs it, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLAIN_CODE = ROOT / "tests" / "overhead" / "straightforward"
TINY = ("workload=resnet50_train", "size=tiny", "batch_size=8", "device=cpu")
TIME_LIMIT_S = 3600


def cells_of(*arguments: str, cache: Path) -> list[dict[str, Any]]:
    """The cells of the document that `dyno parity` prints for these arguments."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.cli", "parity", *TINY, *arguments, "--json"),
            f"machine.cache_folder={cache}",
        ],
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
