"""The messages between parent and worker: JSON lines on two private descriptors.

Frameworks print on stdout, so nothing is ever read from there. NumPy and standard library only.

    parent  Launch                    Begin                   Turn(0) ...        Finish
    worker         Phase ... Imported       Phase ... Ready           Block ...         Finished

    parent  Prove
    worker         Phase ... Proved

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
from benchmarks.contract.evidence import Evidence, evidence_from_json
from benchmarks.contract.framework import Settings
from benchmarks.contract.program import Exporter
from benchmarks.contract.protocol import MeasuringProtocol

MAX_MESSAGE_BYTES = 16 * 2**20


class Stamped:
    """What every message has beside its fields: its reader may be late."""

    sent_s: float
    """When it was made, by `time.monotonic`, which all processes of a machine share."""

    def __post_init__(self) -> None:
        """Stamp it."""
        stamp(self, time.monotonic())


def stamp(message: Stamped, sent_s: float) -> None:
    """Have the message say that it was made then."""
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
    """Holds weights/ and batch<i>/ as .npy files."""
    oracle_folder: str | None = None
    """What the first step must be equal to; None where there is no oracle for this work."""
    inspects: bool = True
    """Whether the program is asked at the end what it works with, and what follows from its own
    answers, where there is an oracle: once for each case of a run."""
    exporters: dict[str, Exporter] = field(default_factory=dict)
    """Programs that make the files which the implementation loads, each by its framework."""


@dataclass(frozen=True)
class ProofRequest(Stamped):
    """Parent to worker, once, in place of Launch: what to prove, or to hold the oracle for."""

    case: Case
    settings: Settings
    protocol: MeasuringProtocol
    """For its time limits."""
    framework_module: str
    spec_module: str
    implementation_module: str
    data_folder: str
    follows: bool
    """Whether ten steps at a small learning rate are followed as well."""
    oracle_folder: str | None = None
    keep_folder: str | None = None
    """Where a holder of the oracle writes what it computes."""
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


@dataclass(frozen=True)
class Finish(Stamped):
    """Parent to worker: check once more, report and exit."""


@dataclass(frozen=True)
class Phase(Stamped):
    """Worker to parent: this phase begins, and the one before it is over."""

    name: str


@dataclass(frozen=True)
class Imported(Stamped):
    """Worker to parent: the framework is imported and configured, and it waits for Begin."""


@dataclass(frozen=True)
class Ready(Stamped):
    """Worker to parent: warm, and waiting for turns."""

    step_s: float
    """Median seconds per step at the end of the warm-up."""
    fence_s: float
    """Seconds of an empty fence, median."""
    first_steps_ns: tuple[int, ...]
    cold_cache: bool | None
    warmup_ns: tuple[tuple[int, int], ...]
    steady: bool
    steps_per_turn: int | None = None
    """Of its blocks; None where their number follows from how long a block should last."""
    evidence: Evidence = field(default_factory=Evidence)
    settings: dict[str, Any] = field(default_factory=dict)


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
    """Of inference the duration of each request, which make up the block's."""


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
    """The message as one line of JSON; ValueError where a number is not finite."""
    body = {"type": type(message).__name__, "sent_s": message.sent_s, **dataclasses.asdict(message)}
    return json.dumps(body, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message on a line; ValueError where it is none."""
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
        rules = {"rules": DeviceRules(**body["rules"])} if cls is LaunchRequest else {}
        return {
            **body,
            "case": case_from_json(body["case"]),
            "settings": Settings(**body["settings"]),
            "protocol": MeasuringProtocol(**body["protocol"]),
            "exporters": {name: Exporter(**one) for name, one in body["exporters"].items()},
            **rules,
        }
    if cls is Ready:
        return {
            **body,
            "first_steps_ns": tuple(body["first_steps_ns"]),
            "warmup_ns": tuple((n, ns) for n, ns in body["warmup_ns"]),
        }
    if cls is BlockDone:
        return {**body, "request_ns": tuple(body["request_ns"])}
    return body
