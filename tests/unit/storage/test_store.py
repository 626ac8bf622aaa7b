import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.contract.evidence import Evidence
from benchmarks.contract.plan import Plan
from benchmarks.contract.record import SCHEMA_VERSION, Record
from benchmarks.errors import NothingSelectedError, StoreError, UsageError
from benchmarks.storage import frames
from benchmarks.storage.store import Store

RUN_ID = "20261121-080000-quick-0a1b2c"
LATER_RUN_ID = "20261121-090000-quick-3d4e5f"

MakePlan = Callable[..., Plan]
MakeRecord = Callable[..., Record]


@pytest.fixture
def store(tmp_path: Path, make_plan: MakePlan) -> Store:
    store = Store(tmp_path / "runs")
    store.create_run(make_plan())
    return store


def test_an_absent_store_has_no_runs(tmp_path: Path) -> None:
    assert Store(tmp_path / "absent").runs() == []
    assert Store(tmp_path / "absent").records() == []


AHEAD_RUN_ID = "20271121-080000-quick-000000"
"""Made while the clock was a year ahead."""


def test_the_last_run_is_the_one_whose_plan_was_written_last(
    store: Store, make_plan: MakePlan
) -> None:
    store.create_run(make_plan(AHEAD_RUN_ID))
    store.create_run(make_plan(LATER_RUN_ID))
    (store.folder / "20281121-100000-no-plan").mkdir()
    assert store.runs() == [RUN_ID, AHEAD_RUN_ID, LATER_RUN_ID]
    store.create_run(make_plan())
    assert store.runs() == [AHEAD_RUN_ID, LATER_RUN_ID, RUN_ID]


@pytest.mark.parametrize("content", [None, "", "-1", "one", "9" * 40])
def test_runs_of_an_older_store_come_first_by_name(
    content: str | None, store: Store, make_plan: MakePlan
) -> None:
    store.create_run(make_plan("20251121-080000-quick-000000"))
    store.create_run(make_plan(AHEAD_RUN_ID))
    for name in ("20251121-080000-quick-000000", AHEAD_RUN_ID):
        file = store.folder / name / "sequence"
        file.unlink() if content is None else file.write_text(content)
    assert store.runs() == ["20251121-080000-quick-000000", AHEAD_RUN_ID, RUN_ID]


def test_records_come_in_the_order_of_appending_whatever_the_clock_says(
    store: Store, make_plan: MakePlan, make_record: MakeRecord
) -> None:
    store.create_run(make_plan(AHEAD_RUN_ID))
    store.append(make_record(0, AHEAD_RUN_ID, started_at="2027-11-21T08:00:00Z"))
    store.append(make_record(1, started_at="2026-11-21T08:00:00Z"))
    again = Store(store.folder)  # another process
    again.append(make_record(2, AHEAD_RUN_ID, started_at="2026-11-21T07:55:00Z"))
    found = [(record.launch_id, record.sequence) for record in store.records()]
    assert found == [("launch-0", 1), ("launch-1", 2), ("launch-2", 3)]


def test_records_without_a_number_come_first_by_their_clock_within_a_run_as_appended(
    store: Store, make_plan: MakePlan, make_record: MakeRecord
) -> None:
    store.create_run(make_plan(AHEAD_RUN_ID))
    for run_id, index, time in (
        (RUN_ID, 0, "2026-11-21T08:00:00Z"),
        (RUN_ID, 1, "2026-11-21T07:55:00Z"),  # the clock was set back
        (AHEAD_RUN_ID, 2, "2027-11-21T08:00:00Z"),
    ):
        older = {**make_record(index, run_id, started_at=time).to_json(), "schema_version": 4}
        del older["sequence"]
        frames.append(store.folder / run_id / "records.jsonl", frames.encode(older))
    store.append(make_record(3))
    found = [(record.launch_id, record.sequence) for record in store.records()]
    assert found == [("launch-0", None), ("launch-1", None), ("launch-2", None), ("launch-3", 1)]


def test_reads_back_the_plan(store: Store, make_plan: MakePlan) -> None:
    assert store.read_plan(RUN_ID) == make_plan()


def test_creating_a_run_again_replaces_its_plan_and_keeps_its_records(
    store: Store, make_plan: MakePlan, make_record: MakeRecord
) -> None:
    store.append(make_record())
    store.create_run(make_plan(suite="documents"))
    assert store.read_plan(RUN_ID).suite == "documents"
    assert len(store.records(RUN_ID)) == 1
    assert sorted(os.listdir(store.folder / RUN_ID)) == ["plan.json", "records.jsonl", "sequence"]


