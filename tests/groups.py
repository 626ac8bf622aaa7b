"""Which tests belong into one process: they share what is costly to make."""

from __future__ import annotations

import re


def group_of(nodeid: str) -> str:
    """The workload of a test of parity, whose tests share its oracle; the module of any other."""
    module, _, test = nodeid.partition("::")
    if module.startswith("tests/parity/"):
        parameters = re.split(r"[-/\[\]]", test)[1:]
        workloads = [one for one in parameters if one.startswith(("resnet50_", "transformer_"))]
        return workloads[0] if workloads else "parity"
    return module
