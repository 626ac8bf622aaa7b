"""Every implementation that there is does the oracle's work: found in the catalog, not listed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.contract.framework import Capabilities
from benchmarks.planning.catalog import discover
from tests.parity import parity_cli
from tests.parity.proofs import Key

CATALOG = discover([parity_cli.PLAIN_CODE])
FAST_PRECISION = "fp64"
"""The one that tells mistakes from rounding; the others are slow tests, but an engine's fp32."""
PRECISIONS = (FAST_PRECISION, "fp32", "bf16", "int8")
QUANTISED = "int8"
"""What engines alone have, and no other precision tells of: it is fast too."""
FAST_EXECUTION = {"tensorflow": "graph", "keras_tensorflow": "compiled"}
"""The one of the executions that trace the same code, where there are several."""
CHECKS = {
    "resnet50_train": {"statistics", "first_layer"},
    "transformer_finetune": {"second_moment", "second_momentum", "decoupled_decay"},
    "transformer_lora": {"second_moment", "second_momentum", "frozen", "frozen_after"},
    "transformer_infer": {"recomputed"},
}
"""What is checked of a workload beside what is of all."""
COMMON_CHECKS = {"gemm", "convolution", "reproduced"}
CHECKS_OF_TRAINING = {"loss", "gradient", "update", "other_batch", "losses", "momentum"}
CHECKS_OF_ANSWERS = {"distinct", "answer", "logits", "logits_worst"}


def answers(workload: str) -> bool:
    """Whether the workload is of requests."""
    return CATALOG.workloads[workload].spec.task.module.endswith("inference.task")


def fast_precision(own: Capabilities) -> str:
    """Keras is proven on its backends' precision where it has it, and else not among the fast."""
    has_none = own.family is None and FAST_PRECISION not in own.precisions["cpu"]
    return "fp32" if has_none else FAST_PRECISION


def implemented(*, plain: bool) -> list[tuple[str, Capabilities]]:
    """(workload, framework) of Dyno's own, or of the plain code that they are compared with."""
    return [
        (workload, CATALOG.frameworks[framework].capabilities)
        for workload, framework in CATALOG.implementations
        if framework in CATALOG.frameworks
        and (parity_cli.PLAIN_CODE in CATALOG.frameworks[framework].folder.parents) == plain
    ]


def is_slow(own: Capabilities, key: Key) -> bool:
    """What runs a C++ compiler for a minute, all but one precision, and what only repeats.

    An execution repeats another when both trace the same code; and each but the first of LoRA
    repeats one of the whole fine-tune.
    """
    fast = FAST_EXECUTION.get(own.name, key.execution)
    if key.workload == "transformer_lora":
        fast = own.executions[0]
    is_other = key.precision not in (fast_precision(own), QUANTISED)
    return key.execution != fast or is_other or (key.execution, "cpu") in own.needs_compiler


def _parameters(*, plain: bool) -> Iterator:
    for workload, own in implemented(plain=plain):
        for execution in own.executions:
            for precision in PRECISIONS:
                if precision == QUANTISED and precision not in own.precisions["cpu"]:
                    continue
                key = Key(workload, own.name, execution, precision)
                marks = [pytest.mark.slow] if plain or is_slow(own, key) else []
                yield pytest.param(key, id=key.id, marks=marks)


def test_every_implementation_has_a_framework():
    orphans = [
        str(entry.file)
        for (_, framework), entry in CATALOG.implementations.items()
        if framework not in CATALOG.frameworks
    ]
    assert orphans == []


@pytest.mark.parametrize("key", [*_parameters(plain=False), *_parameters(plain=True)])
def test_an_implementation_does_the_oracles_work(key, proofs):
    cells = proofs.cells(key)
    assert cells
    skipped = [cell["reason"] for cell in cells if cell["status"] == "skip"]
    if skipped:
        pytest.skip(skipped[0])
    for cell in cells:
        assert (cell["status"], cell["reason"]) == ("pass", None)
        names = {check["name"] for check in cell["checks"]}
        of_kind = CHECKS_OF_ANSWERS if answers(key[0]) else CHECKS_OF_TRAINING
        assert COMMON_CHECKS | of_kind | CHECKS.get(key[0], set()) <= names
        if cell.get("phase") == "decode":
            assert "continued" in names
        if key[3] == QUANTISED:
            assert "integer" in names


