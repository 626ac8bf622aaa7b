"""Unseen requests are timed against known ones several times before a program is accused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.contract.evidence import Evidence
from benchmarks.contract.task import WITHHELD
from benchmarks.worker.context import LaunchFailedError
from benchmarks.worker.tasks.inference import task as inference
from benchmarks.worker.tasks.inference.task import NEW, NUM_AUDITS, InferenceTask

TURN_NS = 100


class Audited(InferenceTask):
    """A task whose requests take what the test says: by audit, an unseen and a known one."""

    def __init__(self, audits: Sequence[tuple[int, int]], per_batch: int) -> None:
        self.fed: list[tuple[int, ...]] = []
        self._audits = audits
        self._durations: Iterator[int] = iter(())
        self._request_ns = [TURN_NS] * 5
        self._context: Any = SimpleNamespace(evidence=Evidence())
        self._checker: Any = SimpleNamespace(per_batch=per_batch, feed=self._fed)

    def _fed(self, batches: Sequence[int]) -> None:
        unseen_ns, known_ns = self._audits[len(self.fed)]
        self.fed.append(tuple(batches))
        num = len(batches) * self._checker.per_batch
        self._durations = iter([unseen_ns] * num + [known_ns] * num)

    def time_steps(self, num_steps: int, *, steps_per_sample: int | None = None) -> Any:
        assert (num_steps, steps_per_sample) == (1, None)
        return SimpleNamespace(duration_ns=next(self._durations))


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    made: list[None] = []
    monkeypatch.setattr(inference, "pause", lambda: made.append(None))
    monkeypatch.setattr(inference, "OtherLoad", lambda: SimpleNamespace(disturbs=False))
    return made


@pytest.mark.parametrize("per_batch", [1, 16])
def test_one_audit_is_enough_for_honest_requests(per_batch: int, pauses: list[None]) -> None:
    task = Audited([(TURN_NS, TURN_NS)], per_batch)
    task._audit()
    assert task._context.evidence.share_of_audit == 1.0
    assert (len(task.fed), pauses) == (1, [])


@pytest.mark.parametrize("slow", [(200, TURN_NS), (200, 200)])
def test_a_short_load_in_the_audit_accuses_nobody(
    slow: tuple[int, int], pauses: list[None]
) -> None:
    task = Audited([slow, slow, (TURN_NS, TURN_NS)], 1)
    task._audit()
    assert (len(task.fed), len(pauses)) == (3, 2)


@pytest.mark.parametrize("per_batch", [1, 16])
@pytest.mark.parametrize("audit", [(200, TURN_NS), (200, 200)])
def test_requests_that_are_slower_whenever_they_are_new_were_skipped(
    per_batch: int, audit: tuple[int, int]
) -> None:
    task = Audited([audit] * NUM_AUDITS, per_batch)
    with pytest.raises(LaunchFailedError, match="took 50% of the time"):
        task._audit()
    fed = [index for batches in task.fed for index in batches]
    assert len(set(fed)) == len(fed)
    assert set(fed) <= set(NEW) <= set(WITHHELD)
    if per_batch == 1:
        assert set(fed) == set(NEW)
