"""A case is proven once in a run; its later launches are held to what was proven, and exported."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import dyno_cli as cli
import pytest

from benchmarks.contract.record import Record
from benchmarks.storage.store import Store

INFER = ("workload=fake_infer", "size=tiny", "execution=eager", "precision=fp32", "device=cpu")
FRAMEWORKS = "framework=fake_steady,fake_cheat_later"
RUN = ("protocol=smoke", "protocol.num_cohorts=3", "--json")


class Done(NamedTuple):
    """A run of an honest fake, and of one that does other work in its later launches."""

    outcome: cli.Outcome
    records: list[Record]

    def of(self, framework: str) -> list[Record]:
        """The records of this framework, in the order of its launches."""
        return [one for one in self.records if one.case.way.framework == framework]


@pytest.fixture(scope="module", params=["fake_train", "fake_infer"])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    store = tmp_path_factory.mktemp(request.param) / "runs"
    axes = cli.FAKE_AXES if request.param == "fake_train" else INFER
    outcome = cli.dyno("run", *axes, FRAMEWORKS, *RUN, store=store)
    return Done(outcome, Store(store).records())


def test_the_first_launch_proves_and_later_ones_are_held_to_it(done: Done) -> None:
    first, *later = done.of("fake_steady")
    assert first.evidence.proven_by is None
    assert first.evidence.fence is not None
    assert first.evidence.effective is not None
    assert len(later) == 2
    for one in later:
        assert one.status == "ok", one.reason
        assert one.evidence.proven_by == first.launch_id
        assert one.evidence.fence is None
        assert one.evidence.effective is None
        assert one.evidence.share_of_audit is not None
        assert one.evidence.parity is not None
        assert first.evidence.parity is not None
        assert one.evidence.parity.status == "pass"
        assert one.evidence.parity.oracle == first.evidence.parity.oracle
        assert [check.name for check in one.evidence.parity.checks] == ["as_proven"]


def test_the_cell_has_what_its_proof_says(done: Done) -> None:
    cells = {cell["framework"]: cell for cell in done.outcome.json["cells"]}
    honest = cells["fake_steady"]
    assert (honest["status"], honest["parity"], honest["num_launches"]) == ("ok", "pass", 3)
    assert honest["effective"]["parameters"] == "float32"


def test_other_work_in_a_later_launch_is_refused_and_named(done: Done) -> None:
    first, second = done.of("fake_cheat_later")
    assert (first.status, second.status) == ("ok", "invalid_work")
    assert f"this launch does other work than {first.launch_id}: its" in str(second.reason)


def test_a_run_that_goes_on_in_a_new_process_proves_again(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    axes = (*cli.FAKE_AXES, "framework=fake_steady", "protocol=smoke")
    for num_cohorts in (1, 2):
        cli.dyno("run", *axes, f"protocol.num_cohorts={num_cohorts}", store=store)
    assert [one.evidence.proven_by for one in Store(store).records()] == [None, None]


def test_a_framework_is_tested_once_for_all_of_its_cases(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    axes = [one for one in cli.FAKE_AXES if not one.startswith("batch_size=")]
    cli.dyno(
        *("run", *axes, "batch_size=2,4", "framework=fake_lying_fence,fake_steady"),
        *("protocol=smoke",),
        store=store,
    )
    own = [r for r in Store(store).records() if r.case.way.framework == "fake_steady"]
    first, second = own
    assert first.evidence.tested_by is None
    assert second.evidence.tested_by == first.launch_id
    assert second.evidence.proven_by is None
    assert second.evidence.fence == first.evidence.fence
    assert second.evidence.roof_flop_per_s == first.evidence.roof_flop_per_s
    assert second.evidence.precision
    lying = [r for r in Store(store).records() if r.case.way.framework == "fake_lying_fence"]
    assert [one.status for one in lying] == ["invalid_sync", "invalid_sync"]


def exports_of(store: Path) -> list[bool]:
    """Whether each launch in a store has exported."""
    return ["export" in one.phases_s for one in Store(store).records()]


def test_a_model_is_exported_once_for_each_precision_and_again_if_it_is_damaged(
    tmp_path: Path,
) -> None:
    axes = [one for one in INFER if not one.startswith("precision")]
    run = (*axes, "framework=fake_steady", "protocol=smoke", "--json")
    cache = tmp_path / "kept"
    folder = f"machine.cache_folder={cache}"

    def launched(name: str, *further: str) -> cli.Outcome:
        return cli.dyno("run", *run, *further, folder, store=tmp_path / name / "runs")

    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    (tmp_path / "third").mkdir()
    launched("first", "precision=fp32,fp64", "protocol.num_cohorts=2")
    assert sorted(exports_of(tmp_path / "first" / "runs")) == [False, False, True, True]
    assert len(list((cache / "exports").iterdir())) == 2

    done = launched("second", "precision=fp32")
    [cell] = done.json["cells"]
    assert exports_of(tmp_path / "second" / "runs") == [False]
    assert (cell["status"], cell["export_s"], cell["first_answer_s"]) == ("ok", None, None)

    for model in (cache / "exports").glob("*/model"):
        model.write_bytes(model.read_bytes()[:-1])
    done = launched("third", "precision=fp32")
    [cell] = done.json["cells"]
    assert exports_of(tmp_path / "third" / "runs") == [True]
    assert cell["status"] == "ok"
    assert cell["first_answer_s"] >= cell["export_s"] > 0