def _decoders() -> Iterator:
    """Every way of the decoder, in the precision that tells most."""
    for workload, own in implemented(plain=False):
        if workload in ("transformer_finetune", "transformer_lora"):
            precision = "fp64" if "fp64" in own.precisions["cpu"] else "fp32"
            for execution in own.executions:
                yield Key(workload, own.name, execution, precision)


@pytest.mark.slow
@pytest.mark.parametrize("way", list(_decoders()), ids=lambda way: way.id)
@pytest.mark.parametrize("asked", ["recompute=full", "precision=bf16_pure"])
def test_another_way_to_the_decoder_does_the_same_work(way, asked, cache):
    workload, framework, execution, precision = way
    [cell] = parity_cli.cells_of(
        f"framework={framework}",
        f"execution={execution}",
        f"precision={precision}",
        asked,
        cache=cache,
        workload=workload,
    )
    if cell["status"] == "skip":
        pytest.skip(cell["reason"])
    assert (cell["status"], cell["reason"]) == ("pass", None)


def _tuned() -> Iterator:
    """Every tuned way, in fp64 if it has that, and in fp32; those of libraries are slow."""
    for workload, own in implemented(plain=False):
        if CATALOG.implementations[workload, own.name].rewrites is None:
            continue
        for execution in own.executions:
            for precision in (FAST_PRECISION, "fp32"):
                if precision in own.precisions["cpu"]:
                    key = Key(workload, own.name, execution, precision)
                    marks = [pytest.mark.slow] * (is_slow(own, key) or own.family is not None)
                    yield pytest.param(key, id=key.id, marks=marks)


@pytest.mark.parametrize("way", list(_tuned()))
def test_a_tuned_recipe_does_the_same_work(way, cache):
    workload, framework, execution, precision = way
    cells = parity_cli.cells_of(
        *(f"framework={framework}", f"execution={execution}", f"precision={precision}"),
        "recipe=tuned",
        cache=cache,
        workload=workload,
    )
    assert cells
    if cells[0]["status"] == "skip" and not cells[0]["reason"].startswith("not implemented"):
        pytest.skip(cells[0]["reason"])
    for cell in cells:
        assert (cell["recipe"], cell["status"], cell["reason"]) == ("tuned", "pass", None)
        assert cell["rewrites"]


@pytest.mark.parametrize("key", list(_parameters(plain=False)))
def test_an_implementation_says_what_it_works_with(key, proofs):
    cell, precision = proofs.cells(key)[-1], key[3]
    if cell["status"] == "skip":
        pytest.skip(cell["reason"])
    effective = cell["effective"]
    if precision == QUANTISED:
        assert (effective["parameters"], effective["activations"][-4:]) == ("int8", "int8")
        return
    master = "float64" if precision == "fp64" else "float32"
    expected = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16"}[precision]
    if answers(key[0]):
        assert effective["parameters"] in (master, expected)
    else:
        assert {effective[name] for name in ("parameters", "gradients", "optimizer")} == {master}
    assert effective["activations"] == expected
    if key[0].startswith("resnet50"):
        assert effective["layout"] in ("NHWC", "NCHW")
    else:
        assert effective["attention"]
    assert cell["settings"]["products"] in (expected, "float32")
    assert {one["like"] for one in cell["precision_like"].values()} == {precision}


@pytest.mark.parametrize("workload", [name for name in CATALOG.workloads if answers(name)])
def test_an_engine_is_proven_wherever_it_is_quick(workload):
    """Engines have no float64: their fp32 is among the fast tests."""
    fast = {
        own.name
        for name, own in implemented(plain=False)
        if name == workload
        for execution in own.executions
        if not is_slow(own, Key(workload, own.name, execution, "fp32"))
    }
    assert "onnxruntime" in fast
