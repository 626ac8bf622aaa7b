"""What a spec says of its kind of work."""

import numpy as np

from benchmarks.contract.case import Work
from benchmarks.contract.protocol import TASK_SETTINGS, MeasuringProtocol
from benchmarks.contract.task import NUM_REQUESTS, WITHHELD, Inference, OracleStep, Training

WORK = Work("w", 1, "tiny", 4)
ANSWERING = Inference(
    per_batch=lambda work: 3 * work.batch_size,
    answer_error=lambda answer, read: 0.0,
    flop_before=lambda work: 7,
)


def test_blocks_of_training_have_as_many_steps_as_fit_and_turns_of_requests_a_fixed_number():
    protocol = MeasuringProtocol(requests_per_turn=11)
    assert Training().steps_per_turn(protocol) is None
    assert ANSWERING.steps_per_turn(protocol) == 11


def test_an_oracle_computes_one_step_or_a_batch_of_requests_with_its_prompt():
    assert Training().oracle_step(100, WORK) == OracleStep(100, "step")
    assert ANSWERING.oracle_step(100, WORK) == OracleStep(100 * 12 + 7, "batch of requests")


def test_only_requests_depend_on_the_settings_of_some_kinds():
    assert Training().settings == ()
    assert ANSWERING.settings == TASK_SETTINGS


def test_the_withheld_requests_are_none_of_the_timed_ones():
    assert min(WITHHELD) == NUM_REQUESTS
    assert ANSWERING.num_batches == max(WITHHELD) + 1


def test_without_known_mistakes_there_is_no_likely_cause():
    assert list(ANSWERING.known_mistakes(WORK, {}, {"images": np.zeros(1)})) == []
