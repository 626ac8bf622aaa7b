"""A workload of a third kind: a step makes one batch of images ready for training."""

from __future__ import annotations

import numpy as np

from benchmarks.contract.task import TaskSpec
from benchmarks.contract.workload import WorkloadSpec


class Pipeline(TaskSpec):
    """A step scales one batch; the whole batch is compared."""

    module = "fake_kind.pipeline"
    num_batches = 4


def weights(work):
    yield "scale", np.full(1, 2.0, np.float32)


def batch(work, index):
    generator = np.random.default_rng([work.seed, index])
    return {"images": generator.standard_normal((work.batch_size, 4), dtype=np.float32)}


SPECS = {
    "fake_pipeline": WorkloadSpec(
        name="fake_pipeline",
        version=1,
        unit="image",
        sizes={"tiny": {"width": 4}},
        default_batch_size={"tiny": 3},
        precisions=("fp32", "fp64"),
        hyperparameters={},
        weights=weights,
        batch=batch,
        items_per_step=lambda work: work.batch_size,
        flop_per_step=lambda work: 4 * work.batch_size,
        memory_bytes=lambda case, _: 2**20,
        tolerances={"fp32": {"batch": 1e-5}, "fp64": {"batch": 1e-12}},
        task=Pipeline(),
    )
}
