"""What is written as overrides is what is parsed, and whatever is not is refused with a reason."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.contract.case import Case
from benchmarks.errors import UsageError
from benchmarks.planning.overrides import AXES, parse
from tests.unit.strategies import of_type

OPTIONS = ("sequence_length", "phase")
VALUES = st.integers(0, 10**9) | st.from_regex(r"[a-z][a-z_]{0,9}", fullmatch=True).filter(
    lambda word: word not in ("null", "true", "false", "nan", "inf")
)
"""What axes take: numbers and names."""


@given(
    axes=st.dictionaries(
        st.sampled_from([*AXES, *OPTIONS]), st.lists(VALUES, min_size=1, max_size=4), max_size=4
    ),
    form=st.sampled_from(["{key}={values}", "{key}=[{values}]", "+{key}={values}"]),
)
def test_the_values_of_an_axis_are_those_that_were_written(axes, form):
    words = [form.format(key=key, values=",".join(map(str, axes[key]))) for key in axes]
    found = parse(words, options=OPTIONS)
    assert found.axes == {key: tuple(values) for key, values in axes.items()}
    assert (found.groups, found.hydra) == ({}, ())


@given(
    start=st.integers(-1000, 1000),
    length=st.integers(1, 100),
    step=st.integers(-50, 50).filter(bool),
)
def test_a_range_is_pythons(start, length, step):
    expected = range(start, start + length * step, step)
    found = parse([f"seed=range({expected.start},{expected.stop},{expected.step})"])
    assert found.axes == {"seed": tuple(expected)}


@given(text=st.text() | st.from_regex(r"[+~]{0,2}(seed|protocol\.[a-z_]+|hydra)=.*"))
def test_an_override_is_parsed_or_refused_and_nothing_else_happens(text):
    with contextlib.suppress(UsageError):
        found = parse([text])
        assert len(found.axes) + len(found.groups) + len(found.hydra) == 1


@given(case=of_type(Case))
def test_the_axes_of_a_case_name_all_of_it_but_its_seed(case):
    named = {**case.axes(), "seed": case.work.seed}
    assert set(AXES) <= set(named)
