"""Mistakes planted into a decoder that answers: each is caught, and named in the output."""

from __future__ import annotations

import parity_cli
import pytest

from tests.parity import planting

WORKLOAD, MODEL = "transformer_infer", "transformer_inference"
NAMED = {
    ("decode", "rope_offset"): "RoPE: decode rotates one position too far",
    ("decode", "rope_at_zero"): "RoPE: decode rotates as at position 0 (the offset is missing)",
    ("decode", "stale_cache"): "(stale)",
    ("decode", "unmasked_cache"): "KV cache: slots not yet written are attended to (mask)",
    ("decode", "kept_prompt"): "state of the sequence before is left over (a stale KV cache",
    ("decode", "no_causal_mask"): "causal mask: there is none in the prompt",
    ("prefill", "no_causal_mask"): "causal mask: there is none in the prompt",
    ("decode", "norm_epsilon"): "epsilon of RMSNorm: 1e-6 in place of 1e-5",
    ("prefill", "norm_epsilon"): "epsilon of RMSNorm: 1e-6 in place of 1e-5",
}
"""By phase and fault, what the output says of it."""
ONLY_WHEN_FREE = ("stale_token", "second_best")
"""Faults of which a sequence with forced tokens has nothing."""
CONTINUED = "logits of free-running decode, against a full re-computation"
EXECUTIONS = {"pytorch": "eager", "jax": "compiled"}


class Planted:
    """The faults in one framework, proven when they are first asked for."""

    def __init__(self, framework, cache, folder):
        self.framework, self.cache, self.folder = framework, cache, folder
        self.found = {}
        faults = dict.fromkeys([*(fault for _, fault in NAMED), *ONLY_WHEN_FREE])
        planting.write_extension(folder, faults, model=MODEL, workloads=[WORKLOAD])

    def cell(self, precision, phase, fault):
        key = (precision, phase)
        if key not in self.found:
            faults = [one for own, one in NAMED if own == phase]
            faults += ONLY_WHEN_FREE if phase == "decode" else ()
            cells = parity_cli.cells_of(
                *("--extend", str(self.folder)),
                f"framework={','.join(f'{self.framework}_{one}' for one in faults)}",
                f"execution={EXECUTIONS[self.framework]}",
                *(f"precision={precision}", f"phase={phase}"),
                cache=self.cache,
                workload=WORKLOAD,
            )
            self.found[key] = {cell["framework"]: cell for cell in cells}
        return self.found[key][f"{self.framework}_{fault}"]


@pytest.fixture(scope="module", params=["pytorch", pytest.param("jax", marks=pytest.mark.slow)])
def faults(request, cache, tmp_path_factory):
    return Planted(request.param, cache, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("precision", ["fp64", pytest.param("fp32", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("phase", "fault"), NAMED)
def test_a_planted_fault_is_caught_and_named(phase, fault, precision, faults):
    cell = faults.cell(precision, phase, fault)
    assert cell["status"] == "fail"
    assert NAMED[phase, fault] in cell["causes"][0], (cell["causes"], cell["reason"])
    assert NAMED[phase, fault] in cell["reason"]


@pytest.mark.parametrize("fault", ONLY_WHEN_FREE)
@pytest.mark.parametrize(
    "precision", ["fp64", "bf16", pytest.param("fp32", marks=pytest.mark.slow)]
)
def test_a_program_that_does_not_go_on_with_its_own_answers_is_caught(precision, fault, faults):
    cell = faults.cell(precision, "decode", fault)
    assert cell["status"] == "fail"
    assert CONTINUED in cell["reason"]


def test_a_run_follows_a_programs_own_answers_too(faults, tmp_path):
    names = [f"{faults.framework}_{fault}" for fault in ONLY_WHEN_FREE]
    cells = parity_cli.cells_of_run(
        *("--extend", str(faults.folder)),
        f"framework={','.join([faults.framework, *names])}",
        f"execution={EXECUTIONS[faults.framework]}",
        *("precision=fp32", "phase=decode"),
        store=tmp_path,
        cache=faults.cache,
        workload=WORKLOAD,
    )
    found = {cell["framework"]: (cell["status"], cell["reason"]) for cell in cells}
    assert found[faults.framework][0] == "ok"
    for name in names:
        status, reason = found[name]
        assert status == "invalid_work"
        assert CONTINUED in reason