def test_a_plan_that_cannot_be_written_leaves_the_one_before(
    store: Store, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="No space left on device"):
            store.create_run(make_plan(suite="documents"))
    assert store.read_plan(RUN_ID).suite == "quick"
    assert sorted(os.listdir(store.folder / RUN_ID)) == ["plan.json", "sequence"]


def test_reads_back_records_in_order_of_one_run_or_of_all(
    store: Store, make_plan: MakePlan, make_record: MakeRecord
) -> None:
    store.create_run(make_plan(LATER_RUN_ID))
    later = make_record(7, run_id=LATER_RUN_ID)
    store.append(later)
    own = [make_record(0), make_record(1, status="oom_host", reason="killed", phase="build")]
    for record in own:
        store.append(record)
    own = [dataclasses.replace(record, sequence=2 + i) for i, record in enumerate(own)]
    assert store.records(RUN_ID) == own
    assert store.records() == [dataclasses.replace(later, sequence=1), *own]


def test_refuses_a_record_that_could_not_be_read_back(
    store: Store, make_record: MakeRecord
) -> None:
    for change in ({"status": "fine"}, {"evidence": Evidence(final_loss=float("nan"))}):
        with pytest.raises(ValueError, match=r"status|JSON compliant"):
            store.append(make_record(**change))
    assert store.records() == []


def test_refuses_records_of_a_newer_schema(store: Store, make_record: MakeRecord) -> None:
    newer = {**make_record().to_json(), "schema_version": SCHEMA_VERSION + 1}
    frames.append(store.folder / RUN_ID / "records.jsonl", frames.encode(newer))
    with pytest.raises(StoreError, match=r"records.jsonl at byte 0: .*newer Dyno") as refused:
        store.records(RUN_ID)
    assert refused.value.hint == (
        f"move {store.folder / RUN_ID} out of the store: its cases are then measured anew"
    )


@pytest.mark.parametrize("schema", ["dyno.stored-plan/99", "dyno.plan/2", "dyno.run/1", None])
def test_refuses_plans_of_another_schema(
    schema: str | None, store: Store, make_plan: MakePlan
) -> None:
    file = store.folder / RUN_ID / "plan.json"
    file.write_text(json.dumps({**make_plan().to_json(), "schema": schema}))
    with pytest.raises(StoreError, match=rf"plan\.json: schema='?{schema}'?: expected dyno.stored"):
        store.read_plan(RUN_ID)


def test_reads_plans_that_had_the_name_of_another_document(
    store: Store, make_plan: MakePlan
) -> None:
    earlier = {**make_plan().to_json(), "schema": "dyno.plan/1"}
    del earlier["missing"], earlier["machine_config"]["lock_folder"]
    (store.folder / RUN_ID / "plan.json").write_text(json.dumps(earlier))
    assert store.read_plan(RUN_ID) == make_plan()


def test_an_unknown_run_is_named_with_the_nearest_one(store: Store) -> None:
    with pytest.raises(NothingSelectedError, match=f"did you mean {RUN_ID}"):
        store.records(RUN_ID[:-1])


def test_refuses_to_append_to_a_run_that_was_not_created(
    store: Store, make_record: MakeRecord
) -> None:
    with pytest.raises(NothingSelectedError):
        store.append(make_record(run_id=LATER_RUN_ID))


@pytest.mark.parametrize(
    "run_id", ["", ".", "..", "../x", "a/b", "/etc", "a\0b", "a\n", "ä", "x" * 129, ".hidden"]
)
def test_refuses_run_ids_that_are_paths(store: Store, make_plan: MakePlan, run_id: str) -> None:
    with pytest.raises(UsageError):
        store.create_run(make_plan(run_id))
    with pytest.raises(UsageError):
        store.records(run_id)


def test_a_link_is_no_run(store: Store, tmp_path: Path, make_plan: MakePlan) -> None:
    elsewhere = Store(tmp_path / "elsewhere")
    elsewhere.create_run(make_plan(LATER_RUN_ID))
    (store.folder / LATER_RUN_ID).symlink_to(elsewhere.folder / LATER_RUN_ID)
    assert store.runs() == [RUN_ID]
    with pytest.raises(NothingSelectedError):
        store.read_plan(LATER_RUN_ID)


def test_the_log_folder_exists_and_lies_in_the_run(store: Store) -> None:
    assert store.log_folder(RUN_ID) == store.folder / RUN_ID / "logs"
    assert store.log_folder(RUN_ID).is_dir()
