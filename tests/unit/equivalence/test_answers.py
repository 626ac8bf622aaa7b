"""Answers are judged by their logits, and known mistakes are named."""

import math

import numpy as np
import pytest

from benchmarks.contract.evidence import FAIL, PASS, UNPROVEN
from benchmarks.equivalence import answers
from benchmarks.equivalence.answers import Answers, Suspects, judge_answers, likely_causes

TOLERANCE = {"logits": 1e-5, "logits_worst": 1e-5}
GENERATOR = np.random.default_rng(0)
ORACLE = {f"batch{index}": GENERATOR.standard_normal((3, 2, 10)) for index in (64, 65)}


def off(factor=1.0, *, batch="batch64", request=slice(None)):
    """The oracle's logits, some of them by a factor."""
    logits = {name: one.copy() for name, one in ORACLE.items()}
    logits[batch][request] *= factor
    return logits


def noisy(size):
    """The oracle's logits with an error of this relative size that is like no mistake."""
    drawn = np.random.default_rng(1)
    return {n: one * (1 + size * drawn.standard_normal(one.shape)) for n, one in ORACLE.items()}


def judged(logits, *, tolerance=TOLERANCE, answer_error=0.0, **options):
    return judge_answers(Answers(logits, answer_error), ORACLE, tolerance, identity="x", **options)


def test_the_oracles_logits_pass():
    verdict = judged(off())
    assert (verdict.status, verdict.reason, verdict.oracle) == (PASS, None, "x")
    assert {one.name for one in verdict.checks} == {
        *("finite", "distinct", "answer", "logits", "logits_worst", "argmax")
    }


def test_one_item_that_is_off_fails_though_the_whole_is_within():
    logits = off()
    logits["batch65"][2, 1] *= 1 + 5e-5
    verdict = judged(logits, tolerance={"logits": 3e-5, "logits_worst": 3e-5})
    assert verdict.status == FAIL
    assert verdict.first_difference == "logits of batch65, request 2, item 1"
    assert "logits of one item (batch65, request 2, item 1)" in verdict.reason


def test_the_same_largest_logit_is_no_proof():
    """Reference: feasibility, trap 4."""
    verdict = judged(off(1.04))
    argmax = next(one for one in verdict.checks if one.name == "argmax")
    assert (argmax.error, argmax.tolerance) == (0.0, None)
    assert verdict.status == FAIL


def test_an_answer_that_is_not_what_was_computed_fails():
    assert "returned answer" in judged(off(), answer_error=1e-3).reason


def test_without_a_tolerance_nothing_is_proven():
    assert judged(off(), tolerance={}).status == UNPROVEN


def test_logits_of_another_shape_are_no_logits():
    logits = off()
    logits["batch64"] = logits["batch64"][:2]
    assert judged(logits).status == FAIL


def test_nothing_that_the_oracle_knows_is_no_proof():
    assert judged({"batch3": ORACLE["batch64"]}).status == FAIL


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_fails(bad):
    logits = off()
    logits["batch64"][1, 0, 3] = bad
    verdict = judged(logits)
    assert verdict.status == FAIL
    assert next(one for one in verdict.checks if one.name == "logits_worst").error is None


def test_a_mistake_whose_logits_they_are_is_named():
    sine, cosine = np.sin(ORACLE["batch64"]), np.cos(ORACLE["batch64"])
    wrong = {"sine": sine, "cosine": cosine}
    suspects = Suspects(lambda name: wrong.items())
    verdict = judged({**ORACLE, "batch64": sine * 1.0001}, suspects=suspects)
    assert verdict.causes == ("sine",)
    assert judged(noisy(0.3), suspects=suspects).causes == ()


def test_different_requests_with_one_answer_are_named():
    one = ORACLE["batch64"]
    assert judged({"batch64": one, "batch65": one}).causes == (answers.SAME_ANSWER,)


def test_requests_that_are_answered_as_earlier_ones_are_named():
    """Of four requests, two are answered twice."""
    first, third = ORACLE["batch64"], ORACLE["batch65"]
    right = {"a": first, "b": -first, "c": third, "d": -third}
    own = Answers({"a": first, "b": first, "c": third, "d": third}, 0.0)
    assert [*likely_causes(own, right, TOLERANCE)] == [answers.REPEATED_ANSWER]


def test_answers_that_come_one_request_late_are_named():
    before, its_own = ORACLE["batch64"], ORACLE["batch65"]
    late = {"batch64": np.zeros_like(its_own), "batch65": before}
    assert judged(late).causes == (answers.LATE_ANSWER,)


def test_a_mistake_must_be_near_for_its_size():
    """Zeros are nearer to small logits than to the right ones, and are none of either."""
    small = {"small": ORACLE["batch64"] * 0.1}
    suspects = Suspects(lambda name: small.items())
    assert judged(off(0.0), suspects=suspects).causes == ()


def test_a_later_sequence_that_is_off_alone_tells_of_state():
    assert judged(off(1.1, batch="batch65")).causes == (answers.STALE_STATE,)


def test_a_sequence_that_goes_astray_tells_where():
    verdict = judged(off(1.1, request=slice(2, None)))
    assert "2 of a sequence are right" in verdict.causes[0]


def test_an_error_of_a_coarser_precision_is_called_so():
    suspects = Suspects(coarsest=1e-2)
    assert "precision" in judged(noisy(1e-3), suspects=suspects).causes[0]
    assert not judged(noisy(0.5), suspects=suspects).causes


def test_without_a_cause_the_verdict_says_so_and_never_blames_the_precision():
    verdict = judged(noisy(1e-3))
    assert (verdict.causes, verdict.reason.rpartition("; ")[2]) == ((), "cause unknown")


def _softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum(-1, keepdims=True)


def _without_the_last(logits):
    return np.concatenate([logits[..., :-1], np.zeros_like(logits[..., :1])], -1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_softmax, "the answers are probabilities (softmax), not logits"),
        (_without_the_last, "the last class is dropped: its logit is always 0"),
        (lambda logits: np.roll(logits, 1, -1), "the classes are shifted by one"),
        (lambda logits: 0.5 * logits, "every logit is 0.5 times the expected one"),
    ],
)
def test_a_mistake_after_the_network_is_named(change, words):
    assert judged({name: change(one) for name, one in ORACLE.items()}).causes == (words,)


def test_a_model_without_its_weights_is_named_first():
    small = Answers(off(math.nan), 0.0, artefact_bytes=230_000, weight_bytes=102_000_000)
    assert "variables that were not frozen" in next(likely_causes(small, {}, {}))
    whole = Answers(off(), 0.0, artefact_bytes=101_900_000, weight_bytes=102_000_000)
    assert list(likely_causes(whole, ORACLE, TOLERANCE)) == []


def test_without_an_oracle_answers_that_are_alike_have_no_likely_cause():
    bad = np.full((1, 2, 3), np.nan)
    assert list(likely_causes(Answers({"batch64": bad, "batch65": bad}, 0.0), {}, {})) == []
