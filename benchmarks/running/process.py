"""The supervisor of one worker process: its channel, its log, its signals and its end.

The parent waits by blocking. A phase's time limit counts only while it waits, and it waits only
for a worker that runs: time spent stopped counts for nobody.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.contract.message import MAX_MESSAGE_BYTES, Message, decode, encode
from benchmarks.running.guard import Guard
from benchmarks.running.log import LogCapture
from benchmarks.running.watchdog import MARK_VARIABLE, marked_processes

TICK_S = 1.0
"""How often a waiting parent looks at memory and at requests to stop."""
TERM_GRACE_S = 5.0
STOP_TIMEOUT_S = 10.0
KILL_TIMEOUT_S = 10.0
"""A process that a driver holds in the kernel outlives SIGKILL: nobody waits for it for ever."""


class WorkerGoneError(Exception):
    """The worker ended, or sent something that is no message, without saying why."""


class WorkerTimeoutError(Exception):
    """The worker did not answer within the time limit."""


@dataclass(frozen=True)
class Command:
    """How to start a worker."""

    mark: str
    """Unique name; every descendant carries it in its environment."""
    arguments: Sequence[str]
    """The interpreter and its arguments, to which the descriptors and our pid are appended."""
    environment: Mapping[str, str]
    folder: Path
    """Private working folder."""
    log: Path


class Worker:
    """A started worker process, the leader of its own session."""

    def __init__(self, command: Command, guard: Guard) -> None:
        self.mark = command.mark
        self._guard = guard
        self._buffer = b""
        to_worker, self._write_fd = os.pipe()
        self._read_fd, from_worker = os.pipe()
        log_read, log_write = os.pipe()
        self._process = subprocess.Popen(
            [*command.arguments, str(to_worker), str(from_worker), str(os.getpid())],
            env={**command.environment, MARK_VARIABLE: command.mark},
            cwd=command.folder,
            stdin=subprocess.DEVNULL,
            stdout=log_write,
            stderr=log_write,
            pass_fds=(to_worker, from_worker),
            start_new_session=True,
        )
        for descriptor in (to_worker, from_worker, log_write):
            os.close(descriptor)
        guard.register(self.mark, self.pid)
        self._log = LogCapture(log_read, command.log)

    @property
    def pid(self) -> int:
        """The worker's process id, which is its group's as well."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Write a message; WorkerGoneError where nobody reads any more."""
        try:
            os.write(self._write_fd, encode(message))
        except BrokenPipeError as error:
            raise WorkerGoneError("the worker closed its channel") from error

    def receive(self, *, timeout_s: float, tick: Callable[[], None]) -> Message:
        """The worker's next message, waiting at most timeout_s and calling tick every second.

        Raises WorkerGoneError at the worker's end and WorkerTimeoutError at the limit; whatever
        tick raises passes through.
        """
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise WorkerTimeoutError(f"no answer within {timeout_s:g} s")
            if not self._fill(min(remaining_s, TICK_S)):
                tick()
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            return decode(line)
        except ValueError as error:
            raise WorkerGoneError(str(error)) from error

    def _fill(self, timeout_s: float) -> bool:
        """Read what there is to read; False where nothing came in time."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._read_fd, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                if self._process.poll() is not None:  # a stray child holds the channel open
                    raise WorkerGoneError("the worker ended without a word")
                return False
        chunk = os.read(self._read_fd, 2**16)
        if not chunk:
            raise WorkerGoneError("the worker ended without a word")
        self._buffer += chunk
        if len(self._buffer) > MAX_MESSAGE_BYTES:
            raise WorkerGoneError(f"a message of more than {MAX_MESSAGE_BYTES} bytes")
        return True

    def stop(self) -> None:
        """Stop the whole tree, and return once every process of it has stopped."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while running := [process for process in self.tree() if not _is_halted(process)]:
            if time.monotonic() > deadline:
                raise WorkerTimeoutError("the worker could not be stopped")
            for process in running:  # one by one: a child may have left the group
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            time.sleep(0.001)

    def resume(self) -> None:
        """Let the whole tree go on."""
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def tree(self) -> list[psutil.Process]:
        """The worker and its descendants that are alive."""
        try:
            worker = psutil.Process(self.pid)
            return [worker, *worker.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def resident_bytes(self) -> int:
        """Resident memory of the whole tree; shared pages count more than once."""
        total = 0
        for process in self.tree():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_info().rss
        return total

    def dump_stack(self) -> None:
        """Have a worker that hangs write its stacks to its log, and die of it."""
        self.resume()
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGABRT)

    def end(self, *, grace_s: float) -> int | None:
        """Reap the whole tree and return how the worker ended by itself, None if it was killed.

        The result is its exit code, negative for a signal. It gets grace_s to end by itself, then
        SIGTERM, then SIGKILL; descendants that left its group are found by their mark.
        """
        self.resume()
        returncode = self._wait(grace_s)
        if returncode is None:
            self._signal(signal.SIGTERM)
            if self._wait(TERM_GRACE_S) is None:
                self._signal(signal.SIGKILL)
                self._wait(KILL_TIMEOUT_S)
        self._signal(signal.SIGKILL)
        self._sweep()
        self._log.close(timeout_s=2.0)
        for descriptor in (self._read_fd, self._write_fd):
            os.close(descriptor)
        self._guard.release(self.mark)
        return returncode

    def _wait(self, timeout_s: float) -> int | None:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _sweep(self) -> None:
        """Kill descendants that left the group, until there is none or none that can be killed."""
        deadline = time.monotonic() + KILL_TIMEOUT_S
        while (strays := marked_processes({self.mark})) and time.monotonic() < deadline:
            for pid in strays:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def _is_halted(process: psutil.Process) -> bool:
    halted = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE)
    try:
        return process.status() in halted
    except psutil.NoSuchProcess:
        return True
