"""The supervisor of one worker process: its channel, its log, its signals and its end.

The parent blocks while it waits. A phase's time limit covers only that waiting, and the parent
waits only for a worker that runs: the time for which a worker is stopped does not count.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
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
"""Interval at which a waiting parent checks memory and requests to stop."""
TERM_GRACE_S = 5.0
STOP_TIMEOUT_S = 10.0
KILL_TIMEOUT_S = 10.0
"""Longest wait after SIGKILL, which a process that hangs in a driver outlives."""


class WorkerGoneError(Exception):
    """The worker ended without a last message, or sent something that is no message."""


class WorkerTimeoutError(Exception):
    """The worker did not answer within the time limit."""


@dataclass(frozen=True)
class Command:
    """How to start a worker."""

    mark: str
    """A unique name that every descendant has in its environment."""
    arguments: Sequence[str]
    """The interpreter and its arguments; the descriptors and our pid are appended."""
    environment: Mapping[str, str]
    folder: Path
    """The private working folder."""
    log: Path


class Worker:
    """A started worker process, the leader of its own session."""

    def __init__(self, command: Command, guard: Guard) -> None:
        self.mark = command.mark
        self._guard = guard
        self.was_stopped = False
        """Whether somebody else stopped and continued the worker between `resume` and `stop`."""
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
        """The worker's process id, which is also its group's."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Write a message; WorkerGoneError if the worker has closed its channel."""
        try:
            os.write(self._write_fd, encode(message))
        except BrokenPipeError as error:
            raise WorkerGoneError("the worker closed its channel") from error

    def receive(self, *, timeout_s: float, tick: Callable[[], None]) -> Message:
        """The worker's next message, waiting at most timeout_s and calling tick every second.

        Raises WorkerGoneError if the worker ends, and WorkerTimeoutError after timeout_s. An
        exception that tick raises passes through.
        """
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            remaining_s = deadline - time.monotonic()
            if self._fill(max(0.0, min(remaining_s, TICK_S))):
                continue  # even if it is late: we may have been stopped ourselves (Ctrl-Z)
            if remaining_s <= 0:
                raise WorkerTimeoutError(f"no answer within {timeout_s:g} s")
            tick()
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            return decode(line)
        except ValueError as error:
            raise WorkerGoneError(str(error)) from error

    def _fill(self, timeout_s: float) -> bool:
        """Read the bytes that are available; False if none arrived in time."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._read_fd, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                if self._process.poll() is not None:  # a stray child keeps the channel open
                    raise WorkerGoneError("the worker ended without a message")
                return False
        chunk = os.read(self._read_fd, 2**16)
        if not chunk:
            raise WorkerGoneError("the worker ended without a message")
        self._buffer += chunk
        if len(self._buffer) > MAX_MESSAGE_BYTES:
            raise WorkerGoneError(f"received a message of more than {MAX_MESSAGE_BYTES} bytes")
        return True

    def stop(self) -> None:
        """Stop the whole process tree, and return when each of its processes has stopped."""
        self.was_stopped = _was_continued(self.pid)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while running := [process for process in self.tree() if not _is_halted(process)]:
            if time.monotonic() > deadline:
                raise WorkerTimeoutError("the worker could not be stopped")
            for process in running:  # one by one: a child may have left the group
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            time.sleep(0.001)

    def resume(self) -> None:
        """Resume the whole process tree."""
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                process.resume()
        _was_continued(self.pid)  # our own resuming is no news

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
        """Make a hanging worker write its stacks to its log and die."""
        self.resume()
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGABRT)

    def end(self, *, grace_s: float) -> int | None:
        """Reap the whole process tree; the worker's exit code, None if it had to be killed.

        The exit code is negative after a signal. The worker gets grace_s to end by itself, then
        SIGTERM, then SIGKILL. Descendants that left its group are found by their mark.
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
        """Kill descendants that left the group, until none is left or time is up."""
        deadline = time.monotonic() + KILL_TIMEOUT_S
        while (strays := marked_processes({self.mark})) and time.monotonic() < deadline:
            for pid in strays:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def _was_continued(pid: int) -> bool:
    """Whether our child was stopped and continued since this was asked last.

    Its end is left to `Popen`. False if the system does not say (macOS).
    """
    if sys.platform != "linux":
        return False
    try:
        return os.waitid(os.P_PID, pid, os.WCONTINUED | os.WNOHANG) is not None
    except ChildProcessError:
        return False


def _is_halted(process: psutil.Process) -> bool:
    halted = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE)
    try:
        return process.status() in halted
    except psutil.NoSuchProcess:
        return True
