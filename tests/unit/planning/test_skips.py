"""Why a case cannot run here, asked one by one (plans of whole worlds are in test_planner)."""

import dataclasses

import pytest

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.plan import Interpreter
from benchmarks.planning.estimate import MemoryLimit
from benchmarks.planning.skips import Offer, Skip, skip_of
from tests.unit.planning.worlds import GIB, World, spec

CASE = Case(Work("toy", 1, "tiny", 6), Way("alpha", "eager", "fp32"), Place("cpu"))


def skip(world: World, case: Case = CASE, memory_bytes: int = GIB) -> Skip | None:
    limits = {name: MemoryLimit(8 * GIB, is_shared_equally=False) for name in ("cpu", "cuda")}
    return skip_of(
        case, memory_bytes, Offer(world.catalog(), world.interpreters, limits, has_compiler=True)
    )


def on(num_devices: int, *, batch_size: int = 6, num_replicas: int = 1) -> Case:
    work = dataclasses.replace(CASE.work, batch_size=batch_size, num_replicas=num_replicas)
    return dataclasses.replace(CASE, work=work, place=Place("cpu", num_devices))


@pytest.fixture
def devices(world):
    """The world with a framework that uses up to four devices, and sees three."""
    world.add("alpha", max_num_devices=4)
    world.interpreters["alpha"] = Interpreter("/python", {}, {"cpu": 3})
    return world


@pytest.mark.parametrize(
    ("num_devices", "reason"),
    [
        (1, None),
        (2, None),
        (3, None),
        (4, "unsupported: a batch of 6 cannot be shared equally by 4 devices"),
        (6, "unsupported: alpha is run on 4 device(s) at most here, not on 6"),
    ],
)
def test_a_batch_is_shared_equally_by_devices_that_a_framework_can_use(
    num_devices, reason, devices
):
    found = skip(devices, on(num_devices))
    said = f"{found.kind}: {found.reason}" if found else ""
    assert (found is None) if reason is None else said.startswith(reason)


def test_more_devices_than_are_seen_are_no_device(devices):
    found = skip(devices, on(4, batch_size=8))
    assert found is not None
    assert found.kind == "no_device"
    assert found.reason.startswith("alpha sees 3 cpu devices here, 4 are requested")


def test_statistics_for_each_device_need_an_implementation_that_takes_them(devices):
    case = on(2, num_replicas=2)
    found = skip(devices, case)
    assert found is not None
    assert (found.kind, "batch statistics" in found.reason) == ("unsupported", True)
    devices.per_replica = {"alpha"}
    assert skip(devices, case) is None


def test_a_model_needs_the_framework_that_it_is_exported_from(world):
    world.exported_from["alpha"] = {"gamma": "lab.export"}
    assert skip(world) is None
    world.interpreters["gamma"] = "gamma is not installed"
    expected = "its model is exported from gamma: gamma is not installed"
    assert skip(world) == Skip("not_installed", expected)


def test_what_quantises_a_model_is_needed_in_a_quantised_precision_only(world):
    world.specs["toy"] = spec(precisions=("fp32", "int8"))
    world.add("alpha", precisions={"cpu": ("fp32", "int8")})
    world.quantised_by["alpha"] = {"gamma": "lab.quantise"}
    world.interpreters["gamma"] = "gamma is not installed"
    assert skip(world) is None
    in_int8 = dataclasses.replace(CASE, way=Way("alpha", "eager", "int8"))
    found = skip(world, in_int8)
    assert found is not None
    assert found.kind == "not_installed"


def test_a_framework_that_dies_when_it_is_asked_is_launched(world):
    world.interpreters["alpha"] = Interpreter("/python", {}, {}, probe_failure="SIGSEGV")
    assert skip(world) is None


def test_memory_up_to_the_limit_fits(world):
    assert skip(world, memory_bytes=8 * GIB) is None
    found = skip(world, memory_bytes=8 * GIB + 1)
    assert found is not None
    assert found.kind == "does_not_fit"
