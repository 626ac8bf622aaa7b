"""The worker process: one launch of one case, from import to the last block.

Run as `python -m benchmarks.worker.main READ_FD WRITE_FD PARENT_PID` by the parent, in the
framework's own interpreter. It imports the standard library, NumPy, the errors, contract,
equivalence and worker packages, one framework's adapter and one workload; never Hydra, pandas
or SciPy. Python 3.9 or later.
"""

from __future__ import annotations

import os
import re
import sys
import traceback

from benchmarks.contract.device import is_host
from benchmarks.contract.framework import Capabilities
from benchmarks.contract.message import Failed, LaunchRequest, ProofRequest
from benchmarks.worker import process
from benchmarks.worker.channel import Channel
from benchmarks.worker.context import LaunchContext, LaunchFailedError
from benchmarks.worker.proof_launch import ProofSession
from benchmarks.worker.timed_launch import Session


def main(arguments: list[str]) -> int:
    """Run the launch that the parent sends; one last message reports its success or failure."""
    read_fd, write_fd, parent_pid = (int(argument) for argument in arguments)
    process.prepare(parent_pid)
    channel = Channel(read_fd, write_fd)
    launch = channel.receive()
    assert isinstance(launch, (LaunchRequest, ProofRequest))
    context = LaunchContext(launch, channel)
    session = Session(context) if isinstance(launch, LaunchRequest) else ProofSession(context)
    try:
        session.run()
    except LaunchFailedError as failure:
        channel.send(context.failed(failure.status, str(failure)))
    except BaseException as error:  # noqa: BLE001 - sys.exit in a framework is a result as well
        traceback.print_exc()
        channel.send(_unexpected(context, error))
    return 0


def _unexpected(context: LaunchContext, error: BaseException) -> Failed:
    told = traceback.TracebackException(type(error), error, None)
    told.__notes__ = None  # JAX adds notes to every error, which would hide the last line
    line = " ".join(list(told.format_exception_only())[-1].split())[:500]
    if isinstance(error, SystemExit):
        line = f"the framework called sys.exit({error.code!r})"
    return context.failed(_status_of(error, line, context), line)


def _status_of(error: BaseException, line: str, context: LaunchContext) -> str:
    if isinstance(error, MemoryError):
        return "oom_host"
    capabilities: Capabilities | None = context.capabilities
    patterns = capabilities.out_of_memory_patterns if capabilities else ()
    if any(re.search(pattern, line) for pattern in patterns):
        return "oom_host" if is_host(context.launch.settings.device) else "oom_device"
    return "crashed"


if __name__ == "__main__":
    code = main(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)  # everything is reported: frameworks take long to tear down what ends anyway
