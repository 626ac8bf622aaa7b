"""Mistakes planted into a decoder that answers: each is caught, and named in the output."""

from __future__ import annotations

import pytest

from tests.parity import parity_cli, planting
from tests.parity.faults import Fault, parameters

WORKLOAD = "transformer_infer"
LATE = (
    "what depends on their position: the first 4 of a sequence are right, and the next one is off"
)
"""What is said of faults that begin within a sequence."""
NAMED = {
    ("decode", "rope_offset"): "RoPE: decode rotates one position too far",
    ("decode", "rope_at_zero"): "RoPE: decode rotates as at position 0 (the offset is missing)",
    ("decode", "stale_cache"): "(stale)",
    ("decode", "unmasked_cache"): "KV cache: slots not yet written are attended to (mask)",
    ("decode", "near_norm_epsilon"): "epsilon of RMSNorm: 1.1e-05 in place of 1e-05",
    ("decode", "gate_swapped"): "the MLP's gate and up are swapped",
    ("decode", "scores_by_dimension"): "attention scores are divided by the head's dimension",
    ("decode", "forgotten_first"): "KV cache: decoded tokens do not see the prompt's first one",
    ("decode", "cache_truncated"): LATE,
    ("decode", "rope_table_short"): LATE,
    ("decode", "stale_argmax"): "the returned token or logits are not those of this request",
    ("decode", "cache_in_bf16"): "KV cache: keys and values are kept in bfloat16",
    ("decode", "kept_prompt"): "state of the sequence before is left over (a stale KV cache",
    ("decode", "no_causal_mask"): "causal mask: there is none in the prompt",
    ("prefill", "no_causal_mask"): "causal mask: there is none in the prompt",
    ("decode", "norm_epsilon"): "epsilon of RMSNorm: 1e-06 in place of 1e-05",
    ("prefill", "norm_epsilon"): "epsilon of RMSNorm: 1e-06 in place of 1e-05",
}
"""By phase and fault, what the output says of it."""
ONLY_IN_FP64 = {("decode", "rope_base"): "base of RoPE: 10001 in place of 10000"}
"""Faults that fp32's rounding hides in so short a sequence."""
ONLY_WHEN_FREE = ("stale_token", "second_best")
"""Faults of which a sequence with forced tokens has nothing."""
CONTINUED = "logits of free-running decode, against a full re-computation"


def is_fp32(fault: Fault) -> bool:
    """Whether it repeats in fp32 what another precision shows."""
    return fault.precision == "fp32"


@pytest.mark.parametrize(
    "fault",
    parameters(
        (
            Fault(WORKLOAD, framework, precision, name, phase)
            for framework in ("pytorch", "jax")
            for precision in ("fp64", "fp32")
            for phase, name in {**NAMED, **(ONLY_IN_FP64 if precision == "fp64" else {})}
        ),
        slow=is_fp32,
    ),
)
def test_a_planted_fault_is_caught_and_named(fault, verdicts):
    verdict, said = verdicts.of(fault), {**NAMED, **ONLY_IN_FP64}[fault.phase, fault.name]
    assert verdict["status"] == "fail"
    assert said in verdict["causes"][0], (verdict["causes"], verdict["reason"])
    assert said in verdict["reason"]


@pytest.mark.parametrize(
    "fault",
    parameters(
        (
            Fault(WORKLOAD, framework, precision, name, "decode")
            for framework in ("pytorch", "jax")
            for precision in ("fp64", "bf16", "fp32")
            for name in ONLY_WHEN_FREE
        ),
        slow=is_fp32,
    ),
)
def test_a_program_that_does_not_go_on_with_its_own_answers_is_caught(fault, verdicts):
    verdict = verdicts.of(fault)
    assert verdict["status"] == "fail"
    assert CONTINUED in verdict["reason"]


@pytest.mark.parametrize("framework", ["pytorch", pytest.param("jax", marks=pytest.mark.slow)])
@pytest.mark.parametrize("workload", [WORKLOAD])
def test_a_run_follows_a_programs_own_answers_too(framework, workload, cache, tmp_path):
    extension = tmp_path / "planted"
    names = planting.write_extension(
        extension, ONLY_WHEN_FREE, workload=workload, frameworks=[framework]
    )
    cells = parity_cli.cells_of_run(
        *("--extend", str(extension)),
        f"framework={','.join([framework, *names])}",
        f"execution={planting.EXECUTIONS[framework]}",
        *("precision=fp32", "phase=decode"),
        store=tmp_path / "runs",
        cache=cache,
        workload=workload,
    )
    found = {cell["framework"]: (cell["status"], cell["reason"]) for cell in cells}
    assert found[framework][0] == "ok"
    for name in names:
        status, reason = found[name]
        assert status == "invalid_work"
        assert CONTINUED in reason or "answers of a timed sequence" in reason
