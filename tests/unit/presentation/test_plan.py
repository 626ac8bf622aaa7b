"""A plan on the terminal."""

import pytest

from benchmarks.presentation.plan import describe
from tests.unit.planning.worlds import World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_cells_alike_are_one_line(world):
    world.interpreters["gamma"] = "gamma is not installed"
    lines = describe(world.plan("framework=all", "precision=fp32,bf16")).splitlines()
    assert lines[0].startswith("6 cells: 4 to run, 0 measured already, 2 skipped")
    assert lines[1].split() == ["run", "alpha", "toy", "tiny", "b2", "cpu", "eager", "fp32,bf16"]
    assert lines[3].endswith("fp32,bf16  not installed: gamma is not installed")
    assert lines[4].startswith("6 cohorts of 1 group, 12 launches, about ")
    assert "rule of thumb by FLOP for 4 cells" in lines[4]


def test_the_last_line_is_the_command_that_starts_it(world):
    text = describe(world.plan("framework=alpha"), options=["--store", "my runs"])
    assert "dyno run --store 'my runs' workload=toy" in text.splitlines()[-1]


def test_no_control_character_of_a_reason_reaches_the_terminal(world):
    world.interpreters["beta"] = "died: \x1b[31mred\x07"
    assert "\x1b" not in describe(world.plan("framework=alpha,beta"))
