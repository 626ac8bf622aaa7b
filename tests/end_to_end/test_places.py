"""Several devices and libraries, by fakes whose clock is their own: what is shown is exact."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.planning.catalog import read_literals
from tests.end_to_end import dyno_cli as cli

BATCH_SIZE = 2
STEP_S = read_literals(cli.FAKES / "clockwork.py", ["STEP_S"])["STEP_S"]


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
    assert cell["step_s"] == pytest.approx(step_s)
    assert cell["items_per_s"] == pytest.approx(BATCH_SIZE / step_s)


def test_two_devices_at_twice_the_rate_have_the_same_share_of_the_roof(on_two):
    assert on_two[1]["mfu_roof"] > 0
    assert on_two[2]["mfu_roof"] == pytest.approx(on_two[1]["mfu_roof"])
