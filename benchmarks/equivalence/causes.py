"""The likely causes of a step that differs from the oracle: known mistakes by their traces.

A mistake is named only if it explains the difference: a forward pass with the mistake in it is
computed and compared, and the optimizer's formula is compared with the program's own state. An
empty list means that the cause is unknown. NumPy and the contract only.
"""

from __future__ import annotations

from benchmarks.contract.task import Tolerance
from benchmarks.equivalence import forward_causes, gradient_causes, update_causes
from benchmarks.equivalence.checks import StepErrors
from benchmarks.equivalence.trace import Trace, listed


def likely_causes(trace: Trace) -> list[str]:
    """The mistakes whose traces are found, the likeliest first; empty if none is known."""
    if trace.errors.unchanged:
        return [f"the step does not update {listed(trace.errors.unchanged)}"]
    if not trace.is_finite:
        return []
    if forward_causes.is_off(trace):
        return (
            forward_causes.computed(trace)
            or [*forward_causes.in_the_statistics(trace)]
            or [*forward_causes.located(trace)]
        )
    decoupled, in_gradients = [*update_causes.decoupled_decay(trace)], gradient_causes.exact(trace)
    # A decay of the wrong kind is missing in one place and unwanted in the other, which says more.
    decays = in_gradients + decoupled if trace.errors.second_moments else decoupled + in_gradients
    found = [
        *forward_causes.in_the_statistics(trace),
        *decays,
        *update_causes.in_the_optimizer(trace),
    ]
    if found:
        return list(dict.fromkeys(found))
    return forward_causes.computed(trace) or [*gradient_causes.located(trace)]


def first_difference(errors: StepErrors, tolerance: Tolerance) -> str | None:
    """The first tensor, in the order of the forward pass, that exceeds its group's tolerance.

    Statistics come first, since the forward pass computes them.
    """
    groups = (
        ("statistics", errors.statistics, "statistics"),
        ("gradient", errors.gradients, "gradient_tensor"),
        ("update", errors.updates, "update"),
    )
    for what, group, name in groups:
        limit = tolerance.get(name)
        for error in group:
            if limit is not None and not error.relative <= limit:
                return f"{what} of {error.name}"
    return None
