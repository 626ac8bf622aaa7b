"""A plan and records of the smallest shape that the contract accepts."""

from collections.abc import Callable

import pytest

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.evidence import Evidence
from benchmarks.contract.plan import Cell, MachineConfig, Plan
from benchmarks.contract.protocol import PROTOCOL_VERSION, MeasuringProtocol
from benchmarks.contract.record import Block, Record

RUN_ID = "20261121-080000-quick-0a1b2c"

CASE = Case(
    work=Work("resnet50_train", 1, "tiny", 8, options=(("sequence_length", 512),)),
    way=Way("pytorch", "eager", "fp32"),
    place=Place("cpu"),
)


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    def make(run_id: str = RUN_ID, suite: str = "quick") -> Plan:
        return Plan(
            run_id=run_id,
            plan_key="key",
            created_at="2026-11-21T08:00:00Z",
            suite=suite,
            overrides=("size=tiny",),
            protocol=MeasuringProtocol(),
            machine_config=MachineConfig(),
            cells=(Cell(CASE, "run"),),
            cohorts=(),
            bases={},
            interpreters={},
            device_rules={},
            machine={},
        )

    return make


@pytest.fixture
def make_record() -> Callable[..., Record]:
    def make(index: int = 0, run_id: str = RUN_ID, **changes: object) -> Record:
        fields: dict[str, object] = {
            "run_id": run_id,
            "cohort_id": f"{run_id}/0/{index}",
            "launch_id": f"launch-{index}",
            "case": CASE,
            "replica": 0,
            "result_key": "key",
            "protocol_name": "quick",
            "protocol_version": PROTOCOL_VERSION,
            "status": "ok",
            "reason": None,
            "phase": None,
            "started_at": "2026-11-21T08:00:01Z",
            "unit": "image",
            "items_per_step": 8,
            "flop_per_step": 10**9,
            "warmup_ns": ((5, 10**6),),
            "blocks": (Block(0, 0, 5, 10**6, 10, 0.01, ("RECOMPILED",)),),
            "evidence": Evidence(
                inspection_failure='quote " newline \n snowman ☃', final_loss=6.9077
            ),
        }
        return Record(**{**fields, **changes})

    return make
