"""Canonical arrays have the same bytes for every process, and are complete or absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.contract.case import Work
from benchmarks.worker import canonical
from workloads.resnet50 import training_spec as spec

WORK = Work("resnet50_train", 1, "tiny", 2)
SPEC = spec.SPECS["resnet50_train"]


def test_what_is_written_is_what_the_spec_says(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    canonical.write(SPEC, WORK, folder)
    weights = canonical.read_weights(folder)
    expected = dict(spec.weights(WORK))
    assert weights.keys() == expected.keys()
    assert all(np.array_equal(weights[name], expected[name]) for name in expected)
    batches = canonical.read_batches(folder)
    assert len(batches) == 8
    assert np.array_equal(batches[3]["images"], spec.batch(WORK, 3)["images"])
    assert not np.array_equal(batches[3]["images"], batches[4]["images"])


def test_a_failure_leaves_no_half_written_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, array: np.ndarray, allow_pickle: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(canonical.np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        canonical.write(SPEC, WORK, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_already_there_stays(tmp_path: Path) -> None:
    canonical.write(SPEC, WORK, tmp_path / "data")
    canonical.write(SPEC, WORK, tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
