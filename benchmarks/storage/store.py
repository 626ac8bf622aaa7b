"""The store: one folder for each run, with its plan and the records of its launches.

    <store>/<run_id>/plan.json       replaced whole or not at all
    <store>/<run_id>/records.jsonl   one line for each launch, only ever appended to
    <store>/<run_id>/logs/           the launches' output

May import the errors, the contract and the plan's data type.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path

from benchmarks.contract.plan import Plan, plan_from_json
from benchmarks.contract.record import Record, record_from_json
from benchmarks.errors import NothingSelectedError, StoreError, UsageError
from benchmarks.storage import frames
from benchmarks.storage.files import replace_whole, sync_folder

PLAN_FILE = "plan.json"
RECORDS_FILE = "records.jsonl"
LOGS_FOLDER = "logs"
MAX_PLAN_BYTES = 64 * 2**20

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Store:
    """The runs below one folder, which the first run creates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def runs(self) -> list[str]:
        """The ids of all runs, oldest first: an id begins with its UTC time."""
        if not self.folder.is_dir():
            return []
        return sorted(entry.name for entry in self.folder.iterdir() if _is_run(entry))

    def create_run(self, plan: Plan) -> None:
        """Store a plan under its run's id: it replaces an earlier plan, the run's records stay.

        Raises StoreError if it cannot be written; the earlier plan is then unchanged.
        """
        folder = self._path(plan.run_id)
        text = json.dumps(plan.to_json(), allow_nan=False, indent=1)
        try:
            replace_whole(folder / PLAN_FILE, text)
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

        Raises ValueError if the record could not be read back, and StoreError if it cannot be
        written; earlier records are then intact.
        """
        folder = self._existing(record.run_id)
        frame = frames.encode(record.to_json())
        record_from_json(frames.decode(frame[:-1]))
        frames.append(folder / RECORDS_FILE, frame)

    def records(self, run_id: str | None = None) -> list[Record]:
        """The records of a run, or of all runs, in the order in which they were appended.

        Raises StoreError, with file and offset, if a record is damaged or newer than this Dyno.
        """
        folders = [self._existing(name) for name in (self.runs() if run_id is None else [run_id])]
        return [record for folder in folders for record in _read_records(folder / RECORDS_FILE)]

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
