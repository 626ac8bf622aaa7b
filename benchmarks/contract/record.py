"""The record of one launch, and the statuses with which a launch can end.

Schema history (SCHEMA_VERSION):
    1  first version
    2  resident: whether a cohort's launches were alive together; before, they always were
    3  request_ns: the duration of each request in a block of inference; before, there was none
    4  evidence has every field of `Evidence`; before, only those that were known, at first without
       fence.num_products (it was 1) and with effective.integer_products as a text.
       batch_size counts the items of all devices; before, the items of one device, so that an
       older record of several devices is refused
    5  sequence: the place among the store's records; before, only a wall clock's label. A block's
       elapsed_ns, preparation_ns and runnable_ns, evidence.later_steps. Statuses `disturbed` and
       `invalid_report`, flag STOPPED
    6  A block's sample_ns and probe_ns; before, a step that was not timed preceded each block. Its
       disturbed_samples, without which it counts; before, a load spoilt a whole block. A round may
       hold several blocks of a launch: spoilt turns are taken again. look: the number of
       times that results had been looked at before the cohort was planned, and 1. A launch may be
       ok without a block: it filled its compile cache, took no turn and was launched again.
       evidence.proven_by: most of the proof is made once for a case and run; before, in each launch

Standard library only. Raw samples are stored; every summary is computed from them again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.contract.case import Case, case_from_json
from benchmarks.contract.evidence import Evidence, evidence_from_json

SCHEMA_VERSION = 6

STATUSES = (
    "ok",
    "oom_host",
    "oom_device",
    "timeout",
    "crashed",
    "killed",
    "nonfinite",
    "not_placed",
    "invalid_sync",
    "invalid_work",
    "invalid_report",
    "unproven",
    "suspect",
    "disturbed",
    "interrupted",
)
"""How a launch can end. Each but `ok` and those that are WITHOUT_VERDICT fails its cell."""

DISTURBED = "disturbed"
"""The machine was too busy for the launch's self-tests."""
WITHOUT_VERDICT = (DISTURBED, "interrupted")
"""Statuses that say nothing about the case: the launch does not count, and is made again."""

PLAN_REASONS = (
    "have",
    "unsupported",
    "not_implemented",
    "not_installed",
    "no_device",
    "does_not_fit",
)
"""Why a cell of the plan was not launched."""

INVALIDATING_FLAGS = (
    "FOREIGN_LOAD",
    "CPU_QUOTA",
    "RECOMPILED",
    "SUSPENDED",
    "STOPPED",
    "SWAP",
    "THROTTLED",
    "FOREIGN_GPU",
)
"""Causes, declared beforehand, for which a round is dropped for every launch that took part."""

TOGETHER, SERIAL = "together", "serial"
LAUNCHES_PER_CASE = {TOGETHER: 1, SERIAL: 2}
"""The number of launches of each case (and replica) in a whole cohort, by `resident`.

together: all are alive at once and take turns. serial: a pair that does not fit in memory at once
runs one after another in the order A B B A.
"""

GLOBAL_BATCH_SINCE = 4
"""The first schema in which batch_size counts the items of all devices."""

_ADDED_FIELDS: Mapping[int, Mapping[str, Any]] = {
    2: {"resident": TOGETHER},
    5: {"sequence": None},
    6: {"look": 1},
}
"""For each version the fields that it added, with their value for every earlier record."""


@dataclass(frozen=True)
class Block:
    """One turn of one launch: num_steps steps between two fences, in samples."""

    round: int
    order: int
    """Position of the turn in its round, from 0."""
    num_steps: int
    duration_ns: int
    opening_fence_ns: int
    """Time that the fence before the block took; work left over from earlier would show here."""
    foreign_cpu_share: float | None = None
    """Share of the machine's CPU time that other processes took during the turn, 0 to 1."""
    flags: tuple[str, ...] = ()
    request_ns: tuple[int, ...] = ()
    """In inference the duration of each request; their sum is the block's. Else empty."""
    preparation_ns: int = 0
    """In inference the time in which the requests were prepared."""
    elapsed_ns: int | None = None
    """The turn's duration by the parent's clock."""
    runnable_ns: int | None = None
    """Time for which the launch's threads ran or waited for a processor in the turn, summed; of a
    thread's waiting no more counts than 4 times the time that it ran."""
    sample_ns: tuple[int, ...] = ()
    """In training the duration of each sample, that is of equally many consecutive steps; their sum
    is the block's. Empty in inference and before schema 6."""
    probe_ns: tuple[int, ...] = ()
    """The durations of the reference probe before and after the turn: the machine's own speed."""
    disturbed_samples: tuple[int, ...] = ()
    """The samples or requests, from 0, in which other processes took more than their limit. The
    turn counts without them; one that has none to spare is disturbed as a whole (`flags`)."""

    @property
    def is_calm(self) -> bool:
        """Whether no declared cause disturbed any of it."""
        return not self.is_disturbed and not self.disturbed_samples

    @property
    def is_disturbed(self) -> bool:
        """Whether a declared cause invalidates the block."""
        return bool(set(self.flags) & set(INVALIDATING_FLAGS))

    @property
    def samples_s(self) -> list[float]:
        """Seconds per step of each sample that counts; each request is one."""
        samples_ns = self.request_ns or self.sample_ns or (self.duration_ns,)
        steps_per_sample = self.num_steps / len(samples_ns)
        return [
            ns / steps_per_sample / 1e9
            for i, ns in enumerate(samples_ns)
            if i not in self.disturbed_samples
        ]

    @property
    def step_s(self) -> float:
        """Seconds per step, on average over the samples that count."""
        samples_s = self.samples_s
        return sum(samples_s) / len(samples_s)


