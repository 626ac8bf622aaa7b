import json
import os
import resource
from pathlib import Path

import pytest

from benchmarks.errors import StoreError
from benchmarks.storage import frames

BODIES = [{"n": 0}, {"n": 1.5}, {"n": "☃"}, {"n": '"'}, {"n": None}]


def bodies(path: Path) -> list[dict]:
    return [frame.body for frame in frames.read(path)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "records.jsonl"
    for body in BODIES:
        frames.append(path, frames.encode(body))
    return path


def test_reads_back_what_was_appended_with_its_offsets(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    assert bodies(file) == BODIES
    assert [frame.offset for frame in frames.read(file)] == [
        sum(map(len, lines[:i])) for i in range(5)
    ]


def test_each_line_is_plain_json_to_other_tools(file: Path) -> None:
    assert [json.loads(line)["rec"] for line in file.read_text().splitlines()] == BODIES


def test_recovers_from_a_cut_at_every_byte(file: Path) -> None:
    whole = file.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 0x0A]
    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        num_whole = sum(end <= cut for end in ends)
        assert bodies(file) == BODIES[:num_whole], cut
        frames.append(file, frames.encode({"n": "added"}))
        assert bodies(file) == [*BODIES[:num_whole], {"n": "added"}], cut


def test_moves_a_torn_tail_aside_and_not_away(file: Path) -> None:
    torn = frames.encode({"n": 5})[:-7]
    with file.open("ab") as stream:
        stream.write(torn)
    frames.append(file, frames.encode({"n": 6}))
    assert file.with_name("records.jsonl.quarantine").read_bytes() == torn + b"\n"


def test_detects_every_flipped_bit(file: Path) -> None:
    whole = bytearray(file.read_bytes().partition(b"}\n{")[0] + b"}\n" + frames.encode({"n": 7}))
    undetected = []
    for bit in range(len(whole) * 8):
        whole[bit // 8] ^= 1 << bit % 8
        file.write_bytes(whole)
        try:
            frames.read(file)
        except StoreError as error:
            assert "byte" in str(error)  # noqa: PT017 - thousands of files: no context each
        else:
            undetected.append(bit)
        whole[bit // 8] ^= 1 << bit % 8
    assert undetected == []
    file.write_bytes(whole)
    assert bodies(file) == [BODIES[0], {"n": 7}]


def test_names_file_and_offset_of_damage_in_the_middle(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b"garbage\n" + b"".join(lines[2:]))
    with pytest.raises(StoreError, match=rf"{file.name} is damaged at byte {len(lines[0])}: "):
        frames.read(file)


def test_never_appends_after_a_damaged_end(file: Path) -> None:
    content = file.read_bytes()[:-1] + b"\x0b"
    file.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        frames.append(file, frames.encode({"n": 5}))
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 200_000 + b"}",
        b"[1]",
        b"\xff{}",
    ],
    ids=lambda raw: raw[:20].decode(errors="replace"),
)
def test_refuses_ambiguous_or_hostile_json(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        frames.parse_object(raw)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_refuses_to_write_what_is_not_finite(number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        frames.encode({"a": number})


def test_refuses_lines_and_files_over_their_size(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 64)
    with pytest.raises(ValueError, match="at most 64"):
        frames.encode({"a": "x" * 64})
    monkeypatch.setattr(frames, "MAX_FILE_BYTES", 10)
    with pytest.raises(StoreError, match="larger than 10 bytes"):
        frames.read(file)


def test_a_full_disk_leaves_the_file_as_it_was(file: Path) -> None:
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(StoreError, match=r"20 of .* bytes were written"):
            frames.append(file, frames.encode({"n": "does not fit any more"}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    frames.append(file, frames.encode({"n": 5}))
    assert len(frames.read(file)) == 6


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_an_error_of_the_disk_leaves_the_file_as_it_was(
    file: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(StoreError, match="No space left on device"):
            frames.append(file, frames.encode({"n": 5}))
    assert file.read_bytes() == before


def test_writes_a_record_in_one_call(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(data) or real_write(fd, data))
    frame = frames.encode({"n": 5})
    frames.append(file, frame)
    assert written == [frame]


def test_follows_no_link(file: Path) -> None:
    link = file.with_name("link.jsonl")
    link.symlink_to(file)
    with pytest.raises(StoreError, match="cannot write"):
        frames.append(link, frames.encode({"n": 5}))
    with pytest.raises(StoreError, match="cannot read"):
        frames.read(link)
