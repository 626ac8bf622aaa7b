"""Runs an exporter in a process of its own, so that an engine's launch is the engine alone.

What a training framework takes of memory and threads would otherwise stay in the process that is
measured. Standard library only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def export(module: str, request: Mapping[str, Any], *, folder: str) -> None:
    """Run `python -m module FILE`, where FILE in this folder holds the request as JSON.

    RuntimeError with the exporter's last line where it fails; its output goes to our own.
    """
    file = Path(folder) / "export.json"
    file.write_text(json.dumps(request), encoding="utf-8")
    command = [sys.executable, "-m", module, str(file)]
    done = subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(done.stderr)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuntimeError(f"{module} could not export the model: {last}")
