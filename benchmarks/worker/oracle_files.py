"""An oracle's folder: the float64 results that a program is compared with.

Training:

    step1/<name>.npy        `Program.read` after one step from the canonical weights
    numbers.json            losses: step 1 on another batch, and ten consecutive steps
    followed/<name>.npy     the optimizer's state after the ten steps, if they were computed
    followed_second/<name>.npy      its second moment, if it keeps one

Inference:

    answers/batch<i>.npy    the logits of a batch's requests, RBV

Standard library, NumPy and the contract only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contract.program import Arrays

NUMBERS_FILE = "numbers.json"
STEP_FOLDER = "step1"
FOLLOWED_FOLDER = "followed"
SECOND_FOLDER = "followed_second"
ANSWERS_FOLDER = "answers"
OPTIMIZER_PREFIX = "optimizer/"
SECOND_MOMENT_PREFIX = "second_moment/"
OTHER_BATCH = 1
"""Index of the batch on which step 1 is repeated, to check that the loss depends on the batch."""
NUM_FOLLOWED_STEPS = 10


@dataclass(frozen=True)
class Oracle:
    """The content of an oracle's folder; arrays are memory-mapped from their files."""

    identity: str
    step1: Arrays
    other_loss: float
    """Loss of step 1 on the batch with index OTHER_BATCH."""
    losses: tuple[float, ...]
    """Losses of the ten consecutive steps; empty if they were not computed."""
    followed: Arrays
    """The optimizer's state after the ten steps, by the names of the parameters."""
    followed_second: Arrays = field(default_factory=dict)
    """The optimizer's second moment after the ten steps, if it keeps one."""


def load(folder: Path, *, identity: str) -> Oracle:
    """The oracle in this folder; OSError or KeyError if it holds none."""
    numbers = json.loads((folder / NUMBERS_FILE).read_text(encoding="utf-8"))
    return Oracle(
        identity=identity,
        step1=_arrays(folder / STEP_FOLDER),
        other_loss=float(numbers["other_loss"]),
        losses=tuple(numbers["losses"]),
        followed=_arrays(folder / FOLLOWED_FOLDER),
        followed_second=_arrays(folder / SECOND_FOLDER),
    )


def keep_step(folder: Path, read: Arrays) -> None:
    """Write the arrays that a holder of the oracle has after step 1."""
    _save(folder / STEP_FOLDER, read)


def keep_followed(folder: Path, read: Arrays) -> None:
    """Write the optimizer's state after the ten consecutive steps."""
    _save(folder / FOLLOWED_FOLDER, states_of(read, OPTIMIZER_PREFIX))
    _save(folder / SECOND_FOLDER, states_of(read, SECOND_MOMENT_PREFIX))


def keep_answers(folder: Path, logits: Arrays) -> None:
    """Write the logits that a holder of the oracle computed, by batch."""
    _save(folder / ANSWERS_FOLDER, logits)


def load_answers(folder: Path) -> Arrays:
    """The logits in this oracle's folder, by batch."""
    return _arrays(folder / ANSWERS_FOLDER)


def states_of(read: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """The arrays of `Program.read` with this prefix, by the names of the parameters."""
    return {name.removeprefix(prefix): read[name] for name in read if name.startswith(prefix)}


def keep_numbers(folder: Path, *, other_loss: float, losses: Sequence[float]) -> None:
    """Write the losses; this file is written last."""
    numbers: Mapping[str, Any] = {"other_loss": other_loss, "losses": list(losses)}
    (folder / NUMBERS_FILE).write_text(json.dumps(numbers, allow_nan=False), encoding="utf-8")


def _save(folder: Path, arrays: Arrays) -> None:
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array, allow_pickle=False)


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.relative_to(folder).with_suffix("").as_posix(): np.load(
            path, mmap_mode="r", allow_pickle=False
        )
        for path in sorted(folder.rglob("*.npy"))
    }
