"""The mean cross-entropy and the gradients of the layer before it, in plain NumPy and float64.

They explain a wrong first step and are never timed. NumPy and the contract only.

Shapes: N items, C channels in, V classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable

import numpy as np

from benchmarks.contract.mistake import OtherConstant, Outcome


@dataclass(frozen=True)
class Items:
    """What the last layer takes and gives, and the labels."""

    features_NC: np.ndarray
    logits_NV: np.ndarray
    labels_N: np.ndarray
    smoothing: float = 0.0
    """Share of each target that is spread over all classes (label smoothing)."""
    weights_N: np.ndarray | None = None
    """The weight of each item; 1 / N if None."""
    round_gradient: Callable[[np.ndarray], np.ndarray] = np.asarray
    """Applied to the gradient of the logits."""
    round_result: Callable[[np.ndarray], np.ndarray] = np.asarray
    """Applied to the gradients of the layer's parameters."""

    def outcome(self) -> Outcome:
        """The loss, and the gradients of `head/kernel` and `head/bias`."""
        logits_NV = self.logits_NV - self.logits_NV.max(-1, keepdims=True)
        logits_NV = logits_NV - np.log(np.exp(logits_NV).sum(-1, keepdims=True))
        num_items, num_classes = logits_NV.shape
        weights_N = self.weights_N
        if weights_N is None:
            weights_N = np.full(num_items, 1 / num_items)
        targets_NV = np.full(logits_NV.shape, self.smoothing / num_classes)
        targets_NV[np.arange(num_items), self.labels_N] += 1 - self.smoothing
        gradient_NV = self.round_gradient((np.exp(logits_NV) - targets_NV) * weights_N[:, None])
        return {
            "loss": np.asarray(-(targets_NV * logits_NV).sum(-1) @ weights_N),
            "head/kernel": self.round_result(self.features_NC.T @ gradient_NV),
            "head/bias": self.round_result(gradient_NV.sum(0)),
        }

    def smoothed(self) -> OtherConstant:
        """Label smoothing of any strength."""
        return OtherConstant(
            "label smoothing", 0.0, lambda share: replace(self, smoothing=share).outcome()
        )
