"""Runs an exporter in a process of its own, so that an engine's launch holds the engine alone.

A training framework's memory and threads would otherwise stay in the measured process. Standard
library and the contract only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contract.program import Exporter


def export(exporter: Exporter, request: Mapping[str, Any], *, folder: str) -> None:
    """Run `python -m module FILE`; FILE is in this folder and holds the request as JSON.

    RuntimeError with the exporter's last line if it fails; its output is passed through.
    """
    file = Path(folder) / "export.json"
    file.write_text(json.dumps(request), encoding="utf-8")
    command = [exporter.python, "-m", exporter.module, str(file)]
    done = subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(done.stderr)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuntimeError(f"{exporter.module} could not export the model: {last}")
