"""Losses that part tell other batches from another state."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.equivalence.trajectory import causes_of_losses

BATCHES = np.random.default_rng(0).standard_normal(8) * 0.1 + 7
ORDER = [*range(8), 0, 1]
TOLERANCE = {"losses": 1e-10}


def losses_of(order, *, drift=1e-4):
    """The losses of these batches, which fall a little from step to step."""
    return [BATCHES[batch] - drift * step for step, batch in enumerate(order)]


RIGHT = losses_of(ORDER)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ([0] * 10, "the batches do not rotate: step 2 has the loss of the batch of step 1"),
        (
            [0, *range(7, 0, -1), 0, 7],
            "the batches are in another order: step 2 has the loss of the batch of step 8",
        ),
    ],
)
def test_other_batches_are_told_by_their_losses(order, words):
    assert causes_of_losses(losses_of(order), RIGHT, TOLERANCE) == [words]


def test_other_batches_are_told_though_a_coarse_precision_lets_them_pass():
    order = [0, *range(7, 0, -1), 0, 7]
    [cause] = causes_of_losses(losses_of(order), RIGHT, {"losses": 0.5})
    assert cause.startswith("the batches are in another order")


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (0, "the state that `load` leaves"),
        (1, "the state after step 1: with the smaller learning rate"),
        (2, "the losses part at step 3, so that an update after step 1, at the latest that of"),
    ],
)
def test_a_state_that_is_off_changes_the_losses_less_than_batches_do(first, words):
    own = [loss + 1e-4 * max(0, step + 1 - first) for step, loss in enumerate(RIGHT)]
    [cause] = causes_of_losses(own, RIGHT, TOLERANCE)
    assert words in cause


def test_a_state_that_drifts_into_another_batchs_loss_is_not_taken_for_that_batch():
    own = [loss + 1e-4 * max(0, step - 1) for step, loss in enumerate(RIGHT)]
    own[-1] = RIGHT[3]
    [cause] = causes_of_losses(own, RIGHT, TOLERANCE)
    assert "the state, not the batches: the losses part at step 3" in cause


def test_losses_that_agree_and_losses_of_unknown_batches_have_no_cause():
    assert causes_of_losses(RIGHT, RIGHT, TOLERANCE) == []
    assert (
        causes_of_losses(np.random.default_rng(1).permutation(9.0 + np.arange(10)), RIGHT, {}) == []
    )
    assert causes_of_losses([np.nan] * 10, RIGHT, TOLERANCE) == []
