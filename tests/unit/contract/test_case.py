"""Case names are readable, stable and unique."""

from __future__ import annotations

import json

from benchmarks.contract.case import Case, Place, Way, Work, case_from_json

PLAIN = Case(Work("resnet50_train", 1, "small", 8), Way("jax", "compiled", "fp32"), Place("cpu"))
RICH = Case(
    Work("transformer_finetune", 1, "7b", 4, (("sequence_length", 2048),), seed=7),
    Way("pytorch", "compiled", "bf16", (("recompute", "full"),)),
    Place("cuda", 4),
)


def test_names_are_stable() -> None:
    assert PLAIN.case_id == "resnet50_train/small/b8/jax/compiled/fp32/cpu"
    assert PLAIN.group_id == "resnet50_train/small/b8/cpu"
    assert RICH.case_id == (
        "transformer_finetune/7b/b4/sequence_length=2048/seed7"
        "/pytorch/compiled/bf16/recompute=full/cudax4"
    )


def test_json_gives_the_case_back() -> None:
    for case in (PLAIN, RICH):
        assert case_from_json(json.loads(json.dumps(case.to_json()))) == case


def test_options_are_axes() -> None:
    assert RICH.axes()["sequence_length"] == 2048
    assert RICH.axes()["recompute"] == "full"
