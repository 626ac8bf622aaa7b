from __future__ import annotations

import pytest

from benchmarks.planning.catalog import discover
from tests.overhead.dyno_runs import MeasurementFailedError
from tests.overhead.planted_slowdown import (
    EXTENSION,
    WANTED,
    SlowRun,
    Truth,
    bias_of,
    calibrated,
    next_amount,
    rows,
    run_of,
    truth_of,
)

PLAIN_NS = 100_000


class Machine:
    """Steps on which each product takes a given share of a plain step."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.asked: list[tuple[int, int]] = []

    def __call__(self, num_products: int, num_pairs: int) -> list[list[int]]:
        self.asked.append((num_products, num_pairs))
        return [[round(PLAIN_NS * (1 + self.share * num_products)), PLAIN_NS]] * num_pairs


def slow_run(ratio: float | None, *, verdict: str = "slower", width: float = 0.01) -> SlowRun:
    return SlowRun(
        "pytorch_slow10",
        seconds=60.0,
        ratio=ratio,
        low=None if ratio is None else ratio - width,
        high=None if ratio is None else ratio + width,
        half_width=None if ratio is None else width,
        verdict=verdict,
        num_launches=3,
        status="ok",
        parity="pass",
    )


def test_the_truth_is_the_median_of_the_pairs_ratios() -> None:
    pairs = [[108, 100], [110, 100], [112, 100]] * 20 + [[900, 100]] * 20
    truth = truth_of(pairs, 7)
    assert (truth.num_products, truth.num_pairs, truth.slowdown) == (7, 80, pytest.approx(1.11))
    assert truth.standard_error > 0


def test_equal_pairs_leave_no_error() -> None:
    assert truth_of([[110, 100]] * 40, 1).standard_error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("wanted", WANTED.values())
def test_the_amount_is_adjusted_until_the_slow_down_is_as_wanted(wanted: float) -> None:
    machine = Machine(0.002)
    truth = calibrated(wanted, machine, num_pairs=200)
    assert abs(truth.slowdown - wanted) <= 0.005
    assert truth.num_products == round((wanted - 1) / 0.002)
    assert machine.asked[-1] == (truth.num_products, 200)


def test_a_slow_down_that_no_amount_can_give_is_an_error_with_the_tries() -> None:
    with pytest.raises(MeasurementFailedError, match=r"1 products: 1\.2000"):
        calibrated(1.03, Machine(0.2), num_pairs=20)


def a_try(num_products: int, slowdown: float, *, error: float = 0.001) -> Truth:
    return Truth(num_products, 60, slowdown, error)


def test_the_next_amount_is_in_proportion_and_at_least_one() -> None:
    assert next_amount([a_try(40, 1.08)], 1.10) == 50
    assert next_amount([a_try(2, 1.9)], 1.03) == 1


@pytest.mark.parametrize("slowdown", [0.99, 1.0, 1.0001])
def test_the_next_amount_is_at_most_four_times_the_largest(slowdown: float) -> None:
    assert next_amount([a_try(40, slowdown), a_try(10, slowdown)], 1.10) == 160


def test_a_disturbed_try_hardly_moves_the_next_amount() -> None:
    calm = [a_try(40, 1.08), a_try(50, 1.10)]
    assert next_amount([*calm, a_try(50, 1.40, error=0.2)], 1.10) == 50


def test_the_bias_is_the_mean_estimate_over_the_truth() -> None:
    truth = Truth(50, 200, slowdown=1.25, standard_error=0.0)
    bias, error = bias_of([slow_run(0.81), slow_run(0.79), slow_run(None)], truth) or (0, 0)
    assert bias == pytest.approx((0.81 * 0.79) ** 0.5 * 1.25 - 1)
    assert error == pytest.approx(0.0125, rel=1e-3)


def test_the_truth_is_uncertain_too() -> None:
    truth = Truth(50, 200, slowdown=1.25, standard_error=0.025)
    _, error = bias_of([slow_run(0.8), slow_run(0.8)], truth) or (0, 0)
    assert error == pytest.approx(0.02)


def test_one_run_shows_no_bias() -> None:
    assert bias_of([slow_run(0.9)], Truth(50, 200, 1.1, 0.001)) is None


def test_the_table_counts_what_was_found() -> None:
    truths = {"pytorch_slow10": Truth(50, 200, slowdown=1.1, standard_error=0.0011)}
    runs = [slow_run(0.91), slow_run(0.905, verdict="cant_tell"), slow_run(0.99, verdict="same")]
    _, row = rows(runs, truths)
    assert row[:6] == ("pytorch_slow10", "0.9091 +- 0.0009", "3", "1", "1", "0.9342")
    assert row[7:] == ("2 of 3", "1.0", "60")


def test_a_run_is_read_from_its_document() -> None:
    document = {
        "cells": [
            {"case_id": "work/pytorch", "framework": "pytorch", "status": "ok", "parity": "pass"},
            {"case_id": "work/slow", "framework": "slow", "status": "ok", "parity": "fail"},
        ],
        "ratios": [
            {
                "base": "work/pytorch",
                "case": "work/slow",
                "ratio": 0.9,
                "low": 0.88,
                "high": 0.92,
                "num_launches": 4,
                "verdict": "slower",
            }
        ],
    }
    run = run_of("slow", document, 12.0)
    assert (run.ratio, run.verdict, run.num_launches, run.parity) == (0.9, "slower", 4, "fail")


def test_every_slowed_framework_has_its_program() -> None:
    catalog = discover([EXTENSION])
    for name in WANTED:
        entry = catalog.implementations["resnet50_train", name]
        assert entry.module == "slowed.workloads.resnet50.pytorch_slow.training"
        assert entry.differs is None
