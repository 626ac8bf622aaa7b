"""Causes of losses that differ within ten consecutive steps, though step 1 is right.

The step at which the losses part, and by how much, tells the batches from the state: batches have
losses of their own, and a state that is off changes a loss far less than another batch. NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.contract.task import Tolerance

BATCH_SHARE = 0.3
"""Smallest difference of losses, as a share of their spread over the batches, that tells of other
batches."""
NEAR = 4
"""A step had another step's batch if its loss is this many times nearer to that one's."""
MANY = 0.5
"""Share of the steps that are far off if they had other batches: a state drifts far off late."""
MOST = 0.8
"""Share of the steps that are far off that other batches must explain."""


def causes_of_losses(
    losses: Sequence[float], expected: Sequence[float], tolerance: Tolerance
) -> list[str]:
    """The likely causes, the likeliest first; empty if none is known."""
    own, right = np.asarray(losses, np.float64), np.asarray(expected, np.float64)
    if not np.isfinite(own).all():
        return []
    far = np.flatnonzero(np.abs(own - right) > BATCH_SHARE * right.std())
    limit = tolerance.get("losses", 0.0)
    off = np.flatnonzero(np.abs(own - right) > limit * np.abs(right))
    other = _other_batches(own, right, far) if far.size >= MANY * own.size else []
    if other or not off.size or off[0] in far:
        return other
    if off[0] == 0:
        return ["the state that `load` leaves: the first loss is off already"]
    if off[0] == 1:
        return [
            "the state after step 1: with the smaller learning rate of these steps its update is"
            " another one, as if the rate given to the program were ignored"
        ]
    return [
        f"the state, not the batches: the losses part at step {off[0] + 1}, so that an update after"
        f" step 1, at the latest that of step {off[0]}, is skipped or another one"
    ]


def _other_batches(own: np.ndarray, right: np.ndarray, far: np.ndarray) -> list[str]:
    """What batches these steps had, if they are those of other steps."""
    distances = np.abs(own[:, None] - right)
    nearest = distances.argmin(1)
    moved = [step for step in far if NEAR * distances[step, nearest[step]] < distances[step, step]]
    if len(moved) < MOST * len(far):
        return []
    first = int(far[0])
    source = f"step {first + 1} has the loss of the batch of step {nearest[first] + 1}"
    if np.ptp(right[nearest[moved]]) < BATCH_SHARE * right.std():
        return [f"the batches do not rotate: {source}"]
    return [f"the batches are in another order: {source}"]
