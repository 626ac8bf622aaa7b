"""Each known mistake, planted into a small network in float64, is found and named by its trace."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.contract.mistake import OtherConstant
from benchmarks.equivalence.causes import first_difference, likely_causes
from benchmarks.equivalence.checks import (
    first_failure,
    mismatches,
    state_check,
    step_checks,
    step_errors,
    trajectory_check,
)
from benchmarks.equivalence.suspects import Explained
from benchmarks.equivalence.trace import NO_SUSPECTS, Suspects, Trace

NAMES = (
    "stem/conv",
    "stage1/block1/conv1",
    "stage1/block1/conv2",
)
KERNELS = {"stem/conv": (3, 3, 2, 4), "stage1/block1/conv1": (1, 1, 4, 4)}
KERNELS["stage1/block1/conv2"] = (3, 3, 4, 4)
DECAY, RATE = 1e-2, 0.1
JUDGED = (
    *("loss", "first_layer", "statistics", "gradient", "cosine", "gradient_norm"),
    *("gradient_tensor", "stable_gradient", "update", "losses", "momentum"),
)
TOLERANCE = dict.fromkeys(JUDGED, 1e-9)


def is_decayed(name):
    return name.endswith("/kernel")


def gradients(initial, read):
    for name, weight in initial.items():
        if not name.endswith(("/mean", "/variance")):
            decay = DECAY * weight if is_decayed(name) else 0.0
            yield name, read[f"optimizer/{name}"] - decay


SPEC = SimpleNamespace(
    gradients=gradients,
    stable_gradients=("head/kernel", "head/bias"),
    hyperparameters={"learning_rate": RATE, "momentum": 0.9},
)


@pytest.fixture
def initial():
    generator = np.random.default_rng(0)
    found = {}
    for name in NAMES:
        found[f"{name}/kernel"] = generator.standard_normal(KERNELS[name])
        found[f"{name}/bn/scale"] = 1 + 0.1 * generator.standard_normal(4)
        found[f"{name}/bn/bias"] = 0.1 * generator.standard_normal(4)
        found[f"{name}/bn/mean"] = np.zeros(4)
        found[f"{name}/bn/variance"] = np.ones(4)
    found["head/kernel"] = generator.standard_normal((4, 50))
    found["head/bias"] = generator.standard_normal(50)
    return found


class Step:
    """What a program holds after step 1, as gradients and batch statistics make it."""

    def __init__(self, initial):
        generator = np.random.default_rng(1)
        self.initial = initial
        self.loss = 4.0
        self.gradients = {}
        self.statistics = {}
        for name, weight in initial.items():
            drawn = generator.standard_normal(weight.shape)
            if name.endswith(("/mean", "/variance")):
                self.statistics[name] = drawn
            else:
                self.gradients[name] = drawn
        self.decayed = is_decayed
        self.decay, self.rate, self.share, self.factor = DECAY, RATE, 0.1, 1.0

    def read(self):
        found = {"loss": np.array(self.loss)}
        for name, gradient in self.gradients.items():
            decay = self.decay if self.decayed(name) else 0.0
            momentum = self.factor * (gradient + decay * self.initial[name])
            found[f"optimizer/{name}"] = momentum
            found[f"weights/{name}"] = self.initial[name] - self.rate * momentum
        for name, drawn in self.statistics.items():
            start = self.initial[name]
            found[f"statistics/{name}"] = start + self.share * (drawn - start)
        return found


def diagnosed(initial, fault, tolerance=TOLERANCE, suspects=NO_SUSPECTS):
    """The failing check, the first difference and the causes of a step with this fault."""
    oracle, faulty = Step(initial).read(), Step(initial)
    fault(faulty)
    read = faulty.read()
    errors = step_errors(SPEC, initial, read, oracle)
    checks = step_checks(errors, tolerance, stable=SPEC.stable_gradients)
    trace = Trace(SPEC, initial, read, oracle, errors, tolerance, suspects)
    return first_failure(checks), first_difference(errors, tolerance), likely_causes(trace)


def test_an_equal_step_has_no_causes(initial):
    assert diagnosed(initial, lambda step: None) == (None, None, [])


def forward_from(layer, size):
    """A fault whose forward pass leaves the oracle's at this layer, by this relative error."""

    def fault(step):
        names = list(step.statistics)
        first = next(i for i, name in enumerate(names) if name.startswith(layer))
        for name in names[first:]:
            step.statistics[name] = step.statistics[name] * (1 + size)
        step.loss *= 1 + size
        step.gradients = {name: g * (1 + size) for name, g in step.gradients.items()}

    return fault


