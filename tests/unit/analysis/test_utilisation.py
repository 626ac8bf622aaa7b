"""Shares of roofs and of the datasheet's peak."""

import dataclasses

import pytest

from benchmarks.contract.device import DeviceRules
from benchmarks.contract.evidence import FAIL, Evidence, ParityVerdict
from tests.unit.analysis.records import case, cohorts, record
from tests.unit.analysis.test_summary import BASE, FAST, SPECS, cell, summary_of


def test_the_share_of_the_roof_is_that_of_the_best_product_in_this_precision():
    records = cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.0)
    records[0] = dataclasses.replace(records[0], evidence=Evidence(roof_flop_per_s=4e11))
    half = case(precision="bf16")
    bare = dataclasses.replace(record(half, 9), evidence=Evidence())
    summary = summary_of([*records, bare], cases=[BASE, FAST, half])
    assert cell(summary, FAST)["mfu_roof"] == pytest.approx(4e9 / 0.1 / 4e11)
    assert cell(summary, half)["mfu_roof"] is None
    assert cell(summary, FAST)["flop_convention"] == SPECS["resnet50_train"].flop_convention


def test_the_roof_of_what_is_computed_in_fp32_is_the_one_of_fp32():
    half = case(precision="bf16")
    emulated = record(half, 9, [0.2] * 8)
    emulated = dataclasses.replace(
        emulated,
        evidence=dataclasses.replace(emulated.evidence, roof_flop_per_s=1e9),
        settings={"effective": {"products": "float32"}},
    )
    alone = summary_of([emulated], cases=[half])
    assert cell(alone, half)["mfu_roof"] is None
    real = record(BASE, 9, [0.2] * 8)
    real = dataclasses.replace(
        real, evidence=dataclasses.replace(real.evidence, roof_flop_per_s=4e11)
    )
    summary = summary_of([emulated, real], cases=[BASE, half])
    assert cell(summary, half)["mfu_roof"] == cell(summary, BASE)["mfu_roof"] == pytest.approx(0.05)


def test_several_devices_have_as_many_times_the_roof_and_the_peak_of_one():
    both = dataclasses.replace(BASE, place=dataclasses.replace(BASE.place, num_devices=2))
    summary = summary_of(
        cohorts({BASE: 0.1, both: 0.1}, wobble=0.0),
        cases=[BASE, both],
        machine={"accelerators": [{"name": "NVIDIA H200"}]},
        device_rules={"cpu": DeviceRules("cpu", peak_flop_per_s={"*H200": {"fp32": 1e11}})},
    )
    for peak in ("mfu_roof", "mfu_spec"):  # of 1e11 FLOP/s each, 4e10 reached
        assert cell(summary, BASE)[peak] == pytest.approx(0.4)
        assert cell(summary, both)[peak] == pytest.approx(0.2)


def test_integers_have_no_roof_of_floats_and_break_none():
    small = case(precision="int8")
    records = cohorts({BASE: 0.2, small: 0.01}, wobble=0.0)
    records = [
        dataclasses.replace(
            one,
            evidence=dataclasses.replace(one.evidence, roof_flop_per_s=1e11),
            settings={"effective": {"products": "float32"}},
        )
        for one in records
    ]
    summary = summary_of(records, cases=[BASE, small])
    assert cell(summary, small)["mfu_roof"] is None
    assert cell(summary, BASE)["mfu_roof"] == pytest.approx(0.2)
    assert not [one for one in summary.cells if one.above_roof]


def test_nothing_has_a_share_of_a_roof_that_work_was_faster_than():
    half = case(precision="bf16")
    records = cohorts({BASE: 0.2, FAST: 0.1, half: 0.2}, wobble=0.0)
    records = [
        dataclasses.replace(one, evidence=dataclasses.replace(one.evidence, roof_flop_per_s=3e10))
        for one in records
    ]
    summary = summary_of(records, cases=[BASE, FAST, half])
    assert {one.case: one.mfu_roof for one in summary.cells} == {
        BASE: None,  # 2e10, but 4e10 was reached
        FAST: None,
        half: pytest.approx(2 / 3),
    }
    above = {one.case: one.above_roof for one in summary.cells if one.above_roof}
    assert above == {FAST: pytest.approx(4 / 3)}


def test_work_that_was_not_shown_has_no_share_and_breaks_no_roof():
    records = cohorts({BASE: 0.2, FAST: 0.1}, wobble=0.0)
    for place, one in enumerate(records):
        evidence = dataclasses.replace(one.evidence, roof_flop_per_s=3e10)
        if one.case == FAST:
            evidence.parity = ParityVerdict(FAIL, reason="half of the layers")
        records[place] = dataclasses.replace(one, evidence=evidence)
    summary = summary_of(records, cases=[BASE, FAST])
    assert cell(summary, FAST)["mfu_roof"] is None
    assert cell(summary, BASE)["mfu_roof"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("accelerators", "share"),
    [(["NVIDIA H200"], 0.4), (["NVIDIA H200", "Another"], None), ([], None)],
)
def test_the_share_of_the_datasheets_peak_is_told_where_every_device_is_known(accelerators, share):
    summary = summary_of(
        cohorts({BASE: 0.1}, wobble=0.0),
        cases=[BASE],
        machine={"accelerators": [{"name": name} for name in accelerators]},
        device_rules={"cpu": DeviceRules("cpu", peak_flop_per_s={"*H200": {"fp32": 1e11}})},
    )
    found = cell(summary, BASE)["mfu_spec"]
    assert found == (None if share is None else pytest.approx(share))
