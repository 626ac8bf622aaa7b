from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tests.overhead import kept_results
from tests.overhead.kept_results import kept, shown, table


def arguments(path: Path, *, resume: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    kept_results.add_arguments(parser)
    return parser.parse_args(["--out", str(path), *(["--resume"] if resume else [])])


def test_goes_on_with_what_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    first = kept(arguments(path, resume=False), {"cells": ("a", "b")})
    first.facts["truth"] = 1.1
    first.add({"index": 0})
    again = kept(arguments(path, resume=True), {"cells": ("a", "b")})
    again.add({"index": 1})
    found = kept(arguments(path, resume=True), {"cells": ("a", "b")})
    assert found.results == [{"index": 0}, {"index": 1}]
    assert found.facts == {"truth": 1.1}


def test_refuses_to_overwrite_results_that_nobody_asked_to_go_on_with(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    kept(arguments(path, resume=False), {}).add({"index": 0})
    with pytest.raises(ValueError, match="--resume"):
        kept(arguments(path, resume=False), {})


def test_refuses_to_go_on_with_other_settings(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    kept(arguments(path, resume=False), {"duty": 0.5}).add({"index": 0})
    with pytest.raises(ValueError, match=r"received \{'duty': 0.6\}"):
        kept(arguments(path, resume=True), {"duty": 0.6})


def test_a_table_has_its_first_column_to_the_left_and_the_others_to_the_right() -> None:
    assert table([("", "runs"), ("quiet", "2"), ("b", "10")]) == (
        "       runs\nquiet     2\nb        10"
    )


def test_a_missing_number_is_a_question_mark() -> None:
    assert (shown(None, ".1f"), shown(0.0, ".1f")) == ("?", "0.0")
