"""How long a launch takes, and what fits together."""

import pytest

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.device import DeviceRules
from benchmarks.contract.plan import MachineConfig
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.task import Inference, Training
from benchmarks.planning.estimate import Estimator, MemoryLimit, memory_limit
from benchmarks.planning.history import History
from tests.unit.planning.worlds import spec

GIB = 2**30
RULES = DeviceRules()


def case(execution="eager", device="cpu"):
    return Case(Work("toy", 1, "tiny", 1), Way("alpha", execution, "fp32"), Place(device))


@pytest.fixture
def estimate(world):
    def estimate(flop, *, one=None, num_threads=2, task=None, **protocol):
        estimator = Estimator(
            History([]), MeasuringProtocol(**protocol), world.surroundings(), num_threads
        )
        toy = spec(flop_per_step=lambda work: flop, task=task or Training())
        return estimator.launch(one or case(), toy, RULES).launch_s

    return estimate


def test_more_work_takes_longer(estimate):
    assert estimate(10**12) > estimate(10**9)


def test_fewer_threads_take_longer(estimate):
    assert estimate(10**12, num_threads=1) > estimate(10**12, num_threads=2)


def test_compilation_is_counted(estimate):
    assert estimate(10**9, one=case("compiled")) > estimate(10**9, one=case("eager"))


def test_a_longer_protocol_takes_longer_up_to_its_limit(estimate):
    limits = {"block_target_s": 1.0, "max_launch_s": 30.0}
    short = estimate(10**9, max_rounds=20, **limits)
    assert estimate(10**9, max_rounds=25, **limits) == pytest.approx(short + 5)
    assert estimate(10**9, max_rounds=1000, **limits) == pytest.approx(short + 10)


def test_a_turn_of_requests_is_as_long_as_they_are(estimate):
    requests = Inference(per_batch=lambda work: 1, answer_error=lambda answer, read: 0.0)
    one_s = 10**10 / 8e10  # the rule of thumb for two cores
    limits = {"max_launch_s": 1e6, "max_rounds": 4, "min_rounds": 4, "min_warmup_s": 0.0}
    once, twice = (estimate(10**10, task=requests, requests_per_turn=n, **limits) for n in (25, 50))
    assert twice - once == pytest.approx(4 * 25 * one_s)


@pytest.mark.parametrize(("sizes", "fits"), [([4, 6], True), ([4, 7], False), ([10], True)])
def test_what_shares_a_memory_fits_by_its_sum(sizes, fits):
    assert MemoryLimit(10, is_shared_equally=False).holds(sizes) is fits


@pytest.mark.parametrize(("sizes", "fits"), [([5, 5], True), ([2, 6], False), ([10], True)])
def test_pools_fit_where_the_largest_fits_into_its_share(sizes, fits):
    assert MemoryLimit(10, is_shared_equally=True).holds(sizes) is fits


def test_where_no_memory_is_known_everything_fits():
    assert MemoryLimit(None, is_shared_equally=True).holds([10**15])


def test_the_limit_is_the_users_or_nine_tenths_of_what_there_is(world):
    around = world.surroundings()
    assert memory_limit("cpu", MachineConfig(), around).limit_bytes == int(0.9 * 16 * GIB)
    assert memory_limit("metal", MachineConfig(memory_limit_gib=2), around).limit_bytes == 2 * GIB


def test_the_smallest_of_several_accelerators_is_the_limit(world):
    world.machine["accelerators"] = [{"memory_bytes": n * GIB} for n in (80, 40)]
    found = memory_limit("cuda", MachineConfig(memory_limit_gib=2), world.surroundings())
    assert found == MemoryLimit(int(0.9 * 40 * GIB), is_shared_equally=True)
