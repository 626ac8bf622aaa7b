"""Step 1 of training in plain NumPy and float64, right or with a mistake that is common in ports.

It explains a wrong loss or gradient and is never timed. NumPy, the contract and the workload only.

Shapes: B batch, H height, W width, C channels in, V classes. Images are BHWC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from benchmarks.contract.mistake import OtherConstant, Outcome
from workloads.cross_entropy import Items
from workloads.resnet50.network import Network
from workloads.resnet50.reference import (
    COARSE_DTYPES,
    EPSILONS,
    Forward,
    in_dtype,
    suspected_images,
    suspected_passes,
    suspected_weights,
)

MAX_DROPPED = 64
"""The most labels of a batch of which each one is suspected to be dropped."""


@dataclass(frozen=True)
class FirstStep:
    """Step 1 from these weights on this batch, by this forward pass."""

    layers: Network
    arrays: Mapping[str, np.ndarray]
    batch: Mapping[str, np.ndarray]
    forward: Forward
    momentum: float
    """The weight of the batch in the running statistics."""

    def items(self) -> Items:
        """What the dense layer takes and gives."""
        features_BC = self.forward.features(self.layers, self.arrays, self.batch["images"])
        return self.with_head(features_BC, self.arrays["head/kernel"])

    def with_head(self, features_BC: np.ndarray, kernel_CV: np.ndarray) -> Items:
        """The same by the dense layer of this kernel."""
        logits_BV = features_BC @ kernel_CV + self.arrays["head/bias"]
        return Items(features_BC, logits_BV, self.batch["labels"])

    def outcome(self) -> Outcome:
        """The loss and the dense layer's gradients."""
        return self.items().outcome()

    def first_statistics(self) -> Outcome:
        """The running statistics of the first layer after the step."""
        name = f"{self.layers.stem.name}/bn"
        x_BHWC = np.asarray(self.batch["images"], np.float64)
        y_ND = self.forward.convolved(self.layers.stem, self.arrays, x_BHWC)
        y_ND = y_ND.reshape(-1, y_ND.shape[-1])
        found = {}
        for part, batch_D in (("mean", y_ND.mean(0)), ("variance", y_ND.var(0, ddof=1))):
            before_D = np.asarray(self.arrays[f"{name}/{part}"], np.float64)
            found[f"statistics/{name}/{part}"] = before_D + self.momentum * (batch_D - before_D)
        return found


def right_step(
    layers: Network,
    arrays: Mapping[str, np.ndarray],
    batch: Mapping[str, np.ndarray],
    *,
    epsilon: float,
    momentum: float,
) -> FirstStep:
    """Step 1 without a mistake."""
    return FirstStep(layers, arrays, batch, Forward(epsilon, batch_statistics=True), momentum)


def suspected_steps(right: FirstStep) -> Iterator[tuple[str, Outcome]]:
    """Descriptions of known mistakes, each with the outcome of the step that it leads to."""
    epsilon, images = right.forward.epsilon, right.batch["images"]
    for mistake, wrong in suspected_passes(epsilon):
        step = replace(right, forward=replace(wrong, batch_statistics=True))
        # Roundings differ from layer to layer after a few: the first layer alone tells.
        is_rounded = wrong.operand_bits is not None
        yield mistake, step.first_statistics() if is_rounded else step.outcome()
    yield (
        "batch normalisation in inference mode: it takes the running statistics, not the batch's",
        replace(right, forward=Forward(epsilon)).outcome(),
    )
    for mistake, changed in suspected_images(images):
        yield mistake, replace(right, batch={**right.batch, "images": changed}).outcome()
    for mistake, weights in suspected_weights(right.arrays):
        yield mistake, replace(right, arrays=weights).outcome()
    items = right.items()
    yield from _in_the_head(right, items)
    yield from _in_the_labels(items)


def _in_the_head(right: FirstStep, items: Items) -> Iterator[tuple[str, Outcome]]:
    features_BC, kernel_CV = items.features_NC, np.asarray(right.arrays["head/kernel"], np.float64)
    transposed = kernel_CV.T.reshape(kernel_CV.shape)
    turned = right.with_head(features_BC, transposed).outcome()
    yield (
        "transposed dense kernel head/kernel",
        {name: turned[name] for name in ("loss", "head/bias")},
    )
    for dtype in COARSE_DTYPES:
        kernel = in_dtype(kernel_CV, dtype)
        yield (
            f"the kernel of the dense layer is rounded to {dtype}",
            right.with_head(features_BC, kernel).outcome(),
        )
        features = in_dtype(features_BC, dtype)
        bias = in_dtype(right.arrays["head/bias"], dtype)
        logits_BV = in_dtype(in_dtype(features @ kernel, dtype) + bias, dtype)
        once_BV = in_dtype(features @ kernel + bias, dtype)
        for logits in (logits_BV, once_BV):
            yield (
                f"the dense layer computes in {dtype}",
                replace(
                    items,
                    features_NC=features,
                    logits_NV=logits,
                    round_gradient=partial(in_dtype, name=dtype),
                    round_result=partial(in_dtype, name=dtype),
                ).outcome(),
            )


def _in_the_labels(items: Items) -> Iterator[tuple[str, Outcome]]:
    num_items = len(items.labels_N)
    rolled = np.roll(items.labels_N, 1)
    yield "labels: each image has another image's", replace(items, labels_N=rolled).outcome()
    for index in range(min(num_items, MAX_DROPPED)):
        weights_B = np.where(np.arange(num_items) == index, 0, 1 / num_items)
        yield (
            f"labels: that of item {index} is dropped",
            replace(items, weights_N=weights_B).outcome(),
        )


def suspected_constants(right: FirstStep) -> Iterator[OtherConstant]:
    """The constants of training that may have another value."""

    def with_epsilon(epsilon: float) -> Outcome:
        return replace(right, forward=replace(right.forward, epsilon=epsilon)).outcome()

    def with_scale(factor: float) -> Outcome:
        images = factor * np.asarray(right.batch["images"], np.float64)
        return replace(right, batch={**right.batch, "images": images}).outcome()

    yield right.items().smoothed()
    yield OtherConstant(
        "epsilon of batch normalisation", right.forward.epsilon, with_epsilon, EPSILONS
    )
    yield OtherConstant("scale of the images", 1.0, with_scale)
