"""Hand-built plans and records for the tests of analysis and presentation."""

import dataclasses
import math
from collections.abc import Sequence

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.evidence import (
    PASS,
    Check,
    Evidence,
    FirstStep,
    ParityVerdict,
    ProductPrecision,
)
from benchmarks.contract.plan import Cell, MachineConfig, Plan
from benchmarks.contract.program import Effective
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.record import Block, Record

STEP1 = FirstStep(loss=7.0, gradient_norm=3.0)
PASSED = ParityVerdict(PASS, (Check("loss", 2e-7, 1e-4),), oracle="abc")


def case(framework="pytorch", execution="eager", precision="fp32", *, size="small") -> Case:
    return Case(
        Work("resnet50_train", 1, size, 8), Way(framework, execution, precision), Place("cpu")
    )


def products(like: str, error: float = 1e-4) -> dict[str, ProductPrecision]:
    """A matmul that is as exact as this precision."""
    return {"gemm": ProductPrecision(error, like)}


def effective(**values) -> Effective:
    """What a program works with, float32 but for these values."""
    return Effective(
        **{"parameters": "float32", "activations": "float32", "flop_per_step": None, **values}
    )


def key_of(one: Case) -> str:
    return f"key:{one.case_id}"


def blocks(step_s: Sequence[float], *, flags: dict | None = None, num_steps=2) -> tuple:
    """One block for each round; `flags` names those of a round."""
    return tuple(
        Block(
            round=r,
            order=0,
            num_steps=num_steps,
            duration_ns=round(s * num_steps * 1e9),
            opening_fence_ns=1000,
            foreign_cpu_share=0.01,
            flags=tuple((flags or {}).get(r, ())),
        )
        for r, s in enumerate(step_s)
    )


def record(one: Case, cohort: int, step_s: Sequence[float] = (0.1,) * 8, **changes) -> Record:
    """A launch that is ok, `changes` aside; started_at follows the cohort's index."""
    way, replica = one.way, changes.get("replica", 0)
    fields = {
        "run_id": "run1",
        "cohort_id": f"cohort{cohort}",
        "launch_id": f"c{cohort}-{way.framework}-{way.execution}-{way.precision}-{replica}",
        "case": one,
        "replica": 0,
        "result_key": key_of(one),
        "protocol_name": "quick",
        "protocol_version": 1,
        "status": "ok",
        "reason": None,
        "phase": None,
        "started_at": f"2026-11-01T00:{cohort:02d}:00Z",
        "unit": "image",
        "items_per_step": 8,
        "flop_per_step": 4_000_000_000,
        "log": f"logs/{cohort}.log",
        "phases_s": {"import": 2.0, "first_step": 1.0, "turn": 5.0},
        "first_steps_ns": (2_000_000_000, 100_000_000, 100_000_000),
        "cold_cache": False,
        "warmup_ns": ((1, 100_000_000),),
        "steady": True,
        "blocks": blocks(step_s, flags=changes.pop("flags", None)),
        "evidence": Evidence(step1=STEP1, parity=PASSED, roof_flop_per_s=1e11),
        "peak_memory_bytes": 2**30,
        "peak_memory_source": "process_tree",
    }
    return Record(**{**fields, **changes})


def cohorts(times: dict[Case, Sequence[float]], *, num=3, wobble=0.01) -> list[Record]:
    """Launches of cases at these steady step times, with a launch effect of `wobble`."""
    shifts = (0.0, 1.0, -1.0, 0.5, -0.5, 0.8, -0.8, 0.2, -0.2, 0.0)
    return [
        record(one, c, [step_s * (1 + wobble * shifts[(c + place) % 10])] * 8)
        for c in range(num)
        for place, (one, step_s) in enumerate(times.items())
    ]


def serial(times: dict[Case, float], *, num=3, drift=0.0, orders=("ABBA", "BAAB")) -> list[Record]:
    """Serial cohorts of two cases, or of one against itself, in these orders in turn.

    `drift` is the growth of ln(step time) from launch to launch; it goes on within a launch, and
    from cohort to cohort.
    """
    sides = [(one, step_s, 0) for one, step_s in times.items()]
    first, second = sides if len(sides) == 2 else (*sides, (*sides[0][:2], 1))
    return [
        record(
            one,
            c,
            [step_s * math.exp(drift * (4 * c + place + r / 8)) for r in range(8)],
            replica=replica,
            launch_id=f"c{c}-{place}",
            started_at=f"2026-11-01T00:{c:02d}:{place:02d}Z",
            resident="serial",
        )
        for c in range(num)
        for place, side in enumerate(orders[c % len(orders)])
        for one, step_s, replica in [first if side == "A" else second]
    ]


def plan(cases: Sequence[Case], *, skipped: Sequence[Cell] = (), **changes) -> Plan:
    """A plan of these cases, the first of each precision and recipe being the others' base."""
    firsts = {}
    for one in cases:
        firsts.setdefault((one.group_id, one.way.precision, one.way.recipe), one.case_id)
    fields = {
        "run_id": "run1",
        "plan_key": "plan",
        "created_at": "2026-11-01T00:00:00Z",
        "suite": "quick",
        "overrides": (),
        "protocol": MeasuringProtocol(),
        "machine_config": MachineConfig(),
        "cells": (*(Cell(one, "run", result_key=key_of(one)) for one in cases), *skipped),
        "cohorts": (),
        "bases": {
            one.case_id: firsts[(one.group_id, one.way.precision, one.way.recipe)] for one in cases
        },
        "interpreters": {},
        "device_rules": {},
        "machine": {"cpu_model": "Test CPU", "num_cores": 2},
    }
    return Plan(**{**fields, **changes})


def failed(one: Case, cohort: int, status="oom_host", **changes) -> Record:
    reason = changes.pop("reason", "out of memory")
    whole = record(one, cohort, **changes)
    return dataclasses.replace(whole, status=status, reason=reason, phase="turn", blocks=())
