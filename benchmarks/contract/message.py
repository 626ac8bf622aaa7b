"""The messages between parent and worker: JSON lines on two private descriptors.

Frameworks print on stdout, so nothing is ever read from there. NumPy and standard library only.

    parent  LaunchRequest            Begin             Turn(0) ...        Finish
    worker     Phase ... Imported       Phase ... Ready      BlockDone ...      Finished

    parent  ProofRequest
    worker     Phase ... Proved

    worker, at any time: Failed, after which it exits
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from typing import Any, Union

from benchmarks.contract.case import Case, case_from_json
from benchmarks.contract.device import DeviceRules
from benchmarks.contract.evidence import (
    Evidence,
    Proven,
    Tested,
    evidence_from_json,
    proven_from_json,
    tested_from_json,
)
from benchmarks.contract.framework import Settings
from benchmarks.contract.program import Exporter
from benchmarks.contract.protocol import MeasuringProtocol

MAX_MESSAGE_BYTES = 16 * 2**20


class Stamped:
    """The time stamp of every message, because the reader may be late."""

    sent_s: float
    """When the message was made, by `time.monotonic`, which all processes of a machine share."""

    def __post_init__(self) -> None:
        """Stamp the message with the current time."""
        stamp(self, time.monotonic())


def stamp(message: Stamped, sent_s: float) -> None:
    """Set the time at which the message was made."""
    object.__setattr__(message, "sent_s", sent_s)


@dataclass(frozen=True)
class LaunchRequest(Stamped):
    """Parent to worker, once: what to run."""

    case: Case
    settings: Settings
    protocol: MeasuringProtocol
    rules: DeviceRules
    framework_module: str
    """The framework's package; its `adapter` submodule is imported."""
    spec_module: str
    implementation_module: str
    data_folder: str
    """Folder that holds weights/ and batch<i>/ as .npy files."""
    oracle_folder: str | None = None
    """Folder of the oracle that the first step must match; None if this work has no oracle."""
    tested: Tested | None = None
    """What an earlier launch's self-tests have shown of the framework in this run; None: this
    launch makes them."""
    proven: Proven | None = None
    """What an earlier launch of the case has proven in this run; None: this launch proves it."""
    may_be_cold: bool = False
    """Whether it takes turns even if its first step fills the compile cache, as an earlier launch
    of the case already has."""
    only_prepares: bool = False
    """Whether it takes no turns: it compiles and exports what later launches then find."""
    differs: bool = False
    """Whether the implementation's mathematics is not the workload's (DIFFERS)."""
    export_folder: str | None = None
    """Folder that keeps the case's exported files for its later launches, or holds them already."""
    draw: int = 0
    """A number that the parent draws for each launch: it chooses what the last checks look at."""
    exporters: dict[str, Exporter] = field(default_factory=dict)
    """Programs that make the files which the implementation loads, each by its framework."""


@dataclass(frozen=True)
class ProofRequest(Stamped):
    """Parent to worker, once, instead of LaunchRequest: what to prove, or compute the oracle of."""

    case: Case
    settings: Settings
    protocol: MeasuringProtocol
    """The protocol, for its time limits."""
    framework_module: str
    spec_module: str
    implementation_module: str
    data_folder: str
    follows: bool
    """Whether ten consecutive steps at a small learning rate are compared as well."""
    oracle_folder: str | None = None
    confirms: bool = False
    """Whether only what the oracle holds is compared, to confirm the oracle."""
    keep_folder: str | None = None
    """Folder into which a framework that computes the oracle writes it."""
    exporters: dict[str, Exporter] = field(default_factory=dict)
    """Programs that make the files which the implementation loads, each by its framework."""


@dataclass(frozen=True)
class Begin(Stamped):
    """Parent to worker, after all imports: the worker now has the machine to itself."""


@dataclass(frozen=True)
class Turn(Stamped):
    """Parent to worker: time one block."""

    round: int
    num_steps: int
    steps_per_sample: int | None = None
    """Steps between two readings of the clock; None: the block is one sample, or requests are timed
    one by one."""


@dataclass(frozen=True)
class Finish(Stamped):
    """Parent to worker: check once more, report and exit."""


@dataclass(frozen=True)
class Phase(Stamped):
    """Worker to parent: this phase begins, and the one before it is over."""

    name: str


