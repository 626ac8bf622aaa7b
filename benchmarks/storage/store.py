"""The store: one folder for each run, with its plan and the records of its launches.

    <store>/<run_id>/plan.json       replaced whole or not at all
    <store>/<run_id>/sequence        the plan's number among those written, the last is the greatest
    <store>/<run_id>/records.jsonl   one line for each launch, only ever appended to
    <store>/<run_id>/logs/           the launches' output

Runs and records are ordered by numbers that the store gives them, never by a clock, which can be
set back. Older runs and records, which have none, come first, by their clock's label.
May import the errors, the contract and the plan's data type.
"""

from __future__ import annotations

import dataclasses
import difflib
import heapq
import json
import re
from pathlib import Path

from benchmarks.contract.plan import Plan, plan_from_json
from benchmarks.contract.record import Record, record_from_json
from benchmarks.errors import NothingSelectedError, StoreError, UsageError
from benchmarks.storage import frames
from benchmarks.storage.files import replace_whole, sync_folder

PLAN_FILE = "plan.json"
SEQUENCE_FILE = "sequence"
RECORDS_FILE = "records.jsonl"
LOGS_FOLDER = "logs"
MAX_PLAN_BYTES = 64 * 2**20

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Store:
    """The runs below one folder, which the first run creates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last_record: int | None = None
        """The greatest number of a record, read before the first record is appended."""

    def runs(self) -> list[str]:
        """The ids of all runs, in the order in which their plans were written."""
        if not self.folder.is_dir():
            return []
        found = [entry for entry in self.folder.iterdir() if _is_run(entry)]
        return [folder.name for folder in sorted(found, key=lambda run: (_sequence(run), run.name))]

    def create_run(self, plan: Plan) -> None:
        """Store a plan under its run's id: it replaces an earlier plan, the run's records stay.

        The run is then the last one.

        Raises StoreError if it cannot be written; the earlier plan is then unchanged.
        """
        folder = self._path(plan.run_id)
        text = json.dumps(plan.to_json(), allow_nan=False, indent=1)
        try:
            last = max((_sequence(self.folder / name) for name in self.runs()), default=0)
            replace_whole(folder / PLAN_FILE, text)
            replace_whole(folder / SEQUENCE_FILE, f"{last + 1}\n")
            sync_folder(self.folder)
        except OSError as error:
            raise StoreError(f"cannot write {folder / PLAN_FILE}: {error.strerror}") from error

    def read_plan(self, run_id: str) -> Plan:
        """The plan of a run; StoreError if it is damaged or newer than this Dyno."""
        path = self._existing(run_id) / PLAN_FILE
        raw = frames.read_bytes(path, max_bytes=MAX_PLAN_BYTES)
        try:
            return plan_from_json(frames.parse_object(raw))
        except ValueError as error:
            raise StoreError(f"{path}: {error}") from error

    def append(self, record: Record) -> None:
        """Add a launch's record to its run; when this returns, the record is on the disk.

        It is numbered after all records of the store. Another process that appends to other runs
        may give the same numbers: one machine's records have one writer, which holds its lock.
        Raises ValueError if the record could not be read back, and StoreError if it cannot be
        written; earlier records are then intact.
        """
        folder = self._existing(record.run_id)
        if self._last_record is None:
            self._last_record = max((one.sequence or 0 for one in self.records()), default=0)
        number = self._last_record + 1
        frame = frames.encode(dataclasses.replace(record, sequence=number).to_json())
        record_from_json(frames.decode(frame[:-1]))
        frames.append(folder / RECORDS_FILE, frame)
        self._last_record = number

    def records(self, run_id: str | None = None) -> list[Record]:
        """The records of a run, or of all runs, in the order in which they were appended.

        Raises StoreError, with file and offset, if a record is damaged or newer than this Dyno.
        """
        folders = [self._existing(name) for name in (self.runs() if run_id is None else [run_id])]
        runs = [_read_records(folder / RECORDS_FILE) for folder in folders]
        # Numbers order all runs; without them a run's own order is kept.
        return list(heapq.merge(*runs, key=lambda one: (one.sequence or 0, _label(one))))

    def log_folder(self, run_id: str) -> Path:
        """The folder of a run's logs; it is created if it is missing."""
        folder = self._existing(run_id) / LOGS_FOLDER
        folder.mkdir(exist_ok=True)
        return folder

    def _path(self, run_id: str) -> Path:
        if not _RUN_ID.fullmatch(run_id):
            raise UsageError(
                f"received run {run_id!r}, expected 1 to 128 letters, digits, dots, dashes and"
                " underscores, beginning with a letter or digit",
                hint="dyno ls runs shows the runs",
            )
        return self.folder / run_id

    def _existing(self, run_id: str) -> Path:
        folder = self._path(run_id)
        if not _is_run(folder):
            similar = difflib.get_close_matches(run_id, self.runs(), n=1)
            meant = f"did you mean {similar[0]}? " if similar else ""
            raise NothingSelectedError(
                f"there is no run {run_id} in {self.folder}", f"{meant}dyno ls runs shows the runs"
            )
        return folder


def _is_run(folder: Path) -> bool:
    """Whether this is a run's folder; a link does not count, since it may lead out of the store."""
    named = _RUN_ID.fullmatch(folder.name) is not None
    return named and not folder.is_symlink() and (folder / PLAN_FILE).is_file()


def _label(record: Record) -> str:
    """The clock's label of a record without a number."""
    return record.started_at if record.sequence is None else ""


def _sequence(folder: Path) -> int:
    """The number of a run's plan; 0 if an older Dyno wrote it."""
    try:
        text = (folder / SEQUENCE_FILE).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return 0
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0


def _read_records(path: Path) -> list[Record]:
    if not path.exists():
        return []
    records = []
    for frame in frames.read(path):
        try:
            records.append(record_from_json(frame.body))
        except ValueError as error:
            raise StoreError(
                f"{path} at byte {frame.offset}: {error}",
                hint=f"move {path.parent} out of the store: its cases are then measured anew",
            ) from error
    return records
