"""Exported files are kept whole, or they are not used."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.worker import exports


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "exported"
    (folder / "below").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "below" / "model.data").write_bytes(b"weights")
    return folder


def test_what_was_kept_is_whole_and_the_same(files: Path, tmp_path: Path) -> None:
    kept = tmp_path / "exports" / "key"
    exports.keep(files, kept)
    assert exports.is_whole(kept)
    assert (kept / "below" / "model.data").read_bytes() == b"weights"
    assert [one.name for one in kept.parent.iterdir()] == ["key"]


@pytest.mark.parametrize("damage", ["shorter", "gone", "more", "unlisted", "garbled"])
def test_a_damaged_folder_is_not_whole_and_is_replaced(
    damage: str, files: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "exports" / "key"
    exports.keep(files, kept)
    if damage == "shorter":
        (kept / "model.onnx").write_bytes(b"grap")
    elif damage == "gone":
        (kept / "model.onnx").unlink()
    elif damage == "more":
        (kept / "model.data").write_bytes(b"")
    elif damage == "unlisted":
        (kept / exports.LIST_FILE).unlink()
    else:
        (kept / exports.LIST_FILE).write_text("{")
    assert not exports.is_whole(kept)
    exports.keep(files, kept)
    assert exports.is_whole(kept)
    assert [one.name for one in kept.parent.iterdir()] == ["key"]


def test_a_half_written_folder_is_never_there(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> str:
        raise OSError(28, f"no space left for {path}")

    monkeypatch.setattr(exports, "_hash", full)
    with pytest.raises(OSError, match="no space left"):
        exports.keep(files, tmp_path / "exports" / "key")
    assert list((tmp_path / "exports").iterdir()) == []


def test_a_program_without_files_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "exported").mkdir()
    exports.keep(tmp_path / "exported", tmp_path / "exports" / "key")
    assert not exports.is_whole(tmp_path / "exports" / "key")
    assert not (tmp_path / "exports").exists()
