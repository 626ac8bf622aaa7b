"""The worker's side of many proofs in one process; see fault_process.py.

Run as `python -m tests.parity.one_process READ_FD WRITE_FD PARENT_PID`, as a worker is, in the
framework's own interpreter. It answers each ProofRequest as a worker of its own would.
"""

from __future__ import annotations

import gc
import importlib
import sys
import traceback

from benchmarks.contract.message import ProofRequest
from benchmarks.worker import process
from benchmarks.worker.channel import Channel
from benchmarks.worker.context import LaunchContext, LaunchFailedError
from benchmarks.worker.proof_launch import ProofSession


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
        assert isinstance(request, ProofRequest)
        prove(LaunchContext(request, channel))
        forget_programs()


def prove(context: LaunchContext) -> None:
    """Send the proof, or how it failed."""
    try:
        ProofSession(context).run()
    except LaunchFailedError as failure:
        context.channel.send(context.failed(failure.status, str(failure)))
    except Exception as error:  # noqa: BLE001 - a program with a fault may raise anything
        traceback.print_exc()
        context.channel.send(context.failed("crashed", repr(error)))


def forget_programs() -> None:
    """Forget every implementation, so that the next proof imports it without the last fault."""
    for name in [name for name in sys.modules if "workloads" in name.split(".")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    gc.collect()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
