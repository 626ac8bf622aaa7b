"""A worker's report is held against what the parent saw, and no honest worker is accused."""

from __future__ import annotations

import pytest

from benchmarks.contract.record import Block
from benchmarks.running.accounting import too_many_threads, wrong_durations

MS = 1_000_000


def busy(num_busy: float) -> list[Block]:
    """Turns of a second in which this many threads had work."""
    elapsed_ns = 1000 * MS
    runnable_ns = round(num_busy * 1005 * MS)
    return [
        Block(one, 0, 10, 900 * MS, 1000, elapsed_ns=elapsed_ns, runnable_ns=runnable_ns)
        for one in range(4)
    ]


@pytest.mark.parametrize(("num_threads", "num_busy"), [(1, 1.3), (2, 2.6), (4, 5.0), (16, 20.0)])
def test_a_second_pool_of_threads_that_hands_over_work_is_not_accused(
    num_threads: int, num_busy: float
) -> None:
    assert too_many_threads(busy(num_busy), num_threads=num_threads) is None


@pytest.mark.parametrize(("num_threads", "num_busy"), [(1, 1.9), (2, 2.9), (4, 5.4), (16, 32.0)])
def test_threads_that_nobody_asked_for_are_seen(num_threads: int, num_busy: float) -> None:
    reason = too_many_threads(busy(num_busy), num_threads=num_threads)
    assert reason is not None
    assert f"had work for {num_busy:.2f} on average" in reason


def test_a_prompt_before_the_untimed_request_is_no_wrong_duration() -> None:
    token_ns, prompt_ns = 20 * MS, 400 * MS
    turns = [
        Block(
            one,
            0,
            31,
            31 * token_ns,
            1000,
            request_ns=(token_ns,) * 31,
            preparation_ns=prompt_ns,
            elapsed_ns=32 * token_ns + prompt_ns + 3 * MS,
        )
        for one in range(10)
    ]
    assert wrong_durations(turns, prepares=True) is None
    assert wrong_durations(turns, prepares=False) is not None
