"""The arguments that plan, run and parity share."""

import argparse

import pytest

from benchmarks.commands.selection import REFUSED_FLAGS, add_selection_arguments, options_of
from benchmarks.errors import UsageError


def parsed(*words):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_selection_arguments(parser)
    return parser.parse_intermixed_args(words)


@pytest.mark.parametrize("flag", [flag for flags in REFUSED_FLAGS for flag in flags])
def test_a_flag_of_hydra_is_refused_with_the_reason(flag):
    for words in ([flag], [flag, "value"], [f"{flag}=value"], ["framework=jax", flag]):
        with pytest.raises(UsageError, match=f"^{flag}: refused, because "):
            parsed(*words)


def test_overrides_and_options_may_be_mixed():
    args = parsed("a=1", "--extend", "x", "b=2", "--store", "s", "--fresh", "c=3", "--extend", "y")
    assert args.overrides == ["a=1", "b=2", "c=3"]
    assert list(map(str, args.extend)) == ["x", "y"]


def test_the_options_can_be_written_again():
    words = ["--store", "s", "--extend", "x", "--extend", "y", "--fresh"]
    assert options_of(parsed("a=1", *words)) == words
    assert options_of(parsed("a=1")) == []
