"""A rate that no hardware reaches is refused; one that good hardware reaches is not."""

from __future__ import annotations

from benchmarks.contract.device import DeviceRules
from benchmarks.host.peak import impossible, peak_flop_per_s

H200 = DeviceRules("cuda", 5, 2.0, {"*H200": {"bf16": 989e12}, "*A100": {"bf16": 312e12}})
SXM, OTHER = {"name": "NVIDIA H200"}, {"name": "Other"}


def test_the_peak_of_a_known_accelerator() -> None:
    peak = peak_flop_per_s(H200, precision="bf16", num_cores=8, accelerators=[SXM])
    assert peak == 989e12
    assert impossible(800e12, peak) is None
    assert impossible(1.04 * 989e12, peak) is None
    assert "above 1.05 times" in str(impossible(1.06 * 989e12, peak))


def test_an_unknown_accelerator_has_no_peak() -> None:
    peak = peak_flop_per_s(H200, precision="bf16", num_cores=8, accelerators=[OTHER])
    assert peak is None
    both = peak_flop_per_s(H200, precision="bf16", num_cores=8, accelerators=[SXM, OTHER])
    assert both is None  # a launch may be on either
    assert impossible(1e18, peak) is None


def test_several_accelerators_reach_as_many_times_the_peak_and_several_cpus_no_more() -> None:
    four = peak_flop_per_s(H200, precision="bf16", num_cores=8, accelerators=[SXM], num_devices=4)
    assert four == 4 * 989e12
    alone, both = (
        peak_flop_per_s(
            DeviceRules(), precision="fp32", num_cores=2, accelerators=[], num_devices=n
        )
        for n in (1, 2)
    )
    assert alone == both


def test_seventeen_petaflops_on_two_cores_are_refused() -> None:
    peak = peak_flop_per_s(DeviceRules(), precision="fp32", num_cores=2, accelerators=[])
    assert impossible(400e9, peak) is None
    assert impossible(17e15, peak) is not None
