"""A worker's report is held against what the parent saw, and no honest worker is accused."""

from __future__ import annotations

from dataclasses import replace

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


@pytest.mark.parametrize(("num_busy", "is_seen"), [(2.4, False), (2.6, True)])
def test_more_threads_wait_at_once_on_a_machine_that_is_never_quiet(
    num_busy: float, is_seen: bool
) -> None:
    blocks = [replace(one, flags=("FOREIGN_LOAD",)) for one in busy(num_busy)]
    assert (too_many_threads(blocks, num_threads=1) is not None) is is_seen


def test_a_prompt_before_the_first_request_is_no_wrong_duration() -> None:
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
            elapsed_ns=31 * token_ns + prompt_ns + 3 * MS,
        )
        for one in range(10)
    ]
    assert wrong_durations(turns, prepares=True) is None
    assert wrong_durations(turns, prepares=False) is not None


def turn(
    share: float = 1.0,
    *,
    late: float = 0.0,
    flags: tuple[str, ...] = (),
) -> Block:
    """Ten steps of 10 ms, told with this share of their time; the parent is `late` by seconds."""
    elapsed_ns = 105 * MS + round(late * 1000 * MS)
    duration_ns = round(share * 100 * MS)
    return Block(0, 0, 10, duration_ns, 1000, 0.0, flags, elapsed_ns=elapsed_ns)


def is_accused(turns: list[Block]) -> bool:
    return wrong_durations(turns, prepares=False) is not None


@pytest.mark.parametrize(
    "turns",
    [
        [turn()] * 20,
        [turn(0.75)] * 20,
        [turn(), turn(late=0.05)],  # dyno was stopped for a moment
        [turn(), turn(late=30.0)],
        [turn(late=30.0), turn(), turn(), turn()],
        [turn()] * 8 + [turn(late=5.0), turn(late=0.3)],
        [turn()] * 8 + [turn(late=0.1)] * 2,  # late in a fifth of the turns
        [turn()] * 6 + [turn(late=0.2)] * 4,  # on a busy machine late now and then
        [turn()] * 6 + [turn(late=0.5, flags=("FOREIGN_LOAD",))] * 6,
        [turn(late=0.5, flags=("FOREIGN_LOAD",))] * 4 + [turn(flags=("FOREIGN_LOAD",))] * 6,
    ],
)
def test_no_honest_worker_is_accused(turns: list[Block]) -> None:
    assert not is_accused(turns)


@pytest.mark.parametrize(
    "turns",
    [
        [turn(0.5)] * 20,
        [turn(0.65)] * 20,
        [turn(0.5), turn(), turn(), turn(0.5), turn()] * 4,  # in 40 % of the turns
        [turn(0.5), turn(), turn()] * 4,
        [turn(0.5, late=0.01), turn(), turn(0.5, late=0.01), turn(), turn()] * 4,
        [turn(0.1)] * 4 + [turn(0.61)] * 5 + [turn(0.72)] * 11,  # by the sum alone
        [turn(1.3)] * 20,
    ],
)
def test_a_clock_that_lies_in_a_part_of_the_turns_is_caught(turns: list[Block]) -> None:
    assert is_accused(turns)


def test_turns_that_were_disturbed_prove_nothing_if_others_were_not() -> None:
    assert not is_accused([turn()] * 4 + [turn(0.1, flags=("SWAP",))] * 6)
    assert is_accused([turn(0.5)] * 4 + [turn(flags=("SWAP",))] * 6)
