"""Recipes on the terminal: tuned rows are marked, and what they rewrite and gain is told."""

import dataclasses

import pytest

from benchmarks.contract.case import Case, Place, Way, Work
from benchmarks.contract.plan import Cell
from benchmarks.presentation.notes import notes
from benchmarks.presentation.plan import describe
from benchmarks.presentation.wording import way_name
from tests.unit.analysis.records import effective, key_of, plan
from tests.unit.analysis.test_recipes import (
    JAX,
    TIMES,
    TORCH,
    TUNED_JAX,
    TUNED_TORCH,
    launches,
    summary_of,
)
from tests.unit.presentation.test_terminal import rendered, row

REWRITES = {TUNED_TORCH: "the pool", TUNED_JAX: "1x1 convolutions as matmuls"}


def summarised(times, **options):
    """The summary of a run whose tuned cells say what they rewrite."""
    whole = plan(list(times))
    cells = [Cell(one, "run", result_key=key_of(one), rewrites=REWRITES.get(one)) for one in times]
    return summary_of(
        launches(times, **options), list(times), cells=tuple(cells), bases=whole.bases
    )


def lines(summary, beginning):
    return [line for line in notes(summary) if line.startswith(beginning)]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((("recipe", "idiomatic"),), "jax compiled bf16"),
        ((("recompute", "none"), ("recipe", "tuned")), "jax compiled bf16 tuned"),
        ((("recipe", "tuned"), ("recompute", "full")), "jax compiled bf16 recompute=full tuned"),
    ],
)
def test_a_tuned_case_is_marked_and_an_idiomatic_one_is_not(options, name):
    way = Way("jax", "compiled", "bf16", options)
    assert way_name(Case(Work("toy", 1, "tiny", 2), way, Place("cpu"))) == name


@pytest.mark.parametrize("width", [80, 100])
def test_tuned_rows_stand_in_the_table_of_their_group(width):
    text = rendered(summarised(TIMES), width=width)
    table = text.partition("─\n")[2].partition("\n\n")[0]
    assert max(len(line) for line in text.splitlines()) <= width
    assert [table.count(word) for word in ("tuned", "idiomatic")] == [2, 0]


def test_a_tuned_row_has_the_ratio_to_the_tuned_base():
    text = rendered(summarised(TIMES), width=120)
    assert "0.5" in row(text, "jax compiled ")
    assert "1.6" in row(text, "jax compiled tuned")
    assert " base " in row(text, "pytorch eager tuned")
    assert "base: pytorch eager fp32, pytorch eager fp32 tuned" in notes(summarised(TIMES))


def test_a_tuned_row_without_another_one_says_so_in_place_of_a_ratio():
    times = {one: TIMES[one] for one in (TORCH, JAX, TUNED_JAX)}
    text = rendered(summarised(times), width=120)
    assert "no other tuned" in row(text, "jax compiled tuned")
    assert " base " in row(text, "pytorch eager ")
    assert "faster" not in row(text, "jax compiled tuned")


def test_one_line_tells_what_tuning_gains():
    [line] = lines(summarised(TIMES), "gain of tuning")
    assert "resnet50_train small b8 cpu: pytorch eager fp32 tuned 1.25" in line
    assert "jax compiled fp32 tuned 4.0" in line
    assert not lines(summarised({TORCH: 0.2, JAX: 0.4}), "gain of tuning")


def test_a_line_for_each_tuned_way_tells_what_it_rewrites():
    assert lines(summarised(TIMES), "rewritten") == [
        "rewritten in resnet50_train by pytorch eager fp32 tuned: the pool",
        "rewritten in resnet50_train by jax compiled fp32 tuned: 1x1 convolutions as matmuls",
    ]


def test_differences_are_those_between_equal_recipes():
    records = [
        dataclasses.replace(
            one, evidence=dataclasses.replace(one.evidence, effective=effective(layout=layout))
        )
        for one in launches(TIMES)
        for layout in ["NCHW" if one.case in (TORCH, TUNED_JAX) else "NHWC"]
    ]
    summary = summary_of(records, list(TIMES))
    assert lines(summary, "differences") == [
        "differences (fp32): layout = NCHW (pytorch eager) | NHWC (jax compiled)",
        "differences (fp32 tuned): layout = NHWC (pytorch eager tuned) | NCHW (jax compiled tuned)",
    ]


def test_a_plan_lists_tuned_cells_apart():
    reason = "jax has no tuned recipe of resnet50_train"
    skipped = Cell(TUNED_JAX, "skip", "not_implemented", reason)
    text = describe(plan([TORCH, JAX], skipped=[skipped]))
    assert f"fp32 tuned  not implemented: {reason}" in text
