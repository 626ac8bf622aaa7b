"""The tables of blocks and launches."""

import pytest

from benchmarks.analysis.tables import block_frame, launch_frame
from tests.unit.analysis.records import case, record

BASE, CASE = case(), case("jax", "compiled")


def test_one_row_for_each_block_with_seconds_per_step():
    blocks = block_frame([record(BASE, 0, [0.1, 0.2]), record(CASE, 0, [0.3])])
    assert blocks["step_s"].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert blocks["case_id"].nunique() == 2


def test_a_disturbed_round_is_dropped_for_the_whole_cohort_and_no_other():
    blocks = block_frame(
        [
            record(BASE, 0, [0.1] * 4, flags={1: ["FOREIGN_LOAD"]}),
            record(CASE, 0, [0.1] * 4),
            record(CASE, 1, [0.1] * 4, flags={2: ["NOTED_ONLY"]}),
        ]
    )
    assert blocks["round_dropped"].tolist() == [False, True, False, False] * 2 + [False] * 4
    assert blocks["causes"].tolist()[1] == ("FOREIGN_LOAD",)
    assert blocks["causes"].tolist()[10] == ()


def test_a_launch_s_speed_is_the_undisturbed_one_of_its_own_valid_turns():
    records = [
        record(BASE, 0, [0.01, 0.1, 0.2, 9.0], flags={0: ["SWAP"]}),
        record(CASE, 0, [0.01, 0.1, 0.2, 9.0]),
    ]
    launches = launch_frame(records, block_frame(records), {})
    assert launches["step_s"].tolist() == pytest.approx([0.1, 0.01])
    assert launches["mean_step_s"].tolist() == pytest.approx([9.31 / 4] * 2)
    assert launches["num_rounds"].tolist() == [4, 4]
    assert launches["num_rounds_invalid"].tolist() == [1, 1]
    assert launches["causes"].tolist() == [("SWAP",), ()]


def test_a_launch_without_blocks_has_no_step_time():
    launches = launch_frame([record(CASE, 0, [])], block_frame([record(CASE, 0, [])]), {})
    assert launches["step_s"].isna().all()
    assert launches["num_rounds"].tolist() == [0]


MOST = {r: ["SWAP"] for r in range(6)}


def test_a_cohort_that_was_disturbed_most_of_the_time_is_left_out_whole():
    blocks = block_frame(
        [
            record(BASE, 0, flags=MOST),
            record(BASE, 1, flags={0: ["SWAP"]}),
            record(case(size="tiny"), 2, flags=MOST),
        ]
    )
    dropped = blocks.groupby("cohort_id")["round_dropped"].sum()
    # The other group has no other cohort: all its rounds are kept, and marked as disturbed.
    assert dropped.to_dict() == {"cohort0": 8, "cohort1": 1, "cohort2": 0}
    assert blocks["round_disturbed"].sum() == 13


def test_rounds_are_kept_where_every_cohort_was_disturbed():
    most = block_frame([record(BASE, 0, flags=MOST)])
    assert (most["round_dropped"].sum(), most["round_disturbed"].sum()) == (0, 6)


def test_what_a_launch_costs_leaves_out_its_turns():
    records = [record(BASE, 0)]
    assert launch_frame(records, block_frame(records), {})["launch_s"].tolist() == [3.0]


def test_no_records_give_empty_tables():
    blocks = block_frame([])
    assert blocks.empty
    assert launch_frame([], blocks, {}).empty
