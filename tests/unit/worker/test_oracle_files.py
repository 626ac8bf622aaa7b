"""An oracle's folder, written and read back."""

import numpy as np
import pytest

from benchmarks.worker import oracle_files


@pytest.fixture
def folder(tmp_path):
    read = {"loss": np.array(7.0), "weights/a/kernel": np.arange(4.0).reshape(2, 2)}
    oracle_files.keep_step(tmp_path, read)
    oracle_files.keep_followed(tmp_path, {"optimizer/a/kernel": np.ones(3), "loss": np.array(1.0)})
    oracle_files.keep_numbers(tmp_path, other_loss=6.5, losses=[7.0, 6.0])
    return tmp_path


def test_what_was_kept_is_read_back(folder):
    found = oracle_files.load(folder, identity="abc")
    assert (found.identity, found.other_loss, found.losses) == ("abc", 6.5, (7.0, 6.0))
    assert set(found.step1) == {"loss", "weights/a/kernel"}
    assert found.step1["loss"].shape == ()
    np.testing.assert_array_equal(found.step1["weights/a/kernel"], [[0.0, 1.0], [2.0, 3.0]])
    assert set(found.followed) == {"a/kernel"}


def test_a_folder_without_numbers_is_no_oracle(folder):
    (folder / oracle_files.NUMBERS_FILE).unlink()
    with pytest.raises(OSError, match="numbers"):
        oracle_files.load(folder, identity="abc")


def test_numbers_that_are_not_finite_are_refused(folder):
    with pytest.raises(ValueError, match="JSON"):
        oracle_files.keep_numbers(folder, other_loss=float("nan"), losses=[])
