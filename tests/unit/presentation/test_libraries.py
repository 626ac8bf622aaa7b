"""Libraries on the terminal: named after what they compute with, and what they cost."""

import dataclasses
import re

import pytest

from benchmarks.contract.evidence import NOT_COMPARABLE, ParityVerdict
from benchmarks.presentation.answers import answers
from benchmarks.presentation.notes import notes
from tests.unit.analysis.records import cohorts
from tests.unit.analysis.test_libraries import EQUINOX, JAX, TIMES, TORCH, library, summary_of
from tests.unit.presentation.test_terminal import rendered, row

HAIKU = library("haiku")


@pytest.fixture
def summary():
    times = {**TIMES, HAIKU: 0.11}
    return summary_of(cohorts(times, wobble=0.001), list(times))


def costs(summary):
    return [line for line in notes(summary) if line.startswith("cost of libraries")]


def test_a_row_names_what_the_library_computes_with(summary):
    text = rendered(summary, width=120)
    assert row(text, "jax · equinox compiled")
    assert "jax · jax" not in text


def test_one_line_tells_what_the_libraries_cost(summary):
    [line] = costs(summary)
    assert "resnet50_train small b8 cpu: jax · equinox compiled fp32 against jax 0.8" in line
    assert "jax · haiku compiled fp32 against jax 0.9" in line
    assert line.endswith("slower")


def test_a_run_without_libraries_has_no_such_line():
    assert not costs(summary_of(cohorts({TORCH: 0.2, JAX: 0.1}), [TORCH, JAX]))


def test_a_library_on_the_base_itself_is_told_once():
    summary = summary_of(cohorts({JAX: 0.1, EQUINOX: 0.125}, wobble=0.001), [JAX, EQUINOX])
    assert len(costs(summary)) == 1


def test_why_mathematics_is_not_comparable_is_told():
    differs = ParityVerdict(NOT_COMPARABLE, reason="no weight decay")
    records = [
        dataclasses.replace(one, evidence=dataclasses.replace(one.evidence, parity=differs))
        if one.case == EQUINOX
        else one
        for one in cohorts({JAX: 0.1, EQUINOX: 0.125}, wobble=0.001)
    ]
    summary = summary_of(records, [JAX, EQUINOX])
    assert re.search(
        r"63\.99 \[63\.82, 64\.16\] +(⊘|x) not comparable ",
        row(rendered(summary, width=120), "jax · equinox"),
    )
    assert "would halve" not in "\n".join(notes(summary))
    [line] = costs(summary)
    assert line.endswith("jax · equinox compiled fp32 against jax not comparable")
    assert (
        "different mathematics, not compared: jax · equinox compiled fp32: no weight decay"
        in notes(summary)
    )
    assert answers(summary.cells, summary) == [
        "nothing is decided yet: no case has the same mathematics as its base;"
        " not ranked: jax · equinox compiled"
    ]
