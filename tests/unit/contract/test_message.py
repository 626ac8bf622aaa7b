"""Messages survive the channel, and nothing else passes for one."""

from __future__ import annotations

import pytest

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.device import DeviceRules
from benchmarks.contract.evidence import (
    FAIL,
    Check,
    Evidence,
    FenceReport,
    FirstStep,
    ParityVerdict,
    ProductPrecision,
)
from benchmarks.contract.framework import Settings
from benchmarks.contract.message import (
    BlockDone,
    Failed,
    Finish,
    Finished,
    LaunchRequest,
    Message,
    Phase,
    Ready,
    Turn,
    decode,
    encode,
)
from benchmarks.contract.program import Effective
from benchmarks.contract.protocol import MeasuringProtocol

CASE = Case(
    Work("transformer", 2, "tiny", 8, (("sequence_length", 128),), seed=3),
    Way("pytorch", "compiled", "bf16", (("recompute", "full"),)),
    Place("cuda", 2),
)
EVIDENCE = Evidence(
    precision={"gemm": ProductPrecision(1e-7, "fp32")},
    fence=FenceReport(1e-6, 512, 3, 2.0, 0.0, 1e11, None),
    step1=FirstStep(6.9, num_parameters=7),
    parity=ParityVerdict(FAIL, (Check("loss", None, 1e-3),), "off", causes=("padding",)),
    effective=Effective("float32", "int8", 5, integer_products=(1, 2)),
    numbers={"of_its_own": 1.5},
)
MESSAGES = [
    LaunchRequest(
        CASE,
        Settings("cuda", 2, "compiled", "bf16", 4, 0.3, "/cache", "/scratch"),
        MeasuringProtocol(name="rigorous", timeouts_s={"import": 3.0}),
        DeviceRules("cuda", 5, 2.0, {"H200": {"bf16": 989e12}}),
        "benchmarks.frameworks.pytorch",
        "workloads.transformer.training_spec",
        "workloads.transformer.pytorch.training",
        "/data",
    ),
    Turn(3, 17),
    Finish(),
    Phase("build"),
    Ready(0.1, 1e-6, (9, 2, 1), True, ((2, 30), (2, 31)), False, None, EVIDENCE, {"c": "d"}),
    BlockDone(3, 17, 123_456_789, 12, None, False),
    Failed("oom_device", "out of memory", "load", Evidence(placement="cuda")),
    Finished(Evidence(final_loss=1.5), None, None),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    heard = decode(line)
    assert heard == message
    assert heard.sent_s == message.sent_s


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"Epoch 1/10\n",
        b"{}\n",
        b"[]\n",
        b'{"type": "Turn"}\n',
        b'{"type": "Turn", "round": 1, "num_steps": 2}\n',
        b'{"type": "Unknown"}\n',
        b'{"type": "Turn", "round": 1, "num_steps": 2, "sent_s": 1.0, "more": 3}\n',
    ],
)
def test_refuses_what_is_no_message(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a message"):
        decode(line)


def test_refuses_to_send_a_number_that_is_not_finite() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode(Finished(Evidence(final_loss=float("nan")), None, None))
