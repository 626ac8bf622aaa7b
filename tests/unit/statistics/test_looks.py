"""Verdicts that are asked for again and again stay right: a simulated suite of 12 comparisons."""

import itertools
import math

import numpy as np
import pytest

from benchmarks.analysis.ratios import CaseRatio, judge, shared_prior
from benchmarks.statistics.looks import level_of_look
from benchmarks.statistics.ratios import MARGIN, paired_ratio, verdict
from tests.unit.statistics.machine import log_ratios

NUM_SUITES, NUM_GROUPS, NUM_CASES, MOST_COHORTS = 200, 3, 4, 14
ONE, MIXED, EDGE = (1.0,) * 4, (1.0, 1.01, 1.1, 0.85), (1.0199,) * 4


def test_the_first_look_has_most_of_the_level():
    assert level_of_look(1) == 0.04
    assert level_of_look(2) == pytest.approx(0.005)
    assert level_of_look(3) == pytest.approx(0.01 / 6)


def test_all_looks_together_spend_five_percent():
    assert sum(level_of_look(k) for k in range(1, 10001)) == pytest.approx(0.05, abs=1e-5)
    assert sum(level_of_look(k) for k in range(1, 10001)) < 0.05


def test_the_first_look_is_number_one():
    with pytest.raises(ValueError, match="received number=0, expected 1 or more"):
        level_of_look(0)


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("num_looks", [1, 10])
@pytest.mark.parametrize("truths", [ONE, MIXED, EDGE])
def test_a_suite_has_a_false_verdict_in_one_of_twenty_runs_at_most(truths, num_looks, scale):
    """On a machine with launch effects of 1 to 3 %, and on one of 0.3 to 1 %."""
    verdicts = [
        _suite(generator, np.tile(truths, NUM_GROUPS), num_looks=num_looks, scale=scale)
        for generator in np.random.default_rng(1).spawn(NUM_SUITES)
    ]
    false = [
        any(itertools.starmap(_is_false, zip(said, np.tile(truths, NUM_GROUPS), strict=True)))
        for said in verdicts
    ]
    assert np.mean(false) <= 0.05


def test_measuring_on_decides_more_comparisons():
    once, often = (
        [
            said
            for generator in np.random.default_rng(2).spawn(50)
            for said in _suite(generator, np.tile(MIXED, 3), num_looks=num, scale=0.3)
        ]
        for num in (1, 10)
    )
    assert once.count("cant_tell") > 1.5 * often.count("cant_tell")


def test_looks_at_the_full_level_each_would_decide_falsely_too_often():
    """One comparison whose truth is at the margin's edge, looked at up to 10 times."""
    generator = np.random.default_rng(3)
    draws = math.log(1.02) + 0.02 * generator.standard_normal((1500, 12))
    scheduled = [_is_decided(draw, level_of_look) for draw in draws]
    full = [_is_decided(draw, lambda _: 0.05) for draw in draws]
    assert np.mean(scheduled) <= 0.03  # the half of .05 that is on this side of the margin
    assert np.mean(full) > 0.05


def _suite(generator, truths, *, num_looks, scale):
    """The verdicts of a suite of three groups; what is undecided gets one more cohort a look."""
    groups = [
        log_ratios(
            generator,
            num_runs=1,
            num_cohorts=MOST_COHORTS,
            deviations=scale * np.array((0.01, 0.01, 0.03, 0.015)),
            base_deviation=scale * 0.01,
            tails="t4",
            states=False,
        )[0].T
        for _ in range(NUM_GROUPS)
    ]
    values = np.log(truths)[:, None] + np.concatenate(groups)
    compared = [_compared(i, row[:3], [1, 1, 1]) for i, row in enumerate(values)]
    judged = judge(compared, shared_prior(compared))
    for look in range(2, num_looks + 1):
        if all(one.verdict != "cant_tell" for one in judged):
            break
        compared = [
            one
            if told.verdict != "cant_tell"
            else _compared(i, values[i][: len(one.looks) + 1], [*one.looks, look])
            for i, (one, told) in enumerate(zip(compared, judged, strict=True))
        ]
        judged = judge(compared, shared_prior(compared))
    return [one.verdict for one in judged]


def _compared(index, logs, looks):
    """A comparison as `dyno show` judges it, with these cohorts' log-ratios and looks."""
    return CaseRatio(
        base=f"base {index // NUM_CASES}",
        case=f"case {index}",
        aa=False,
        ratio=paired_ratio(logs),
        verdict="cant_tell",
        log_ratios=tuple(map(float, logs)),
        looks=tuple(looks),
    )


def _is_false(said, truth):
    within = abs(math.log(truth)) <= math.log1p(MARGIN)
    right = {"faster": truth > 1 and not within, "slower": truth < 1 and not within, "same": within}
    return not right.get(said, True)


def _is_decided(draw, level_of):
    return any(
        verdict(paired_ratio(draw[: look + 2]), level=level_of(look)) == "faster"
        for look in range(1, 11)
    )
