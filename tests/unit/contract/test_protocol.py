"""A protocol refuses values that measure nothing."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.contract.protocol import MeasuringProtocol


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_cohorts": 0}, "num_cohorts"),
        ({"min_rounds": 10, "max_rounds": 9}, "max_rounds"),
        ({"block_target_s": 0.0}, "block_target_s"),
        ({"max_launch_s": float("nan")}, "max_launch_s"),
        ({"timeouts_s": {"bulid": 1.0}}, "bulid"),
        ({"timeouts_s": {"build": 0.0}}, "timeouts_s"),
        ({"requests_per_turn": 0}, "requests_per_turn"),
        ({"percentiles": [50, 100]}, "percentiles"),
        ({"percentiles": [10]}, "percentiles"),
    ],
)
def test_refuses_values_out_of_range(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        MeasuringProtocol(**changes)


def test_a_phase_that_is_not_named_keeps_its_default_limit() -> None:
    protocol = MeasuringProtocol(timeouts_s={"build": 7.0})
    assert protocol.timeout_s("build") == 7.0
    assert protocol.timeout_s("import") == 300.0