def set_to(**values):
    return lambda step: vars(step).update(values)


def scaled(name, factor):
    def fault(step):
        step.gradients[name] = factor * step.gradients[name]

    return fault


def changed_label(step):
    step.loss *= 0.9
    for name in ("head/bias", "head/kernel"):
        step.gradients[name][..., 7] += 0.125
        step.gradients[name][..., 3] -= 0.125


def transposed_head(step):
    step.loss *= 1.3
    step.gradients["head/bias"] = step.gradients["head/bias"][::-1].copy()
    step.gradients["head/kernel"] = step.gradients["head/kernel"][:, ::-1].copy()


def biased_variance(step):
    for name in step.statistics:
        if name.endswith("/variance"):
            step.statistics[name] = step.statistics[name] * 0.9


FAULTS = {
    "momentum of batch normalisation: the running statistics moved 9 times": set_to(share=0.9),
    "biased variance": biased_variance,
    "padding, stride or kernel of the 3x3": forward_from("stage1/block1/conv2", 0.5),
    "stride or kernel of the 1x1": forward_from("stage1/block1/conv1", 0.5),
    "labels: a label is changed": changed_label,
    "weight decay is missing on stem/conv/kernel and 3 more (0.01 of": set_to(decay=0.0),
    "weight decay is applied to": set_to(decayed=lambda name: True),
    "every gradient is 0.1 times the expected one: dampened": set_to(factor=0.1),
    "the gradient of stage1/block1/conv1/kernel is 1.01 times": scaled(
        "stage1/block1/conv1/kernel", 1.01
    ),
    "learning rate: the weights move 2 times": set_to(rate=2 * RATE),
    "Nesterov's momentum: the update is 1.9 = 1 + momentum times": set_to(rate=1.9 * RATE),
    "the step does not update stem/conv/kernel": set_to(rate=0.0),
}


@pytest.mark.parametrize("words", FAULTS)
def test_a_planted_fault_is_caught_and_named(words, initial):
    failed, _, causes = diagnosed(initial, FAULTS[words])
    assert failed is not None
    assert any(words in cause for cause in causes), causes


@pytest.mark.parametrize(
    "fault", [forward_from("stage1", 1e-3), forward_from("stem", 1e-4), transposed_head]
)
def test_what_no_mistake_explains_has_no_cause(fault, initial):
    failed, _, causes = diagnosed(initial, fault)
    assert (failed is None, causes) == (False, [])


def test_precision_is_a_cause_only_if_the_products_are_not_exact(initial):
    fault, coarse = forward_from("stem", 1e-4), Suspects(products_are_exact=False)
    assert "precision: the first layer" in diagnosed(initial, fault, suspects=coarse)[2][0]
    assert diagnosed(initial, fault)[2] == []


def outcome_of(fault):
    """The loss and the last layer's gradients that a fault leads to."""

    def computed(initial):
        step = Step(initial)
        fault(step)
        last = {name: step.gradients[name] for name in SPEC.stable_gradients}
        return {"loss": np.array(step.loss), **last}

    return computed


def test_a_mistake_is_named_if_its_computed_step_equals_this_one(initial):
    def mistakes():
        yield "a changed label", outcome_of(changed_label)(initial)
        yield "transposed", outcome_of(transposed_head)(initial)

    _, _, causes = diagnosed(initial, transposed_head, suspects=Suspects(mistakes))
    assert causes == ["transposed"]