@dataclass(frozen=True)
class Imported(Stamped):
    """Worker to parent: the framework is imported, and the worker waits for Begin."""


@dataclass(frozen=True)
class Ready(Stamped):
    """Worker to parent: the warm-up is over, and the worker waits for turns.

    A launch that only prepares, or has filled the compile cache, skips both: it waits for Finish.
    """

    step_s: float
    """Median seconds per step at the end of the warm-up."""
    fence_s: float
    """Seconds of an empty fence, median."""
    first_steps_ns: tuple[int, ...]
    cold_cache: bool | None
    warmup_ns: tuple[tuple[int, int], ...]
    """(num_steps, duration_ns) of each mini-block; empty if the launch takes no turns."""
    steady: bool | None
    steps_per_turn: int | None = None
    """Steps in each block; None if their number follows from a block's target duration."""
    evidence: Evidence = field(default_factory=Evidence)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def takes_turns(self) -> bool:
        """Whether the launch is warm and to be timed."""
        return bool(self.warmup_ns)


@dataclass(frozen=True)
class BlockDone(Stamped):
    """Worker to parent: the block of a turn."""

    round: int
    num_steps: int
    duration_ns: int
    opening_fence_ns: int
    num_compilations: int | None
    """Compilations during the block."""
    suspended: bool
    """Whether the machine slept during the block."""
    request_ns: tuple[int, ...] = ()
    """In inference the duration of each request; their sum is the block's duration."""
    preparation_ns: int = 0
    """In inference the time in which the requests were prepared."""
    sample_ns: tuple[int, ...] = ()
    """If steps are timed: the duration of each sample; their sum is the block's duration."""


@dataclass(frozen=True)
class Failed(Stamped):
    """Worker to parent: the launch ends with this status."""

    status: str
    reason: str
    phase: str
    evidence: Evidence = field(default_factory=Evidence)


@dataclass(frozen=True)
class Finished(Stamped):
    """Worker to parent: all checks after the last block passed."""

    evidence: Evidence
    peak_memory_bytes: int | None
    peak_memory_source: str | None


@dataclass(frozen=True)
class Proved(Stamped):
    """Worker to parent: every check was made; the verdict is in the evidence."""

    evidence: Evidence
    settings: dict[str, Any]


Message = Union[
    Union[LaunchRequest, ProofRequest, Begin, Turn, Finish],
    Union[Phase, Imported, Ready, BlockDone, Failed, Finished, Proved],
]
_TYPES: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        *(LaunchRequest, ProofRequest, Begin, Turn, Finish),
        *(Phase, Imported, Ready, BlockDone, Failed, Finished, Proved),
    )
}


def encode(message: Message) -> bytes:
    """The message as one line of JSON; ValueError if a number is not finite."""
    body = {"type": type(message).__name__, "sent_s": message.sent_s, **dataclasses.asdict(message)}
    return json.dumps(body, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message on a line; ValueError if the line holds none."""
    try:
        body = json.loads(line)
        cls, sent_s = _TYPES[body.pop("type")], float(body.pop("sent_s"))
        message: Message = cls(**_typed(cls, body))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a message: {line[:200]!r} ({error})") from error
    stamp(message, sent_s)
    return message


def _typed(cls: type[Any], body: dict[str, Any]) -> dict[str, Any]:
    if "evidence" in body:
        body = {**body, "evidence": evidence_from_json(body["evidence"])}
    if cls in (LaunchRequest, ProofRequest):
        further: dict[str, Any] = {}
        if cls is LaunchRequest:
            further = {
                "rules": DeviceRules(**body["rules"]),
                "tested": body["tested"] and tested_from_json(body["tested"]),
                "proven": body["proven"] and proven_from_json(body["proven"]),
            }
        return {
            **body,
            "case": case_from_json(body["case"]),
            "settings": Settings(**body["settings"]),
            "protocol": MeasuringProtocol(**body["protocol"]),
            "exporters": {name: Exporter(**one) for name, one in body["exporters"].items()},
            **further,
        }
    if cls is Ready:
        return {
            **body,
            "first_steps_ns": tuple(body["first_steps_ns"]),
            "warmup_ns": tuple((n, ns) for n, ns in body["warmup_ns"]),
        }
    if cls is BlockDone:
        return {**body, **{one: tuple(body[one]) for one in ("request_ns", "sample_ns")}}
    return body
