"""Messages survive the channel, and nothing else passes for one."""

from __future__ import annotations

import pytest

from benchmarks.contract.case import Case, Place, Way, Work
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
from benchmarks.contract.protocol import DeviceRules, MeasuringProtocol

CASE = Case(
    Work("transformer", 2, "tiny", 8, (("sequence_length", 128),), seed=3),
    Way("pytorch", "compiled", "bf16", (("recompute", "full"),)),
    Place("cuda", 2),
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
    Ready(0.1, 1e-6, (9, 2, 1), True, ((2, 30), (2, 31)), False, {"a": {"b": 1}}, {"c": "d"}),
    BlockDone(3, 17, 123_456_789, 12, None, False),
    Failed("oom_device", "out of memory", "load", {"placement": "cuda"}),
    Finished({"final_loss": 1.5}, None, None),
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
        encode(Finished({"final_loss": float("nan")}, None, None))
