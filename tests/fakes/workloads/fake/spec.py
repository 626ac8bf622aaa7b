"""A workload of one weight beside a frozen one, for the fake frameworks."""

from __future__ import annotations

import numpy as np

from benchmarks.contract.case import RECIPE, RECIPES
from benchmarks.contract.optimizer import SGD
from benchmarks.contract.workload import WorkloadSpec

JUDGED = (
    *("loss", "gradient", "gradient_tensor", "gradient_norm", "cosine", "update", "update_norm"),
    *("losses", "momentum", "continued_loss", "continued_gradient"),
)


def weights(work):
    if work.size == "unmakeable":
        raise OSError("no space left for the arrays")
    yield "weight", np.arange(1, 5, dtype=np.float32)
    yield "base", np.ones(3, np.float32)


def memory_bytes(case, capabilities):
    """Little, but for the oracle of the large size, which no machine has room for."""
    return 2**60 if (case.work.size, case.way.precision) == ("large", "fp64") else 2**20


SPECS = {
    "fake_train": WorkloadSpec(
        name="fake_train",
        version=1,
        unit="image",
        sizes={name: {"width": 4} for name in ("tiny", "large", "unmakeable")},
        default_batch_size={"tiny": 2, "large": 2, "unmakeable": 2},
        precisions=("fp32", "fp64"),
        hyperparameters={},
        weights=weights,
        batch=lambda work, index: {"images": np.full(2, 1 + index / 8, np.float32)},
        items_per_step=lambda work: work.batch_size,
        flop_per_step=lambda work: 1000,
        memory_bytes=memory_bytes,
        optimizer=SGD(learning_rate=0.001),
        gradients=lambda initial, read: iter([("weight", read["optimizer/weight"])]),
        way_options={RECIPE: RECIPES},
        proxies=("tiny",),
        tolerances={
            # A step is so small beside the weights that fp32 rounds it by 1e-3.
            name: {**dict.fromkeys(JUDGED, limit), "own_update": 10 * limit}
            for name, limit in (("fp32", 1e-3), ("fp64", 1e-10))
        },
    ),
}