@dataclass(frozen=True)
class Record:
    """One launch of one case. A field that is not known is None, never 0."""

    run_id: str
    cohort_id: str
    """The cohort, which its launches share; ratios come from shared cohorts only."""
    launch_id: str
    case: Case
    replica: int
    """1 for the second launch of the base in its comparison with itself (A/A), else 0."""
    result_key: str
    """Hash of everything that makes results comparable: case, code, pins, protocol, machine."""
    protocol_name: str
    protocol_version: int
    status: str
    reason: str | None
    """What happened, on one line, if the status is not ok."""
    phase: str | None
    """The phase in which the launch ended, if the status is not ok."""
    started_at: str
    """Wall-clock label, ISO 8601 UTC; durations never come from it."""
    unit: str
    items_per_step: int
    flop_per_step: int
    log: str | None = None
    """The launch's output, relative to the run's folder."""
    phases_s: dict[str, float] = field(default_factory=dict)
    """Seconds of the launch's own running time in each phase it went through."""
    first_steps_ns: tuple[int, ...] = ()
    """The first three steps, fenced one by one: the first holds the compilation.

    Of a launch that is held to a proven one, the first step alone.
    """
    cold_cache: bool | None = None
    """Whether the first step added compiled code to the cache, because it was not there yet."""
    warmup_ns: tuple[tuple[int, int], ...] = ()
    """(num_steps, duration_ns) of each mini-block of the warm-up."""
    steady: bool | None = None
    """Whether the warm-up ended in a steady state rather than at its limit."""
    blocks: tuple[Block, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)
    """Self-tests, step-1 loss and norms, placement, compilations: why to trust the numbers."""
    peak_memory_bytes: int | None = None
    """The device's peak if the framework knows it (the largest of several devices), else the
    process tree's peak while measuring."""
    peak_memory_source: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    """Requested and effective settings, versions and flags, as the framework reports them."""
    environment: dict[str, Any] = field(default_factory=dict)
    """The machine: CPU, memory, accelerators, kernel, load."""
    resident: str = TOGETHER
    """together: in turns with the cohort's other launches; serial: alone, one after another."""
    sequence: int | None = None
    """Its number among the records of its store, which gives it when it appends: this orders
    records. None if it is not stored yet, or was before schema 5."""
    look: int = 1
    """1 if its cohort was planned before any result was seen, else one more than the number of
    times that results were looked at: verdicts become stricter with it (`statistics.looks`)."""
    schema_version: int = SCHEMA_VERSION

    @property
    def only_prepared(self) -> bool:
        """Whether the launch took no turn: it filled its compile cache, or exported its model.

        It serves the numbers of a cold start, and does not count as a launch of its case.
        """
        ended_unwarmed = self.status in ("ok", "unproven") and not self.warmup_ns
        return not self.blocks and (bool(self.cold_cache) or ended_unwarmed)

    @property
    def turns(self) -> list[Block]:
        """The block that counts of each round, in their order: the last one that was taken.

        A turn that a declared cause disturbed is taken again, up to a limit.
        """
        return list({block.round: block for block in self.blocks}.values())

    @property
    def step_seconds(self) -> list[float]:
        """Seconds per step of each block that counts.

        Blocks that a flag invalidates are left out, unless they are more than half: then all are
        kept, because a result that is marked as disturbed is better than none.
        """
        return [block.step_s for block in self._kept_blocks]

    @property
    def sample_seconds(self) -> list[float]:
        """Seconds per step of each sample of the blocks that count, in their order."""
        return [seconds for block in self._kept_blocks for seconds in block.samples_s]

    @property
    def mean_step_s(self) -> float | None:
        """Seconds per step on average over every turn that was taken, disturbed ones included."""
        num_steps = sum(block.num_steps for block in self.blocks)
        duration_ns = sum(block.duration_ns for block in self.blocks)
        return duration_ns / num_steps / 1e9 if num_steps else None

    @property
    def request_seconds(self) -> list[float]:
        """Seconds of each request that counts, in their order; empty in training."""
        return [
            seconds
            for block in self._kept_blocks
            if block.request_ns
            for seconds in block.samples_s
        ]

    @property
    def _kept_blocks(self) -> Sequence[Block]:
        turns = self.turns
        valid = [block for block in turns if not block.is_disturbed]
        return valid if 2 * len(valid) >= len(turns) else turns

    def to_json(self) -> dict[str, Any]:
        """The record as JSON, the inverse of `record_from_json`."""
        return dataclasses.asdict(self)


