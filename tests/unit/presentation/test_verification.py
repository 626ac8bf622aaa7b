"""Proofs on the terminal."""

import io

import pytest
from rich.console import Console

from benchmarks.contract.evidence import (
    FAIL,
    INHERITED,
    PASS,
    SKIP,
    Check,
    Evidence,
    ParityVerdict,
    ProductPrecision,
)
from benchmarks.contract.program import Effective
from benchmarks.documents.parity import ProvenCell
from benchmarks.presentation.verification import furthest, render_parity
from tests.unit.analysis.records import case

CHECKS = (
    Check("loss", 1e-8, 1e-6),
    Check("gradient", 4e-3, 5e-3, "head/kernel"),
    Check("cosine", 0.9, None),
)
EVIDENCE = Evidence(
    precision={name: ProductPrecision(1e-7, "fp32") for name in ("gemm", "convolution")},
    effective=Effective("float32", "float32", 5, layout="NHWC"),
)
CELLS = [
    ProvenCell(case(), ParityVerdict(PASS, CHECKS), EVIDENCE, holders=("jax", "pytorch")),
    ProvenCell(
        case("jax", "compiled"),
        ParityVerdict(
            FAIL,
            (Check("loss", 1e-3, 1e-6), Check("gradient", None, 5e-3, "head/bias")),
            reason="loss of step 1: off by 0.001",
            first_difference="statistics of stem/conv/bn/mean",
            causes=("padding \x1b[31m(SAME)",),
        ),
        EVIDENCE,
    ),
    ProvenCell(case("keras_tensorflow"), ParityVerdict(INHERITED, reason="proven at small b8")),
    ProvenCell(case("mlx"), ParityVerdict(SKIP, reason="not installed: no mlx")),
    ProvenCell(case("mlx", "compiled"), ParityVerdict(SKIP, reason="not installed: no mlx")),
]


def rendered(cells=CELLS, *, width=100):
    stream = io.StringIO()
    render_parity(cells, Console(file=stream, width=width))
    return stream.getvalue()


def test_a_cell_shows_the_check_that_used_most_of_its_tolerance():
    line = next(line for line in rendered().splitlines() if "pytorch eager fp32" in line)
    assert line.split()[3:] == ["pass", "gradient", "4.0e-03", "5.0e-03", "fp32", "float32", "NHWC"]


def test_a_failure_lists_every_check_that_fails_the_first_difference_and_the_cause():
    text = rendered()
    assert "FAIL resnet50_train/small/b8/jax/compiled/fp32/cpu" in text
    assert "loss of step 1: off by 0.001, at most 1e-06" in text
    assert "gradient (head/bias): not finite, at most 0.005" in text
    assert "first to differ: statistics of stem/conv/bn/mean" in text
    assert "likely: padding (SAME)" in text
    assert "\x1b" not in text


def test_skips_are_one_line_for_each_reason_and_all_are_counted():
    text = rendered()
    assert "skipped: mlx eager fp32, mlx compiled fp32: not installed: no mlx" in text
    assert "1 cell passed, 1 cell failed, 1 cell inherited, 2 cells skipped" in text
    assert "inherited: keras_tensorflow eager fp32: proven at small b8" in " ".join(text.split())
    assert "computed by jax and pytorch" in text


@pytest.mark.parametrize("width", [80, 100])
def test_tables_fit_and_names_are_whole(width):
    table = [line for line in rendered(width=width).splitlines() if "fp32" in line]
    assert all("skipped" in line or len(line) <= width for line in table)
    assert "keras_tensorflow eager fp32" in rendered(width=width)


def test_the_furthest_check_is_a_failure_where_there_is_one():
    assert furthest(CHECKS).name == "gradient"
    assert furthest([*CHECKS, Check("changed", 1.0, 0.0)]).name == "changed"
    assert furthest([*CHECKS, Check("update", None, 1.0)]).name == "update"
    assert furthest([Check("cosine", 0.9, None)]) is None
    assert furthest([*CHECKS, Check("flop", 0.24, 0.25)]).name == "gradient"
    assert furthest([*CHECKS, Check("flop", 0.5, 0.25)]).name == "flop"