def test_a_constant_is_solved_for(initial):
    def bent_by(strength):
        def fault(step):
            bent = {name: np.sin(strength * g) for name, g in step.gradients.items()}
            step.gradients, step.loss = bent, 4.0 * strength

        return fault

    def constants():
        yield OtherConstant("bend", 1.0, lambda one: outcome_of(bent_by(one))(initial))

    own, right = (outcome_of(bent_by(strength))(initial) for strength in (1.05, 1.0))
    found = Explained(own, right, dict.fromkeys(right, 1e-6)).causes((), constants())
    assert found == ["bend: 1.05 in place of 1"]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("weight decay is missing on the kernel of most layers", set_to(decay=0.0)),
        ("weight decay is applied to the scale of most", set_to(decayed=lambda name: True)),
    ],
)
def test_a_decay_that_hides_in_rounding_shows_in_what_layers_have_in_common(words, fault, initial):
    coarse = {**dict.fromkeys(JUDGED, 0.5), "decay": 1e-4}
    failed, _, causes = diagnosed(initial, fault, coarse)
    assert failed.name == "decay"
    assert any(words in cause for cause in causes), causes


def test_a_fault_in_what_begins_at_zero_is_a_verdict_as_well(initial):
    initial["head/bias"] = np.zeros(50)
    failed, _, causes = diagnosed(initial, scaled("head/bias", 1.01))
    assert failed is not None
    assert "the gradient of head/bias is 1.01 times the expected one" in causes


def test_the_first_difference_is_the_first_of_the_forward_pass(initial):
    _, first, _ = diagnosed(initial, forward_from("stage1/block1/conv2", 0.5))
    assert first == "statistics of stage1/block1/conv2/bn/mean"
    _, first, _ = diagnosed(initial, scaled("head/kernel", 1.01))
    assert first == "gradient of head/kernel"


def test_a_gradient_off_by_more_than_a_factor_is_located(initial):
    def fault(step):
        for name in ("stem/conv/kernel", "stage1/block1/conv1/kernel"):
            step.gradients[name] = step.gradients[name][..., ::-1].copy()

    _, _, causes = diagnosed(initial, fault)
    assert causes == [
        "the backward pass: the gradient of stage1/block1/conv1/kernel is the first of it to be off"
    ]


def test_what_is_missing_or_of_another_shape_is_named(initial):
    oracle = Step(initial).read()
    read = Step(initial).read()
    del read["weights/head/bias"]
    read["optimizer/head/kernel"] = read["optimizer/head/kernel"].T
    assert mismatches(read, oracle) == ["weights/head/bias", "optimizer/head/kernel"]


def test_checks_without_a_tolerance_are_shown_and_not_judged(initial):
    oracle = Step(initial).read()
    faulty = Step(initial)
    scaled("head/kernel", 2.0)(faulty)
    errors = step_errors(SPEC, initial, faulty.read(), oracle)
    checks = step_checks(errors, {"loss": 1e-9})
    assert first_failure(checks) is None
    assert next(one for one in checks if one.name == "gradient").error > 0.1


def test_what_is_not_finite_fails(initial):
    def fault(step):
        step.gradients["head/kernel"][0, 0] = np.inf

    failed, _, _ = diagnosed(initial, fault)
    assert (failed.name, failed.error) == ("gradient", None)


@pytest.mark.parametrize(
    ("losses", "factor", "failing"),
    [([4.0, 3.0], 1.0, None), ([4.0, 3.1], 1.0, "losses"), ([4.0, 3.0], 0.5, "momentum")],
)
def test_followed_steps_are_compared_by_losses_and_by_the_state_they_end_in(
    losses, factor, failing
):
    state = {"a": np.array([1.0, 2.0])}
    own = {name: factor * array for name, array in state.items()}
    checks = [
        trajectory_check(losses, [4.0, 3.0], TOLERANCE),
        state_check("momentum", own, state, TOLERANCE),
    ]
    failed = first_failure(checks)
    assert (failed and failed.name) == failing


def test_a_program_that_lost_its_state_fails_the_followed_steps():
    check = state_check("momentum", {}, {"a": np.ones(2)}, TOLERANCE)
    assert (check.error, check.passes) == (None, False)


def test_the_first_layer_is_judged_by_itself(initial):
    tolerance = {**TOLERANCE, "statistics": 1.0, "loss": 1.0, "gradient": 1.0}
    failed, _, _ = diagnosed(initial, forward_from("stem", 1e-4), tolerance)
    assert failed.name == "first_layer"
    assert dataclasses.asdict(failed)["worst_tensor"].startswith("stem/conv/bn/")