def record_from_json(data: Mapping[str, Any]) -> Record:
    """The record that `Record.to_json` wrote, in this schema or an older one.

    Raises ValueError, which names the field, if a field is missing, unknown, not finite or of
    another type, or if the schema is newer than this one.
    """
    version = data.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ValueError(
            f"schema_version={version!r}: expected at most {SCHEMA_VERSION}"
            " (written by a newer Dyno, or not a record)"
        )
    for added_in, added in _ADDED_FIELDS.items():
        data = {**added, **data} if version < added_in else data
    fields = {f.name for f in dataclasses.fields(Record)}
    if set(data) != fields:
        missing, unknown = sorted(fields - set(data)), sorted(set(data) - fields)
        raise ValueError(f"not a record: missing fields {missing}, unknown fields {unknown}")
    _refuse_nonfinite(data, "record")
    for name, known in (("status", STATUSES), ("resident", tuple(LAUNCHES_PER_CASE))):
        if data[name] not in known:
            raise ValueError(f"{name}={data[name]!r}: expected one of {', '.join(known)}")
    sequence = data["sequence"]
    if sequence is not None and (type(sequence) is not int or sequence < 1):
        raise ValueError(f"sequence={sequence!r}: expected an integer of 1 or more, or none")
    if type(data["look"]) is not int or data["look"] < 1:
        raise ValueError(f"look={data['look']!r}: expected an integer of 1 or more")
    try:
        record = Record(**{**data, **_typed(data)})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record: {error}") from error
    num_devices = record.case.place.num_devices
    if version < GLOBAL_BATCH_SINCE and num_devices > 1:
        raise ValueError(
            f"run {record.run_id}: the batch size of a case on {num_devices} devices counted the"
            f" items of one device before record schema {GLOBAL_BATCH_SINCE}, now it counts all"
        )
    return record


def _typed(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "case": case_from_json(data["case"]),
        "evidence": evidence_from_json(
            data["evidence"], before_schema_4=data["schema_version"] < 4
        ),
        "first_steps_ns": tuple(data["first_steps_ns"]),
        "warmup_ns": tuple((n, ns) for n, ns in data["warmup_ns"]),
        "blocks": tuple(_block(block) for block in data["blocks"]),
    }


def _block(data: Mapping[str, Any]) -> Block:
    listed = {name: tuple(data.get(name, ())) for name in ("request_ns", "sample_ns", "probe_ns")}
    disturbed = tuple(data.get("disturbed_samples", ()))
    tuples = {"flags": tuple(data["flags"]), "disturbed_samples": disturbed}
    block = Block(**{**data, **tuples, **listed})
    for name in ("round", "order", "num_steps", "duration_ns", "opening_fence_ns"):
        value = getattr(block, name)
        if type(value) is not int or value < 0:
            raise ValueError(f"block.{name}={value!r}: expected an integer of 0 or more")
    for name, values in listed.items():
        if not all(type(one) is int and one > 0 for one in values):
            raise ValueError(f"block.{name}: expected integers above 0")
    if block.num_steps == 0 or block.duration_ns == 0:
        raise ValueError(
            f"block of {block.num_steps} steps in {block.duration_ns} ns: expected both above 0"
        )
    if (reason := wrong_samples(block)) is not None:
        raise ValueError(f"block: {reason}")
    num_samples = len(block.request_ns or block.sample_ns)
    if disturbed and not (set(disturbed) < set(range(num_samples))):
        raise ValueError(
            f"block.disturbed_samples={list(disturbed)}: expected some of its {num_samples} samples"
        )
    return block


class Samples(Protocol):
    """A block, or a worker's message about it."""

    @property
    def num_steps(self) -> int:
        """The steps of the block."""

    @property
    def duration_ns(self) -> int:
        """The duration of the block."""

    @property
    def request_ns(self) -> tuple[int, ...]:
        """The duration of each request, if requests are timed."""

    @property
    def sample_ns(self) -> tuple[int, ...]:
        """The duration of each sample, if steps are timed."""


def wrong_samples(block: Samples) -> str | None:
    """How a block's samples contradict its steps or its duration, or None."""
    requests, samples = block.request_ns, block.sample_ns
    if requests and (len(requests), sum(requests)) != (block.num_steps, block.duration_ns):
        return (
            f"{len(requests)} requests in {sum(requests)} ns for {block.num_steps} in"
            f" {block.duration_ns} ns"
        )
    if samples and (block.num_steps % len(samples) or sum(samples) != block.duration_ns):
        return (
            f"{len(samples)} samples in {sum(samples)} ns for {block.num_steps} steps in"
            f" {block.duration_ns} ns"
        )
    return None


def _refuse_nonfinite(value: Any, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}={value}: expected a finite number")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_nonfinite(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _refuse_nonfinite(item, f"{path}[{index}]")
