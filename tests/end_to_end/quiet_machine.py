"""`dyno` on a machine that runs nothing else: its counters say so, whatever the real ones would.

The fakes' clocks are their own, so that a run's numbers are exact; whether its rounds count must
not depend on the real machine's load either. What other load does to a result is tested where it is
decided: tests/unit/host/test_disturbance.py and tests/unit/analysis.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any
from unittest import mock

from benchmarks import cli
from benchmarks.host import cpu_time, disturbance, machine

COUNTERS: tuple[tuple[Any, str, Any], ...] = (
    (cpu_time, "busy_ns", 0),
    (disturbance, "_have_all_cpus", False),
    (cpu_time, "num_pages_swapped_in", 0),
    (machine, "cgroup_throttled_ns", 0),
)
"""What a run reads of the load of others."""


def main() -> int:
    """Run the command with counters that stand still."""
    with ExitStack() as stack:
        for module, name, value in COUNTERS:
            stack.enter_context(mock.patch.object(module, name, return_value=value))
        return cli.main()


if __name__ == "__main__":
    sys.exit(main())
