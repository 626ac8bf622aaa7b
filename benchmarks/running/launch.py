"""One launch as the parent drives it, phase by phase; it ends as exactly one record."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from benchmarks.contract.evidence import Evidence
from benchmarks.contract.message import (
    Begin,
    BlockDone,
    Failed,
    Finish,
    Finished,
    Imported,
    LaunchRequest,
    Message,
    Phase,
    ProofRequest,
    Proved,
    Ready,
    Turn,
)
from benchmarks.contract.record import Block
from benchmarks.running.accounting import wrong_count
from benchmarks.running.failure import Failure, num_oom_kills, of_death
from benchmarks.running.process import Worker, WorkerGoneError, WorkerTimeoutError

Result = TypeVar("Result")

TEARDOWN_S = 15.0
"""Seconds that a framework gets to shut down after its last message."""


class LaunchEndedError(Exception):
    """The launch has failed; `SupervisedLaunch.failure` holds the reason."""


class Taken(NamedTuple):
    """A turn that a launch has taken."""

    done: BlockDone
    elapsed_ns: int
    """Its duration by our own clock."""


@dataclass
class SupervisedLaunch:
    """The parent's state of one launch; its methods raise LaunchEndedError when it has failed."""

    launch: LaunchRequest | ProofRequest
    launch_id: str
    started_at: str
    worker: Worker
    tick: Callable[[], None]
    """Called every second while waiting; an exception from it ends the launch."""
    on_phase: Callable[[str], None]
    phase: str = "start"
    since_s: float = 0.0
    """The time at which the phase began, or at which the worker was last resumed if later."""
    phases_s: dict[str, float] = field(default_factory=dict)
    ready: Ready | None = None
    finished: Finished | None = None
    proved: Proved | None = None
    failure: Failure | None = None
    evidence: Evidence = field(default_factory=Evidence)
    blocks: list[Block] = field(default_factory=list)
    num_oom_kills: int = field(default_factory=num_oom_kills)

    @property
    def is_alive(self) -> bool:
        """Whether the launch can still take turns."""
        return self.failure is None and self.finished is None and self.proved is None

    def start(self) -> None:
        """Send a new worker its launch; it begins to import its framework."""
        self.since_s = time.monotonic()
        self._guarded(lambda: self.worker.send(self.launch))

    def await_import(self) -> None:
        """Return once the worker has imported its framework, and stop it."""
        message = self._receive()
        if not isinstance(message, Imported):
            raise self.fail("crashed", f"expected Imported, received {message}"[:300])
        self._guarded(self.worker.stop)

    def prepare(self) -> None:
        """Drive a worker that has imported its framework until it is warm, then stop it."""
        self._resume()
        self._guarded(lambda: self.worker.send(Begin()))
        while self.ready is None:
            message = self._receive()
            if isinstance(message, Ready):
                self.ready, self.evidence = message, message.evidence
        self.phase = "turn"
        self._guarded(self.worker.stop)

    def take_turn(self, turn: Turn) -> Taken:
        """Resume the worker for one block, then stop it again."""
        if not self.is_alive:  # another launch's turn can end this one: memory is shared
            raise LaunchEndedError
        self._resume()
        begin_s = self.since_s
        self._guarded(lambda: self.worker.send(turn))
        message = self._receive()
        if not isinstance(message, BlockDone):
            raise self.fail("crashed", f"expected BlockDone, received {message}"[:300])
        elapsed_ns = round((time.monotonic() - begin_s) * 1e9)
        self._guarded(self.worker.stop)
        if (reason := wrong_count(message, turn)) is not None:
            raise self.fail("invalid_report", reason)
        return Taken(message, elapsed_ns)

    def finish(self) -> None:
        """Have the worker check its work, report and exit."""
        self.phase = "finish"
        self._resume()
        self._guarded(lambda: self.worker.send(Finish()))
        while self.finished is None:
            message = self._receive()
            if isinstance(message, Finished):
                self.finished, self.evidence = message, message.evidence
        self.worker.end(grace_s=TEARDOWN_S)

    def prove(self) -> Proved:
        """Drive a new worker through a whole proof."""
        self.start()
        while self.proved is None:
            message = self._receive()
            if isinstance(message, Proved):
                self.proved, self.evidence = message, message.evidence
        self.worker.end(grace_s=TEARDOWN_S)
        return self.proved

    def interrupt(self, reason: str) -> LaunchEndedError:
        """End the launch at once because the run ends; its finished blocks are kept."""
        return self._end(Failure("interrupted", reason, self.phase), grace_s=0.0)

    def fail(self, status: str, reason: str) -> LaunchEndedError:
        """End the launch at once with this status."""
        return self._end(Failure(status, reason, self.phase), grace_s=0.0)

    def _resume(self) -> None:
        self.worker.resume()
        self.since_s = time.monotonic()

    def _receive(self) -> Message:
        """The next message other than `Phase`; a `Failed` ends the launch.

        A phase's duration comes from the worker's own time stamps: the parent may read late.
        """
        while True:
            limit_s = self.launch.protocol.timeout_s(self.phase)
            message = self._guarded(
                functools.partial(self.worker.receive, timeout_s=limit_s, tick=self.tick)
            )
            end_s = max(self.since_s, message.sent_s)  # it may be older than the last stop
            elapsed_s = end_s - self.since_s
            self.phases_s[self.phase] = self.phases_s.get(self.phase, 0.0) + elapsed_s
            self.since_s = end_s
            if isinstance(message, Failed):
                self.evidence = message.evidence
                failure = Failure(message.status, message.reason, message.phase)
                raise self._end(failure, grace_s=TEARDOWN_S)
            if not isinstance(message, Phase):
                return message
            self.phase = message.name
            self.on_phase(message.name)

    def _guarded(self, act: Callable[[], Result]) -> Result:
        """The result of `act`; a worker that is late or has ended ends the launch."""
        try:
            return act()
        except WorkerTimeoutError as error:
            self.worker.dump_stack()
            failure = Failure("timeout", f"{error} in phase {self.phase}", self.phase)
            raise self._end(failure, grace_s=1.0) from error
        except WorkerGoneError as error:
            returncode = self.worker.end(grace_s=1.0)
            killed = num_oom_kills() - self.num_oom_kills
            self.failure = of_death(
                returncode, phase=self.phase, word=str(error), num_oom_kills=killed
            )
            raise LaunchEndedError from error

    def _end(self, failure: Failure, *, grace_s: float) -> LaunchEndedError:
        self.failure = failure
        self.worker.end(grace_s=grace_s)
        return LaunchEndedError()
