"""The lines above a run's tables."""

from benchmarks.contract.plan import Interpreter
from benchmarks.presentation.headline import headline
from tests.unit.analysis.records import case, cohorts
from tests.unit.presentation.test_terminal import BASE, SLOW, TIMES, summary_of

PYTHON = {"python": "3.12"}


def lines(records, **interpreters):
    return list(headline(summary_of(records, interpreters=interpreters)))


def test_the_run_and_the_machine_are_told():
    run, machine = lines(cohorts(TIMES))
    assert run == "run run1, 2026-11-01 00:00Z, suite quick, protocol quick"
    assert machine == "Test CPU, 2 cores, 8 GiB"


def test_versions_are_the_frameworks_own_without_their_local_part():
    found = lines(
        cohorts(TIMES),
        pytorch=Interpreter("/p", {**PYTHON, "torch": "2.13.0+cpu"}, {}),
        jax=Interpreter("/p", {**PYTHON, "jax": "0.10.2", "jaxlib": "0.10.1"}, {}),
    )
    assert found[2:] == ["pytorch 2.13.0, jax 0.10.2"]


def test_versions_are_those_of_what_was_measured():
    found = lines(
        cohorts({BASE: 0.2}),
        pytorch=Interpreter("/p", {"torch": "2.13.0"}, {}),
        jax=Interpreter("/p", {"jax": "0.10.2"}, {}),
    )
    assert found[2:] == ["pytorch 2.13.0"]


def test_frameworks_with_one_distribution_are_named_after_it():
    layers = [case("layers_a"), case("layers_b")]
    versions = {name: Interpreter("/p", {"layers": "3.1"}, {}) for name in ("layers_a", "layers_b")}
    records = cohorts(dict.fromkeys(layers, 0.1))
    summary = summary_of(records, cases=layers, interpreters=versions)
    assert list(headline(summary))[2:] == ["layers 3.1"]


def test_a_probe_that_failed_leaves_no_version():
    found = lines(cohorts({SLOW: 0.2}), jax=Interpreter("/p", {}, {}, probe_failure="died"))
    assert len(found) == 2


def test_no_control_character_of_a_record_reaches_the_terminal():
    [_, _, versions] = lines(
        cohorts({BASE: 0.2}), pytorch=Interpreter("/p", {"torch": "2\x1b[31m\x07"}, {})
    )
    assert versions == "pytorch 2"
