"""The worker's side of many proofs in one process; see fault_process.py.

Run as `python -m tests.parity.one_process READ_FD WRITE_FD PARENT_PID`, as a worker is, in the
framework's own interpreter. It answers each request as a worker of its own would, except that the
fence is tested on no matmuls: what is planted has the framework's own; and for a planted fault the
machine counts as quiet, since otherwise what durations tell would be put down to the other tests.
"""

from __future__ import annotations

import gc
import importlib
import sys
import traceback

from benchmarks.contract.message import LaunchRequest, ProofRequest
from benchmarks.worker import other_load, process
from benchmarks.worker.channel import Channel
from benchmarks.worker.context import LaunchContext, LaunchFailedError
from benchmarks.worker.proof_launch import ProofSession
from benchmarks.worker.timed_launch import Session

BUSY_S = other_load._busy_s


def no_load(cpus: frozenset[int]) -> float:
    """The reading of a counter that stands still."""
    del cpus
    return 0.0


def main(arguments: list[str]) -> int:
    """Prove what the parent asks for until it closes the channel."""
    read_fd, write_fd, parent_pid = (int(argument) for argument in arguments)
    process.prepare(parent_pid)
    channel = Channel(read_fd, write_fd)
    while True:
        try:
            request = channel.receive()
        except EOFError:
            return 0
        assert isinstance(request, (ProofRequest, LaunchRequest))
        answer(LaunchContext(request, channel))
        forget_programs()


def answer(context: LaunchContext) -> None:
    """Send the proof, or go through the launch; or send how it failed."""
    is_planted = context.launch.implementation_module.endswith("_impl")
    other_load._busy_s = no_load if is_planted else BUSY_S
    is_launch = isinstance(context.launch, LaunchRequest)
    session = Untested(context) if is_launch else ProofSession(context)
    try:
        session.run()
    except LaunchFailedError as failure:
        context.channel.send(context.failed(failure.status, str(failure)))
    except Exception as error:  # noqa: BLE001 - a program with a fault may raise anything
        traceback.print_exc()
        context.channel.send(context.failed("crashed", repr(error)))


class Untested(Session):
    """A launch whose fence is not tested on matmuls."""

    def _test_framework(self) -> float:
        return 1e-6


def forget_programs() -> None:
    """Forget every implementation, so that the next proof imports it without the last fault."""
    later = sys.modules.get("tests.parity.planted_later")
    while later is not None and later.UNDO:
        later.UNDO.pop()()
    gc.unfreeze()
    for name in [name for name in sys.modules if "workloads" in name.split(".")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    gc.collect()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
