"""Every workload that there is meets one contract: found in the catalog, not listed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from benchmarks.contract.case import RECIPE, RECIPES, Case, Place, Way, Work
from benchmarks.contract.task import WITHHELD, Inference, Training
from benchmarks.equivalence.checks import REQUIRED_OF_ANSWERS, gradient_block
from benchmarks.planning.catalog import discover

CATALOG = discover()
SPECS, FRAMEWORKS = CATALOG.specs(), CATALOG.frameworks


TRAINING = [name for name, spec in SPECS.items() if isinstance(spec.task, Training)]
ANSWERING = [name for name, spec in SPECS.items() if isinstance(spec.task, Inference)]


@pytest.mark.parametrize("name", TRAINING)
def test_gradients_are_taken_element_by_element(name):
    """The proofs take them block by block."""
    spec = SPECS[name]
    initial = dict(spec.weights(Work(name, spec.version, size="tiny", batch_size=2)))
    generator = np.random.default_rng(0)
    states = {f"optimizer/{key}": generator.normal(size=a.shape) for key, a in initial.items()}
    whole = dict(spec.gradients(initial, states))
    assert whole
    for key, gradient in whole.items():
        weight, state = initial[key].reshape(-1), states[f"optimizer/{key}"].reshape(-1)
        middle = slice(weight.size // 3, weight.size)
        part = gradient_block(spec, key, weight=weight[middle], state=state[middle])
        np.testing.assert_array_equal(part, gradient.reshape(-1)[middle])


def works_of(name):
    """The work of each value of the options of which every one is a cell."""
    spec = SPECS[name]
    chosen = spec.every_value_of[0] if spec.every_value_of else None
    for value in spec.options[chosen] if chosen else (None,):
        options = tuple(
            (one, value if one == chosen else spec.default_option(one, "tiny"))
            for one in spec.options
        )
        yield Work(name, spec.version, "tiny", 2, options)


@pytest.mark.parametrize("name", ANSWERING)
def test_known_mistakes_have_the_logits_of_every_request(name):
    spec = SPECS[name]
    for work in works_of(name):
        weights, batch = dict(spec.weights(work)), spec.batch(work, WITHHELD[0])
        mistakes = list(spec.task.known_mistakes(work, weights, batch))
        assert len({mistake for mistake, _ in mistakes}) == len(mistakes) > 3
        for _, logits in mistakes:
            assert logits.shape[:2] == (spec.task.per_batch(work), 2)
            assert np.isfinite(logits).all()
        if spec.task.recompute is not None:
            full = spec.task.recompute(work, weights, batch)
            assert full.shape == mistakes[0][1].shape


@pytest.mark.parametrize("name", ANSWERING)
def test_requests_are_judged_in_each_precision_and_their_weights_counted(name):
    spec = SPECS[name]
    for precision in spec.precisions:
        judged = {*REQUIRED_OF_ANSWERS, "timed", "loss"}  # the loss: where no oracle is computed
        assert judged <= set(spec.tolerances[precision]), precision
        case = Case(next(works_of(name)), Way("any", "graph", precision), Place("cpu"))
        for framework in FRAMEWORKS.values():
            memory_bytes = spec.memory_bytes(case, framework.capabilities)
            assert 0 < spec.task.num_weight_bytes(case) < memory_bytes


@pytest.mark.parametrize("name", [one for one in ANSWERING if SPECS[one].task.free_running])
def test_what_follows_a_programs_own_answers_can_be_computed(name):
    spec = SPECS[name]
    for work in works_of(name):
        num_requests = spec.task.per_batch(work)
        if num_requests == 1:
            continue
        weights, batch = dict(spec.weights(work)), spec.batch(work, 0)
        forced = spec.batch(work, WITHHELD[0])["forced"]
        shape = spec.task.recompute(work, weights, {**batch, "forced": forced}).shape
        answers = np.arange(2 * num_requests, dtype=np.int32).reshape(num_requests, 2)
        follow = partial(spec.task.free_running, work, weights, batch)
        none = {"timed": 0.0, "logits": 0.0}
        logits = follow(answers, np.zeros(shape), none)
        assert logits.shape == shape
        again = follow(answers[::-1], np.zeros(shape), none)
        np.testing.assert_array_equal(again[0], logits[0])  # the answer to the prompt came first
        assert not np.allclose(again[1], logits[1])
        # A close call may be answered either way, and each sequence by itself.
        second = {"forced": _second_best(spec, work, weights, batch, answers), **batch}
        wanted = spec.task.recompute(work, weights, second)
        wanted[:, 1] = logits[:, 1]
        np.testing.assert_array_equal(follow(answers, wanted, none), logits)
        np.testing.assert_array_equal(follow(answers, wanted, {"timed": 1e3, "logits": 0}), wanted)


def _second_best(spec, work, weights, batch, answers):
    """What follows the prompts where the second-best token was taken first, BR."""
    prompt = {"tokens": batch["tokens"][:, :-1], "forced": batch["tokens"][:, -1:]}
    logits = spec.task.recompute(work, weights, prompt)[0]
    return np.concatenate([np.argsort(logits)[:, -2][None], answers[:-1]]).T


@pytest.mark.parametrize("name", SPECS)
def test_every_workload_tells_idiomatic_from_tuned(name):
    assert SPECS[name].way_options[RECIPE] == RECIPES
