"""The first thing that a worker does: prepare its own process. Standard library only."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def prepare(parent_pid: int) -> None:
    """Die with the parent, restore default signal handling, and print a stack after a crash.

    A launcher that ignores SIGTERM passes that on to its children; a benchmark must not inherit it.
    """
    faulthandler.enable()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the line above could matter
        os._exit(1)
