"""Workloads of requests for the fake frameworks: one at a time, and three of a sequence."""

from __future__ import annotations

import numpy as np

from benchmarks.contract.task import Inference
from benchmarks.contract.workload import WorkloadSpec

LENGTH = 3
"""Requests of a sequence."""
LIMITS = {"fp32": 1e-5, "fp64": 1e-10}
BIAS = 0.25


def weights(work):
    yield "weight", np.arange(1, 5, dtype=np.float32)


def batch(work, index):
    generator = np.random.default_rng(index)
    return {"images": generator.standard_normal((work.batch_size, 4), dtype=np.float32)}


def answer_error(answer, read):
    return float(np.abs(answer - read["logits"]).max())


def logits(weight, images, *, count=0, bias=BIAS):
    """What a request is answered with; `count` requests of its sequence came before it."""
    return images * weight + bias + count


def known_mistakes(work, arrays, request):
    right = [logits(arrays["weight"], request["images"], count=i) for i in range(requests_of(work))]
    yield "the bias is missing", np.stack([one - BIAS for one in right])


def requests_of(work):
    return LENGTH if work.workload == "fake_decode" else 1


def spec(name):
    return WorkloadSpec(
        name=name,
        version=1,
        unit="token" if name == "fake_decode" else "request",
        sizes={"tiny": {"width": 4}},
        default_batch_size={"tiny": 2},
        precisions=("fp32", "fp64"),
        hyperparameters={},
        weights=weights,
        batch=batch,
        items_per_step=lambda work: work.batch_size,
        flop_per_step=lambda work: 1000,
        memory_bytes=lambda case, capabilities: 2**20,
        tolerances={
            precision: dict.fromkeys(("logits", "logits_worst", "timed"), limit)
            for precision, limit in LIMITS.items()
        },
        task=Inference(
            per_batch=requests_of,
            answer_error=answer_error,
            known_mistakes=known_mistakes,
            num_weight_bytes=lambda case: 16,
        ),
    )


SPECS = {name: spec(name) for name in ("fake_infer", "fake_decode")}
