"""A new precision and a new kind of device: an entry each is what planning and views take."""

import math

import pytest

from benchmarks.analysis.equal_work import EffectiveSettings, computed_in
from benchmarks.contract.device import DEVICE_KINDS, DeviceKind, DeviceRules
from benchmarks.contract.precision import MIXED, PRECISIONS, Precision, like, product_errors
from benchmarks.equivalence.precision import largest_error, precision_like
from benchmarks.host.peak import peak_flop_per_s
from tests.unit.planning.worlds import GIB, actions, spec

FP8 = Precision(
    *("fp8", MIXED),
    significant_bits=4,
    num_bytes=1,
    cpu_flop_per_cycle=4096,
    dtype="float8_e4m3fn",
    product_error=1.8e-2,
)
NPU = DeviceKind("npu", preference=9, has_own_memory=True, queues_work=True, guessed_flop_per_s=1e9)


@pytest.fixture(autouse=True)
def _new_kinds(monkeypatch):
    monkeypatch.setitem(PRECISIONS, "fp8", FP8)
    monkeypatch.setitem(DEVICE_KINDS, "npu", NPU)


@pytest.fixture
def plan(world):
    """The plan of the toy in the new precision, on the new device where a framework sees it."""
    world.specs["toy"] = spec(precisions=("fp32", "fp8"), memory_bytes=lambda case, _: 9 * GIB)
    world.add("alpha", devices=("cpu", "npu"), precisions={"cpu": ("fp32",), "npu": ("fp8",)})
    world.add("beta", devices=("cpu", "npu"), precisions={"npu": ("fp8",)})
    world.machine["accelerators"] = [{"name": "Abacus", "memory_bytes": 16 * GIB}]
    return world.plan("framework=alpha,beta,gamma", "precision=fp8", "device=auto")


def test_a_case_in_them_is_planned(plan):
    assert actions(plan) == {"alpha": "run", "beta": "run", "gamma": "unsupported"}
    assert {cell.case.place.device for cell in plan.cells} == {"npu"}
    assert "gamma does not run on npu here" in str(plan.cells[2].reason)


def test_its_estimate_and_its_memory_are_those_of_the_new_kind(plan):
    cell = plan.cells[0]
    assert cell.estimate_s > 2 * plan.protocol.min_rounds  # a step of 2e9 FLOP at 1e9 FLOP/s
    # Two pools of 9 GiB do not fit in 90 % of 16 GiB, though the host's memory would hold both.
    assert {one.resident for one in plan.cohorts} == {"serial"}
    assert plan.device_rules["npu"] == DeviceRules("npu", min_steps_per_sample=5)


def test_all_lists_them(world):
    found = {cell.case.way.precision for cell in world.plan("framework=all", "precision=all").cells}
    assert "fp8" in found
    assert "npu" in {
        cell.case.place.device for cell in world.plan("framework=all", "device=all").cells
    }


def test_its_products_are_told_by_their_error():
    assert next(iter(product_errors())) == "fp8"
    assert like("fp8") == precision_like(2e-2) == "fp8"
    assert largest_error("bf16") == pytest.approx(math.sqrt(1.1e-3 * 1.8e-2))


def test_what_it_is_computed_in_is_read_from_its_dtype():
    assert computed_in(EffectiveSettings(computed_in="float8_e4m3fn"), "bf16") == "fp8"
    assert computed_in(EffectiveSettings(computed_in="bfloat16"), "fp8") == "bf16"
    assert computed_in(EffectiveSettings(), "fp8") == "fp8"


def test_what_no_processor_does_in_it_is_known():
    peak = peak_flop_per_s(DeviceRules("cpu"), precision="fp8", num_cores=2, accelerators=[])
    assert peak == 2 * 6.5e9 * 4096
