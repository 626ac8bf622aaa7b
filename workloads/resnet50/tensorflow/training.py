"""ResNet-50 training in TensorFlow: raw operations, one function for the whole step, no Keras.

All three executions run the same Python: `eager` calls it, `graph` and `compiled` trace it. The
tuned recipe computes convolutions of small images as matmuls, in XLA also every 1x1 convolution.
Keras splits batch normalisation into several operations here; TensorFlow has a fused one.

Shapes: B batch, H height, W width, C channels in, D channels out. Images are BHWC, kernels HWCD,
which are TensorFlow's own layouts, so that nothing is transposed.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks.contract.case import TUNED as RECIPE_TUNED
from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.tensorflow.adapter import count_flop
from workloads.resnet50 import network as resnet50
from workloads.resnet50.tensorflow import products
from workloads.resnet50.tensorflow.network import (
    activations_of,
    convolutions_for,
    features,
    layout_of,
)

IMPLEMENTS = {"resnet50_train"}
TUNED = {"resnet50_train": "convolutions of small images, in XLA every 1x1 too, as matmuls"}
TUNED_ON = {"resnet50_train": {"cpu"}}


class Numerics(NamedTuple):
    """The dtypes of a precision."""

    master: Any
    """Parameters, optimizer, statistics and loss."""
    compute: Any
    """Convolutions, the dense layer and everything between them."""
    loss_scale: float = 1.0


NUMERICS = {
    "fp32": Numerics(tf.float32, tf.float32),
    "tf32": Numerics(tf.float32, tf.float32),
    "bf16": Numerics(tf.float32, tf.bfloat16),
    # A power of two scales exactly; 128 is what NVIDIA's ResNet-50 recipes use with fp16.
    "fp16": Numerics(tf.float32, tf.float16, loss_scale=128.0),
    "fp64": Numerics(tf.float64, tf.float64),
}


def build(problem: Problem, framework: Framework) -> ResNet50Training:
    """Build the training program; it has no weights and no batches yet."""
    return ResNet50Training(problem, framework)


class ResNet50Training:
    """Variables, device-resident batches and the function of one step."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        self._framework = framework
        self._layers = resnet50.network(problem.parameters)
        self._hyperparameters = problem.hyperparameters
        self._numerics = NUMERICS[problem.case.way.precision]
        self._convolutions = convolutions_for(problem.case)
        if problem.case.way.recipe == RECIPE_TUNED:
            is_xla = problem.case.way.execution == "compiled"
            operation = products.convolve_in_xla if is_xla else products.convolve_in_onednn
            self._convolutions = dataclasses.replace(self._convolutions, operation=operation)
        self._train_step = _executed(self._train_step_in_python, problem.case.way.execution)
        self._parameters: dict[str, Any] = {}
        self._statistics: dict[str, Any] = {}
        self._momenta: dict[str, Any] = {}
        self._batches: list[tuple[Any, Any]] = []
        self._turns = itertools.cycle(self._batches)
        self._loss: Any = None
        # Created once: otherwise eager execution would copy them to the device for each parameter.
        self._learning_rate = self._constant(problem.hyperparameters["learning_rate"])
        self._momentum = self._constant(problem.hyperparameters["momentum"])

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics; reset the optimizer's state.

        Variables are kept when weights are loaded again, so that nothing is traced again.
        """
        for name, array in weights.items():
            if resnet50.is_statistic(name):
                self._assign(self._statistics, name, array, trainable=False)
            else:
                self._assign(self._parameters, name, array, trainable=True)
                self._assign(self._momenta, name, np.zeros_like(array), trainable=False)

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these batches to the device; the next step uses the first, then they take turns.

        Labels become int64: TensorFlow keeps eager int32 tensors in host memory, and a GPU would
        fetch them from there in each step.
        """
        put = self._framework.put
        self._batches = [
            (put(batch["images"]), put(batch["labels"].astype(np.int64))) for batch in batches
        ]
        self._turns = itertools.cycle(self._batches)

    def step(self) -> Any:
        """Enqueue one training step on the next batch and return its loss."""
        images_BHWC, labels_B = next(self._turns)
        self._loss = self._train_step(images_BHWC, labels_B)
        return self._loss

    def read(self) -> dict[str, np.ndarray]:
        """Copies of the last loss, the weights, the momentum buffers and the statistics."""
        get = self._framework.get
        groups = {
            "weights": self._parameters,
            "optimizer": self._momenta,
            "statistics": self._statistics,
        }
        arrays = {
            f"{group}/{name}": get(variable)
            for group, variables in groups.items()
            for name, variable in variables.items()
        }
        return {"loss": get(self._loss), **arrays}

    def inspect(self) -> Effective:
        """Dtypes, layout and FLOP of the step, from its graph, which every execution runs."""
        traced = tf.function(self._train_step_in_python, autograph=False)
        graph = traced.get_concrete_function(*self._batches[0]).graph
        update = next(one for one in graph.get_operations() if one.type == "ResourceApplyMomentum")
        return Effective(
            parameters=self._parameters["head/kernel"].dtype.name,
            gradients=update.get_attr("T").name,
            optimizer=self._momenta["head/kernel"].dtype.name,
            activations=activations_of(graph),
            layout=layout_of(graph),
            flop_per_step=count_flop(graph),
        )

    def _constant(self, value: float) -> Any:
        return self._framework.put(np.array(value, self._numerics.master.as_numpy_dtype))

    def _assign(
        self, variables: dict[str, Any], name: str, array: np.ndarray, *, trainable: bool
    ) -> None:
        value = self._framework.put(array.astype(self._numerics.master.as_numpy_dtype))
        if name in variables:
            variables[name].assign(value)
        else:
            variables[name] = tf.Variable(value, trainable=trainable, name=name.replace("/", "_"))

    def _train_step_in_python(self, images_BHWC: Any, labels_B: Any) -> Any:
        """Return the loss; update parameters, momenta and statistics."""
        loss_scale = self._numerics.loss_scale
        with tf.GradientTape() as tape:
            logits_BD = self._logits(tf.cast(images_BHWC, self._numerics.compute))
            losses_B = tf.nn.sparse_softmax_cross_entropy_with_logits(labels_B, logits_BD)
            loss = tf.reduce_mean(losses_B)
            scaled_loss = loss if loss_scale == 1.0 else loss * loss_scale
        gradients = tape.gradient(scaled_loss, list(self._parameters.values()))
        for name, gradient in zip(self._parameters, gradients):
            self._update(name, gradient if loss_scale == 1.0 else gradient / loss_scale)
        return loss

    def _update(self, name: str, gradient: Any) -> None:
        """Update a parameter in one operation: v = m v + g, w = w - rate v.

        https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceApplyMomentum
        """
        weight = self._parameters[name]
        if resnet50.is_decayed(name):
            gradient += self._hyperparameters["weight_decay"] * weight
        tf.raw_ops.ResourceApplyMomentum(
            var=weight.handle,
            accum=self._momenta[name].handle,
            lr=self._learning_rate,
            grad=gradient,
            momentum=self._momentum,
        )

    def _logits(self, images_BHWC: Any) -> Any:
        """Class scores in the master precision."""
        compute, master = self._numerics.compute, self._numerics.master
        x_BC = features(self._layers, images_BHWC, self._convolve_and_normalise)
        logits_BD = tf.matmul(x_BC, tf.cast(self._parameters["head/kernel"], compute))
        return tf.cast(logits_BD, master) + self._parameters["head/bias"]

    def _convolve_and_normalise(self, conv: resnet50.Convolution, x_BHWC: Any) -> Any:
        kernel_HWCD = tf.cast(self._parameters[f"{conv.name}/kernel"], self._numerics.compute)
        x_BHWD = self._convolutions.convolve(conv, x_BHWC, kernel_HWCD)
        return self._normalise(f"{conv.name}/bn", x_BHWD)

    def _normalise(self, name: str, x_BHWD: Any) -> Any:
        """Batch normalisation over B, H and W; updates the running statistics."""
        mean_D, variance_D = self._statistics[f"{name}/mean"], self._statistics[f"{name}/variance"]
        normalise = _normalise_float64 if x_BHWD.dtype == tf.float64 else _normalise_fused
        result = normalise(
            x_BHWD,
            scale_D=self._parameters[f"{name}/scale"],
            bias_D=self._parameters[f"{name}/bias"],
            mean_D=mean_D,
            variance_D=variance_D,
            epsilon=self._hyperparameters["batch_norm_epsilon"],
            share=self._hyperparameters["batch_norm_momentum"],
        )
        mean_D.assign(result.mean_D)
        variance_D.assign(result.variance_D)
        return result.y_BHWD


