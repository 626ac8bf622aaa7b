"""No planted fault is lost: those that the tests plant are those of the committed list."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.parity import parity_cli

FOLDER = Path(__file__).parent
FAULT = re.compile(r"::test_\w+\[([\w/]+)-(\w+)-(\w+)-(\w+)\]$", re.MULTILINE)
"""A test of a fault: its workload, framework, precision and name."""


def test_the_planted_faults_are_those_of_the_list():
    collected = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", ""),
            *(str(file) for file in FOLDER.glob("test_faults*.py")),
        ],
        cwd=parity_cli.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    planted = sorted({" ".join(fault) for fault in FAULT.findall(collected.stdout)})
    assert planted == (FOLDER / "planted_faults.txt").read_text().splitlines()
