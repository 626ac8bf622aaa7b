"""Several devices and libraries, by fakes whose clock is their own: what is shown is exact."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.planning.implementations import read_literals
from tests.end_to_end import dyno_cli as cli
from tests.fakes import extension as fakes

BATCH_SIZE = 2
READING = 1e-3
"""Share of a step that reading the fakes' clock takes: each step is timed."""
STEP_S = read_literals(fakes.OWN / "clockwork.py", ["STEP_S"])["STEP_S"]
LIBRARY = read_literals(fakes.OWN / "workloads" / "fake" / "fake_library_impl.py", ["OVERHEAD_S"])
OTHERWISE = read_literals(fakes.OWN / "workloads" / "fake" / "fake_otherwise_impl.py", ["DIFFERS"])


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    """The cells of a framework that takes half of the time on two devices, by their number."""
    store = tmp_path_factory.mktemp("two") / "store"
    axes = (*cli.FAKE_AXES, "framework=fake_two", "num_devices=1,2", "protocol=smoke")
    done = cli.dyno("run", "--json", *axes, store=store)
    assert done.code == 0, done.err
    return {cell["num_devices"]: cell for cell in done.json["cells"]}


@pytest.mark.parametrize("num_devices", [1, 2])
def test_the_batch_of_all_devices_counts_in_a_step(num_devices, on_two):
    cell = on_two[num_devices]
    assert (cell["status"], cell["parity"], cell["batch_size"]) == ("ok", "pass", BATCH_SIZE)
    step_s = STEP_S / num_devices
    assert cell["step_s"] == pytest.approx(step_s, rel=READING)
    assert cell["items_per_s"] == pytest.approx(BATCH_SIZE / step_s, rel=READING)


def test_two_devices_at_twice_the_rate_have_the_same_share_of_the_roof(on_two):
    assert on_two[1]["mfu_roof"] > 0
    assert on_two[2]["mfu_roof"] == pytest.approx(on_two[1]["mfu_roof"], rel=READING)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The document of two libraries on fake_two, in a group whose base is another framework."""
    store = tmp_path_factory.mktemp("libraries") / "store"
    names = "fake_steady,fake_library,fake_otherwise"
    axes = (*cli.FAKE_AXES, f"framework={names}", "protocol=smoke", "protocol.num_cohorts=3")
    done = cli.dyno("run", "--json", *axes, store=store)
    assert done.code == 0, done.err
    return done.json


def _ratio(document: Any, case: str, base: str) -> Any:
    names = {cell["case_id"]: cell["framework"] for cell in document["cells"]}
    compared = (*document["ratios"], *document["costs"])
    rows = [(names[one["case"]], names[one["base"]], one) for one in compared]
    [found] = [one for *pair, one in rows if pair == [case, base]]
    return found


def test_a_library_brings_what_it_computes_with(libraries):
    names = [cell["framework"] for cell in libraries["cells"]]
    assert names == ["fake_steady", "fake_two", "fake_library", "fake_otherwise"]
    assert [cell["base"] for cell in libraries["cells"]] == [None, None, "fake_two", "fake_two"]


def test_what_a_library_costs_stands_beside_its_ratio_to_the_groups_base(libraries):
    cost = _ratio(libraries, "fake_library", "fake_two")
    assert cost["ratio"] == pytest.approx(STEP_S / (STEP_S + LIBRARY["OVERHEAD_S"]), rel=READING)
    assert cost["num_launches"] == 3
    assert _ratio(libraries, "fake_library", "fake_steady")["ratio"] > 0
    assert {one["base"] for one in libraries["ratios"]} == {libraries["cells"][0]["case_id"]}
    assert not [one for one in libraries["costs"] if "/fake_two/" in one["case"]]


def test_what_says_that_its_mathematics_is_another_one_is_measured_and_not_compared(libraries):
    [cell] = [one for one in libraries["cells"] if one["framework"] == "fake_otherwise"]
    assert (cell["status"], cell["parity"]) == ("ok", "not_comparable")
    assert cell["parity_reason"] == OTHERWISE["DIFFERS"]["fake_train"]
    assert cell["step_s"] == pytest.approx(STEP_S, rel=READING)
    for base in ("fake_steady", "fake_two"):
        found = _ratio(libraries, "fake_otherwise", base)
        assert found["verdict"] == "not_comparable"
        assert (found["ratio"], found["low"], found["high"]) == (None, None, None)
