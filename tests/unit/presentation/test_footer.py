"""The few lines below a run's tables."""

import dataclasses

import pytest

from benchmarks.contract.evidence import INHERITED, PASS, Evidence
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.presentation.footer import EVERYTHING_ELSE, footer
from tests.unit.analysis.records import case, cohorts, record
from tests.unit.presentation.test_terminal import BASE, FAST, SLOW, TIMES, summary_of


def lines(records, **changes):
    return list(footer(summary_of(records, **changes)))


def undecided(num, *, step_s=0.19, wobble=0.05):
    """The case is a little faster than the base, and varies."""
    shifts = (1.0, -1.0, 0.0)
    return [
        one
        for c in range(num)
        for one in (
            record(BASE, c, [0.2] * 8),
            record(FAST, c, [step_s * (1 + wobble * shifts[c % 3])] * 8),
        )
    ]


def test_what_is_decided_needs_four_lines():
    found = lines(cohorts(TIMES, wobble=0.004))
    assert [line.partition(":")[0] for line in found] == [
        "[low, high]",
        "noise",
        "equal work",
        "dyno show --notes",
    ]
    assert found[1] == "noise: of 24 rounds none disturbed; speeds are of undisturbed steps"
    assert found[2] == "equal work: 3 of 3 cases proven against the float64 reference"


def test_rounds_that_are_dropped_kept_or_taken_again_are_counted():
    dropped = record(BASE, 0, [0.2] * 8, flags={2: ["FOREIGN_LOAD"]})
    again = dataclasses.replace(dropped, blocks=(*dropped.blocks, record(BASE, 0).blocks[2]))
    [_, noise, *_] = lines([again, record(FAST, 0)])
    assert "of 8 rounds 1 taken again;" in noise
    in_part = dataclasses.replace(
        again.blocks[0], sample_ns=(again.blocks[0].duration_ns - 1, 1), disturbed_samples=(1,)
    )
    [_, noise, *_] = lines([dataclasses.replace(dropped, blocks=(in_part,)), record(FAST, 0)])
    assert "of 8 rounds 1 disturbed in part;" in noise
    [_, noise, *_] = lines([dropped, record(FAST, 0)])
    assert "of 8 rounds 1 dropped;" in noise
    most = record(BASE, 0, flags={number: ["SWAP"] for number in range(6)})
    [_, noise, *_] = lines([most])
    assert "of 8 rounds 6 kept although disturbed;" in noise


def test_cases_that_are_not_proven_are_counted():
    records = [
        dataclasses.replace(one, evidence=Evidence()) if one.case == SLOW else one
        for one in cohorts(TIMES)
    ]
    assert any(
        line.startswith("equal work: 2 of 3 cases proven") and "not ranked" in line
        for line in lines(records)
    )


def test_the_same_command_decides_what_is_within_the_limit():
    protocol = MeasuringProtocol(num_cohorts=3, max_cohorts=40, max_time_s=1e6)
    [*_, advice, last] = lines(undecided(3), cases=(BASE, FAST), protocol=protocol)
    assert advice.startswith(
        "next: the same dyno run again adds to this, and should decide 1 row: about "
    )
    assert "more cohort" in advice
    assert last == EVERYTHING_ELSE


def test_a_fresh_run_is_continued_without_that():
    protocol = MeasuringProtocol(num_cohorts=3, max_cohorts=40, max_time_s=1e6)
    summary = summary_of(undecided(3), cases=(BASE, FAST), protocol=protocol)
    [*_, advice, _] = footer(dataclasses.replace(summary, is_fresh=True))
    assert advice.startswith(
        "next: the same dyno run without --fresh adds to this, and should decide 1 row"
    )


def test_what_was_proven_at_another_size_is_counted_apart():
    summary = summary_of(cohorts(TIMES))
    cells = [
        dataclasses.replace(
            one, parity=dataclasses.replace(one.parity, status=INHERITED if i else PASS)
        )
        for i, one in enumerate(summary.cells)
    ]
    found = list(footer(dataclasses.replace(summary, cells=tuple(cells))))
    expected = "proven against the float64 reference, 2 at another size"
    assert found[2] == f"equal work: 1 of 3 cases {expected}"


def test_a_limit_that_is_too_low_is_to_be_raised():
    protocol = MeasuringProtocol(num_cohorts=3, max_cohorts=3, max_time_s=1e6)
    [*_, advice, _] = lines(undecided(3), cases=(BASE, FAST), protocol=protocol)
    assert advice.startswith("next: the same dyno run with protocol.max_cohorts=")
    assert "--max-time" not in advice


def test_more_time_is_to_be_given_if_the_protocols_is_too_short():
    protocol = MeasuringProtocol(num_cohorts=3, max_cohorts=40, max_time_s=1.0)
    [*_, advice, _] = lines(undecided(3), cases=(BASE, FAST), protocol=protocol)
    assert advice.startswith("next: the same dyno run with --max-time ")


def test_the_seconds_are_those_of_the_cases_and_their_base():
    """A launch of each takes 8 s; the one that is decided is not launched again."""
    protocol = MeasuringProtocol(num_cohorts=3, max_cohorts=40)
    records = [*undecided(3), *(record(SLOW, c, [0.4] * 8) for c in range(3))]
    found = summary_of(records, protocol=protocol).outlook
    assert found.more_s == pytest.approx(found.more_cohorts * 2 * 8.0)


def test_a_difference_on_the_edge_of_a_tie_is_too_close_to_call():
    records = undecided(3, step_s=0.2 / 1.02, wobble=0.03)
    [*_, advice, _] = lines(records, cases=(BASE, FAST))
    assert advice == "too close to call, however many launches: 1 row"


def test_cases_without_a_result_are_to_be_measured():
    [*_, advice, _] = lines(cohorts({BASE: 0.2}), cases=(BASE, FAST))
    assert advice == "next: the same dyno run again measures 1 case without a result"


def test_a_single_launch_needs_two_more():
    found = summary_of(cohorts({BASE: 0.2, FAST: 0.1}, num=1), cases=(BASE, FAST)).outlook
    assert (found.num_within, found.more_cohorts) == (1, 2)


def test_all_kinds_of_lines_are_six_at_most():
    close = [record(SLOW, c, [0.2 / 1.02 * (1, 1.03, 0.97)[c]] * 8) for c in range(3)]
    found = lines([*undecided(3, step_s=0.1, wobble=0.3), *close], cases=(*TIMES, case("mlx")))
    assert "should decide 1 row" in found[3]
    assert "too close to call" in found[3]
    assert "without a result" in found[4]
    assert len(found) == 6
