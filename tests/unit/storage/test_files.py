import os
from pathlib import Path

import pytest

from benchmarks.storage.files import replace_whole


def test_a_missing_folder_is_made_and_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "probe.json"
    for text in ("before", "after"):
        replace_whole(path, text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_what_was_there_and_nothing_else(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.json"
    replace_whole(path, "before")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space"):
        replace_whole(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
