"""An oracle's folder: what the first step must leave, in float64, and ten steps that follow.

    step1/<name>.npy        `Program.read` after one step from the canonical weights
    numbers.json            losses and norms: of step 1, of step 1 on another batch, of ten steps
    followed/<name>.npy     the optimizer's state after the ten steps, where they were followed
    followed_second/<name>.npy      its second moment, where it keeps one

Of inference:

    answers/batch<i>.npy    the logits behind the answers to a batch's requests, RBV

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
"""Index of the batch on which step 1 is made a second time, to see that the batch matters."""
NUM_FOLLOWED_STEPS = 10


@dataclass(frozen=True)
class Oracle:
    """What an oracle's folder holds; arrays are mapped from their files."""

    identity: str
    step1: Arrays
    other_loss: float
    """Loss of step 1 on the batch with index OTHER_BATCH."""
    losses: tuple[float, ...]
    """Of the followed steps; empty where they were not followed."""
    followed: Arrays
    """The optimizer's state after them, by the names of the parameters."""
    followed_second: Arrays = field(default_factory=dict)
    """Its second moment, where it keeps one."""


def load(folder: Path, *, identity: str) -> Oracle:
    """The oracle in this folder; OSError or KeyError where it is none."""
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
    """Write what a holder of the oracle read after step 1."""
    _save(folder / STEP_FOLDER, read)


def keep_followed(folder: Path, read: Arrays) -> None:
    """Write the optimizer's state after the followed steps."""
    _save(folder / FOLLOWED_FOLDER, states_of(read, OPTIMIZER_PREFIX))
    _save(folder / SECOND_FOLDER, states_of(read, SECOND_MOMENT_PREFIX))


def keep_answers(folder: Path, logits: Arrays) -> None:
    """Write what a holder of the oracle answered, by batch."""
    _save(folder / ANSWERS_FOLDER, logits)


def load_answers(folder: Path) -> Arrays:
    """The logits in this oracle's folder, by batch."""
    return _arrays(folder / ANSWERS_FOLDER)


def states_of(read: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """What a program read under this prefix, by the names of the parameters."""
    return {name.removeprefix(prefix): read[name] for name in read if name.startswith(prefix)}


def keep_numbers(folder: Path, *, other_loss: float, losses: Sequence[float]) -> None:
    """Write the losses; the last of the files."""
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
