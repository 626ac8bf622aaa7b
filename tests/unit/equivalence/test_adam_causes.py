"""Mistakes in Adam, in frozen weights and in the forward pass: each is found and named."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.equivalence.causes import likely_causes
from benchmarks.equivalence.checks import first_failure, frozen_checks, step_checks, step_errors
from benchmarks.equivalence.optimizers import adam_epsilon
from benchmarks.equivalence.trace import NO_SUSPECTS, Suspects, Trace

CONSTANTS = {
    "learning_rate": 1e-3,
    "beta1": 0.9,
    "beta2": 0.95,
    "epsilon": 1e-5,
    "weight_decay": 0.1,
}
NAMES = {"embedding/table": (9, 4), "norm/scale": (4,), "head/kernel": (4, 20)}
JUDGED = (
    *("loss", "decay", "decoupled_decay", "gradient", "cosine", "gradient_norm"),
    *("gradient_tensor", "second_moment", "update", "update_norm"),
)
TOLERANCE = dict.fromkeys(JUDGED, 1e-9)


def gradients(initial, read):
    for name in initial:
        yield name, read[f"optimizer/{name}"] / (1 - CONSTANTS["beta1"])


SPEC = SimpleNamespace(
    gradients=gradients,
    stable_gradients=("head/kernel",),
    hyperparameters=CONSTANTS,
    tolerances={"fp64": TOLERANCE, "bf16": {"loss": 1e-3}},
)


@pytest.fixture
def initial():
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal(shape) for name, shape in NAMES.items()}


def step(initial, *, outside=False, loss=3.0, decayed=lambda n: n != "norm/scale", **changes):
    """What AdamW leaves after step 1, with these constants in place of the usual ones."""
    used = {**CONSTANTS, **changes}
    generator = np.random.default_rng(1)
    read = {"loss": np.array(loss)}
    for name, weight in initial.items():
        gradient = 1e-4 * generator.standard_normal(weight.shape)
        first = (1 - used["beta1"]) * gradient
        second = (1 - used["beta2"]) * gradient**2
        epsilon = used["epsilon"] / (np.sqrt(1 - used["beta2"]) if outside else 1)
        moved = gradient / (np.abs(gradient) + epsilon)
        decay = used["weight_decay"] if decayed(name) else 0.0
        read[f"optimizer/{name}"] = first
        read[f"second_moment/{name}"] = second
        read[f"weights/{name}"] = weight - used["learning_rate"] * (moved + decay * weight)
    return read


def diagnosed(initial, read, suspects=NO_SUSPECTS):
    oracle = step(initial)
    errors = step_errors(SPEC, initial, read, oracle)
    trace = Trace(SPEC, initial, read, oracle, errors, TOLERANCE, suspects)
    return first_failure(step_checks(errors, TOLERANCE)), likely_causes(trace)


def test_rounding_of_one_update_is_no_learning_rate(initial):
    read = step(initial)
    generator = np.random.default_rng(2)
    update = read["weights/head/kernel"] - initial["head/kernel"]
    noise = 1e-4 * np.abs(update).mean() * generator.standard_normal(update.shape)
    read["weights/head/kernel"] = read["weights/head/kernel"] + noise
    failed, causes = diagnosed(initial, read)
    assert failed is not None
    assert not any("learning rate" in cause for cause in causes)


def test_an_equal_step_has_no_causes(initial):
    assert diagnosed(initial, step(initial)) == (None, [])


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"outside": True}, "update", "Adam's epsilon is added to the uncorrected root"),
        ({"epsilon": 1e-7}, "update", "Adam's epsilon is 1e-07 in place of 1e-05"),
        ({"beta2": 0.999}, "second_moment", "beta2 of Adam: its second moment is 0.02 times"),
        ({"beta1": 0.8}, "gradient", "every gradient is 2 times the expected one: beta1 of Adam"),
        ({"learning_rate": 2e-3}, "update", "learning rate: the weights move 2 times"),
        (
            {"decayed": lambda name: True},
            "update",
            "weight decay is applied to norm/scale (0.0001 of the weight)",
        ),
        (
            {"weight_decay": 0.0},
            "update",
            "weight decay is missing on embedding/table and 1 more (0.0001 of the weight)",
        ),
    ],
)
def test_a_mistake_in_adam_is_caught_and_named(changes, check, words, initial):
    failed, causes = diagnosed(initial, step(initial, **changes))
    assert failed.name == check
    assert any(words in cause for cause in causes), causes


def test_a_decay_within_rounding_shows_in_what_many_updates_have_in_common(initial):
    tolerance = {**TOLERANCE, "update": 1.0, "update_norm": 1.0}
    read, oracle = step(initial, decayed=lambda name: True), step(initial)
    errors = step_errors(SPEC, initial, read, oracle)
    causes = likely_causes(Trace(SPEC, initial, read, oracle, errors, tolerance))
    assert first_failure(step_checks(errors, tolerance)).name == "decoupled_decay"
    assert causes == ["weight decay is applied to norm/scale (0.0001 of the weight)"]


def test_a_decay_below_the_weights_rounding_shows_in_the_median(initial):
    tolerance = {**TOLERANCE, "update": 1.0, "update_norm": 1.0}
    read, oracle = step(initial, decayed=lambda name: True), step(initial)
    generator = np.random.default_rng(2)
    for name in NAMES:
        noise = 1e-4 * generator.standard_normal(initial[name].shape)
        noise -= (noise * initial[name]).sum() / np.square(initial[name]).sum() * initial[name]
        read[f"weights/{name}"] = read[f"weights/{name}"] + noise
    errors = step_errors(SPEC, initial, read, oracle)
    causes = likely_causes(Trace(SPEC, initial, read, oracle, errors, tolerance))
    assert causes == ["weight decay is applied to the scale of most layers (0.0001 of the weight)"]


def test_the_epsilon_that_explains_an_update_is_found(initial):
    read, oracle = step(initial, epsilon=3e-6), step(initial)
    errors = step_errors(SPEC, initial, read, oracle)
    found = adam_epsilon(Trace(SPEC, initial, read, oracle, errors, TOLERANCE))
    assert found == pytest.approx(3e-6, rel=1e-6)


def test_a_loss_names_the_mistake_that_leads_to_it(initial):
    known_mistakes = [("another", 3.2), ("the mask", 3.1), ("nothing", 3.0)]
    failed, causes = diagnosed(initial, step(initial, loss=3.1), Suspects(lambda: known_mistakes))
    assert failed.name == "loss"
    assert causes == ["the mask"]


def test_a_loss_that_no_suspect_has_is_not_blamed_on_one(initial):
    suspects = Suspects(lambda: [("the mask", 3.1)])
    _, causes = diagnosed(initial, step(initial, loss=3.15), suspects)
    assert causes == []


def test_a_loss_as_coarser_products_make_it_may_be_the_precisions(initial):
    coarse = Suspects(products_are_exact=False)
    _, causes = diagnosed(initial, step(initial, loss=3.001), coarse)
    assert causes == ["precision: TF32 or bf16 matmuls under a finer name"]
    assert diagnosed(initial, step(initial, loss=3.001))[1] == []


def test_a_label_that_is_changed_shows_in_few_classes(initial):
    read = step(initial, loss=3.1)
    read["optimizer/head/kernel"][:, 7] += 1e-4
    read["optimizer/head/kernel"][:, 3] -= 1e-4
    _, causes = diagnosed(initial, read)
    assert "labels: a label is changed" in causes[0]


def test_frozen_weights_are_compared_bit_by_bit(initial):
    read = {f"frozen/{name}": array.copy() for name, array in initial.items()}
    (check,) = frozen_checks(initial, read)
    assert (check.name, check.error, check.passes) == ("frozen", 0.0, True)
    read["frozen/norm/scale"][1] = np.nextafter(initial["norm/scale"][1], 2)
    (check,) = frozen_checks(initial, read, name="frozen_after")
    assert (check.error, check.passes, check.worst_tensor) == (1.0, False, "norm/scale")
    assert frozen_checks(initial, {"weights/norm/scale": np.ones(4)}) == []
