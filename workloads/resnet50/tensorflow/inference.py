"""ResNet-50 inference in TensorFlow: raw operations, one function from images to logits.

Tuned: batch normalisation is folded into the convolutions. In `graph` the weights are frozen into
the graph, whose optimizer fuses each convolution with its bias and rectifier and packs its kernel
once.

Shapes: B batch, H height, W width, C channels, V classes. Images are BHWC, which is TensorFlow's
own layout, so that nothing is transposed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, RequestProgram
from benchmarks.frameworks.tensorflow.adapter import COMPUTE_DTYPES, count_flop
from workloads.resnet50 import inference_spec as spec
from workloads.resnet50 import network as resnet50
from workloads.resnet50.tensorflow.network import (
    FoldedResNet50,
    activations_of,
    convolutions_for,
    frozen,
    layout_of,
)

IMPLEMENTS = {"resnet50_infer"}


def build(problem: Problem, framework: Framework) -> ResNet50Inference:
    """Build the program of this case; it has no weights and no requests yet."""
    return ResNet50Inference(problem, framework)


class ResNet50Inference(RequestProgram):
    """Runs device-resident requests through the folded model; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        case = problem.case
        self._framework = framework
        self._execution = case.way.execution
        size = problem.parameters["image_size"]
        self._epsilon = problem.hyperparameters["batch_norm_epsilon"]
        self._dtype = COMPUTE_DTYPES[case.way.precision]
        layers = resnet50.network(problem.parameters)
        self._model = FoldedResNet50(layers, convolutions_for(case))
        self._images_spec = tf.TensorSpec((case.work.batch_size, size, size, 3), self._dtype)
        self._respond: Callable[..., Any] = self._model.logits
        self._requests: list[Any] = []
        self._turns = itertools.cycle(self._requests)
        self._logits: Any = None

    def load(self, weights: Arrays) -> None:
        """Fold canonical weights and statistics into the model; trace the function with them."""
        for name, array in spec.folded(weights, self._epsilon):
            self._model.weights[name] = tf.Variable(self._put(array), trainable=False)
        if self._execution == "compiled":
            self._respond = tf.function(self._model.logits, autograph=False, jit_compile=True)
        if self._execution == "graph":
            constant = frozen(self._model, self._images_spec)
            self._respond = lambda images_BHWC: constant(images_BHWC)[0]

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these requests to the device."""
        self._requests = [self._put(batch["images"]) for batch in batches]
        self._turns = itertools.cycle(self._requests)

    def step(self) -> Any:
        """Enqueue the next request and return its logits."""
        self._logits = self._respond(next(self._turns))
        return self._logits

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        return {"logits": self._framework.get(self._logits)}

    def inspect(self) -> Effective:
        """Dtypes, layout and FLOP, from a graph of the model, which every execution runs."""
        traced = tf.function(self._model.logits, autograph=False)
        graph = traced.get_concrete_function(self._requests[0]).graph
        return Effective(
            parameters=self._model.weights["head/kernel"].dtype.name,
            activations=activations_of(graph),
            layout=layout_of(graph),
            flop_per_step=count_flop(graph),
            folded="batch normalisation",
        )

    def _put(self, array: np.ndarray) -> Any:
        wide = np.float64 if self._dtype == tf.float64 else np.float32
        return tf.cast(self._framework.put(array.astype(wide)), self._dtype)