class Normalised(NamedTuple):
    """The output of batch normalisation, and the running statistics updated with this batch."""

    y_BHWD: Any
    mean_D: Any
    variance_D: Any


def _normalise_fused(
    x_BHWD: Any,
    *,
    scale_D: Any,
    bias_D: Any,
    mean_D: Any,
    variance_D: Any,
    epsilon: float,
    share: float,
) -> Normalised:
    """Batch normalisation as one operation, with statistics in float32 for every dtype of x.

    The running variance averages the unbiased variances. XLA expands the operation and fuses its
    parts with their neighbours, so that `compiled` can use the same code.
    https://www.tensorflow.org/api_docs/python/tf/raw_ops/FusedBatchNormV3
    """
    y_BHWD, mean_D, variance_D, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x_BHWD,
        scale=scale_D,
        offset=bias_D,
        mean=mean_D,
        variance=variance_D,
        epsilon=epsilon,
        exponential_avg_factor=share,
        is_training=True,
    )
    return Normalised(y_BHWD, mean_D, variance_D)


def _normalise_float64(
    x_BHWD: Any,
    *,
    scale_D: Any,
    bias_D: Any,
    mean_D: Any,
    variance_D: Any,
    epsilon: float,
    share: float,
) -> Normalised:
    """The same by separate operations, because the fused one has no float64; parity only."""
    batch_mean_D, batch_variance_D = tf.nn.moments(x_BHWD, axes=(0, 1, 2))
    num_samples = math.prod(x_BHWD.shape[:-1])
    unbiased_D = batch_variance_D * (num_samples / (num_samples - 1))
    return Normalised(
        tf.nn.batch_normalization(x_BHWD, batch_mean_D, batch_variance_D, bias_D, scale_D, epsilon),
        mean_D + share * (batch_mean_D - mean_D),
        variance_D + share * (unbiased_D - variance_D),
    )


def _executed(function: Callable[..., Any], execution: str) -> Callable[..., Any]:
    """The function as this execution runs it."""
    if execution == "eager":
        return function
    traced: Callable[..., Any] = tf.function(
        function, autograph=False, jit_compile=execution == "compiled"
    )
    return traced
