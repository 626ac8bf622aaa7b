"""ResNet-50 training in MLX: one function from a batch to the new state, lazy or compiled.

Both executions run the same Python: `eager` evaluates the operations that a step recorded,
`compiled` traces them once. Parameters are a flat dictionary, the form that MLX differentiates.

Shapes: B batch, H height, W width, C channels in, D channels out. Images are BHWC, which MLX's
convolutions take; kernels are DHWC here and HWCD in canonical layout, the dense one is CD in both.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

import mlx.core as mx
import numpy as np
from mlx import nn

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.mlx.adapter import Convolution, dtype_name
from workloads.resnet50 import network as resnet50
from workloads.resnet50.mlx import network

IMPLEMENTS = {"resnet50_train"}

OVER_SAMPLES = (0, 1, 2)
"""The axes of BHWD that batch normalisation averages over."""


class Numerics(NamedTuple):
    """The dtypes of a precision."""

    master: Any
    """Parameters, optimizer, batch statistics, logits and loss."""
    compute: Any
    """Convolutions, the dense layer and everything between them."""
    loss_scale: float = 1.0


NUMERICS = {
    "fp32": Numerics(mx.float32, mx.float32),
    "tf32": Numerics(mx.float32, mx.float32),
    "bf16": Numerics(mx.float32, mx.bfloat16),
    # A power of two scales exactly; 128 is what NVIDIA's ResNet-50 recipes use with fp16.
    "fp16": Numerics(mx.float32, mx.float16, loss_scale=128.0),
    "fp64": Numerics(mx.float64, mx.float64),
}


class Operations(NamedTuple):
    """The operations of the layers, for one precision and device."""

    numerics: Numerics
    convolutions: Mapping[int, Convolution]
    """The convolutions by their stride."""
    normalise: Callable[..., Sequence[mx.array]]
    share: float
    """Weight of the new batch in the running statistics."""


def build(problem: Problem, framework: Framework) -> ResNet50Training:
    """Build the training program; it has no weights and no batches yet."""
    return ResNet50Training(problem, framework)


def batch_normalisation(epsilon: float) -> Any:
    """A function of x BHWD, scale D and bias D that returns normalised x, mean and variance.

    Ioffe and Szegedy (2015), algorithm 1 and the gradient beneath it. Differs from nn.BatchNorm,
    which computes the variance twice, and whose automatic gradient takes three more passes and
    keeps the centred input in the master precision. The statistics pass no gradient back.
    """

    @mx.custom_function
    def normalise(x_BHWD: mx.array, scale_D: mx.array, bias_D: mx.array) -> Sequence[mx.array]:
        x = x_BHWD.astype(scale_D.dtype)
        mean_D = x.mean(OVER_SAMPLES)
        centred = x - mean_D
        variance_D = mx.square(centred).mean(OVER_SAMPLES)
        y = centred * (scale_D * mx.rsqrt(variance_D + epsilon)) + bias_D
        return y.astype(x_BHWD.dtype), mean_D, variance_D

    @normalise.vjp
    def gradients(
        primals: Sequence[mx.array], cotangents: Sequence[mx.array], outputs: Sequence[mx.array]
    ) -> Sequence[mx.array]:
        x_BHWD, scale_D, _ = primals
        _, mean_D, variance_D = outputs
        dy = cotangents[0].astype(scale_D.dtype)
        inverse_D = mx.rsqrt(variance_D + epsilon)
        normalised = (x_BHWD.astype(scale_D.dtype) - mean_D) * inverse_D
        dscale_D = (dy * normalised).sum(OVER_SAMPLES)
        dbias_D = dy.sum(OVER_SAMPLES)
        num_samples = x_BHWD.size // x_BHWD.shape[-1]
        dx = dy - (dbias_D + normalised * dscale_D) / num_samples
        return (dx * (scale_D * inverse_D)).astype(x_BHWD.dtype), dscale_D, dbias_D

    return normalise


class ForwardPass:
    """One pass from images to logits, and the running statistics updated with this batch."""

    def __init__(
        self,
        operations: Operations,
        parameters: Mapping[str, mx.array],
        statistics: Mapping[str, mx.array],
    ) -> None:
        self.moved: dict[str, mx.array] = {}
        """The updated statistics of the layers that this pass has computed."""
        self._operations = operations
        self._parameters = parameters
        self._statistics = statistics

    def logits(self, layers: resnet50.Network, images_BHWC: mx.array) -> mx.array:
        """Class scores, BD, in the master precision."""
        master, compute, _ = self._operations.numerics
        x_BC = self.features(layers, images_BHWC)
        logits_BD = x_BC @ self._parameters["head/kernel"].astype(compute)
        return logits_BD.astype(master) + self._parameters["head/bias"]

    def features(self, layers: resnet50.Network, images_BHWC: mx.array) -> mx.array:
        """The input of the dense layer, BC in the compute precision."""
        images_BHWC = images_BHWC.astype(self._operations.numerics.compute)
        return network.features(layers, images_BHWC, self._convolve_and_normalise)

    def _convolve_and_normalise(self, layer: resnet50.Convolution, x_BHWC: mx.array) -> mx.array:
        parameters, bn = self._parameters, f"{layer.name}/bn"
        kernel_DHWC = parameters[f"{layer.name}/kernel"].astype(self._operations.numerics.compute)
        x_BHWD = self._operations.convolutions[layer.stride](x_BHWC, kernel_DHWC)
        y_BHWD, mean_D, variance_D = self._operations.normalise(
            x_BHWD, parameters[f"{bn}/scale"], parameters[f"{bn}/bias"]
        )
        num_samples = x_BHWD.size // x_BHWD.shape[-1]
        self._move_on(f"{bn}/mean", mean_D)
        self._move_on(f"{bn}/variance", variance_D * (num_samples / (num_samples - 1)))
        return y_BHWD

    def _move_on(self, name: str, batch_D: mx.array) -> None:
        running_D = self._statistics[name]
        self.moved[name] = running_D + self._operations.share * (batch_D - running_D)


class ResNet50Training:
    """The state, device-resident batches and the function of one step; see `Program`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        self._framework = framework
        self._layers = resnet50.network(problem.parameters)
        self._hyperparameters = problem.hyperparameters
        self._numerics = NUMERICS[problem.case.way.precision]
        self._operations = _operations(problem, self._numerics, self._layers)
        self._parameters: dict[str, mx.array] = {}
        self._momenta: dict[str, mx.array] = {}
        self._statistics: dict[str, mx.array] = {}
        self._state = [self._parameters, self._momenta, self._statistics]
        self._gradients = mx.value_and_grad(self._loss_of)
        self._train_step = self._recorded_step
        if problem.case.way.execution == "compiled":
            self._train_step = mx.compile(
                self._recorded_step, inputs=self._state, outputs=self._state
            )
        self._batches: list[tuple[mx.array, mx.array]] = []
        self._turns = itertools.cycle(self._batches)
        self._loss: mx.array | None = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics; reset the optimizer's state.

        The dictionaries are kept, because the compiled step reads and writes them.
        """
        for name, array in weights.items():
            if resnet50.is_statistic(name):
                self._statistics[name] = self._put_master(array)
            else:
                self._parameters[name] = self._put_master(array)
                self._momenta[name] = self._put_master(np.zeros_like(array))

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these batches to the device; the next step uses the first, then they take turns."""
        put = self._framework.put
        self._batches = [(put(batch["images"]), put(batch["labels"])) for batch in batches]
        self._turns = itertools.cycle(self._batches)

    def step(self) -> Any:
        """Enqueue one training step on the next batch and return its loss.

        It enqueues the whole state too: MLX computes only the arrays that it is asked for.
        """
        images_BHWC, labels_B = next(self._turns)
        self._loss = self._train_step(images_BHWC, labels_B)
        mx.async_eval(self._loss, self._state)  # type: ignore[no-untyped-call]  # in mlx's stubs
        return self._loss

    def read(self) -> dict[str, np.ndarray]:
        """Copies of the last loss, the weights, the momentum buffers and the statistics."""
        assert self._loss is not None, "read before the first step"
        get = self._framework.get
        groups = {
            "weights": self._parameters,
            "optimizer": self._momenta,
            "statistics": self._statistics,
        }
        arrays = {
            f"{group}/{name}": _to_canonical_layout(get(value))
            for group, values in groups.items()
            for name, value in values.items()
        }
        return {"loss": get(self._loss), **arrays}

    def inspect(self) -> Effective:
        """Dtypes and layout of the step, from one that is recorded and never computed."""
        images_BHWC, labels_B = self._batches[0]
        _, gradients = self._gradients(self._parameters, images_BHWC, labels_B)
        forward = ForwardPass(self._operations, self._parameters, self._statistics)
        x_BC = forward.features(self._layers, images_BHWC)
        return Effective(
            parameters=dtype_name(self._parameters["head/kernel"].dtype),
            gradients=dtype_name(gradients["head/kernel"].dtype),
            optimizer=dtype_name(self._momenta["head/kernel"].dtype),
            activations=dtype_name(x_BC.dtype),
            layout="NHWC",
            flop_per_step=None,
        )

    def _put_master(self, array: np.ndarray) -> Any:
        own = network.to_mlx_layout(array)
        return self._framework.put(own.astype(dtype_name(self._numerics.master)))

    def _recorded_step(self, images_BHWC: mx.array, labels_B: mx.array) -> mx.array:
        """Return the loss; update parameters, momenta and statistics."""
        (_, loss, moved), gradients = self._gradients(self._parameters, images_BHWC, labels_B)
        for name, gradient in gradients.items():
            self._update(name, gradient)
        self._statistics.update(moved)
        return loss

    def _loss_of(
        self, parameters: Mapping[str, mx.array], images_BHWC: mx.array, labels_B: mx.array
    ) -> tuple[mx.array, mx.array, dict[str, mx.array]]:
        """The scaled loss, which is differentiated, the loss itself, and the updated statistics."""
        forward = ForwardPass(self._operations, parameters, self._statistics)
        loss = _cross_entropy(forward.logits(self._layers, images_BHWC), labels_B)
        return loss * self._numerics.loss_scale, loss, forward.moved

    def _update(self, name: str, gradient: mx.array) -> None:
        """Update a parameter: v = m v + g, w = w - rate v.

        Differs from mlx.optimizers.SGD, which rounds the rate to float32 and decays all parameters.
        """
        constants, weight = self._hyperparameters, self._parameters[name]
        if self._numerics.loss_scale != 1.0:
            gradient = gradient / self._numerics.loss_scale
        if resnet50.is_decayed(name):
            gradient = gradient + constants["weight_decay"] * weight
        momentum = constants["momentum"] * self._momenta[name] + gradient
        self._momenta[name] = momentum
        self._parameters[name] = weight - constants["learning_rate"] * momentum


def _operations(problem: Problem, numerics: Numerics, layers: resnet50.Network) -> Operations:
    constants = problem.hyperparameters
    return Operations(
        numerics=numerics,
        convolutions=network.convolutions(layers, device=problem.case.place.device),
        normalise=batch_normalisation(constants["batch_norm_epsilon"]),
        share=constants["batch_norm_momentum"],
    )


def _cross_entropy(logits_BD: mx.array, labels_B: mx.array) -> mx.array:
    """The mean cross-entropy of the softmax."""
    if logits_BD.dtype == mx.float64:
        return _cross_entropy_float64(logits_BD, labels_B)
    losses_B: mx.array = nn.losses.cross_entropy(logits_BD, labels_B)
    return losses_B.mean()


def _cross_entropy_float64(logits_BD: mx.array, labels_B: mx.array) -> mx.array:
    """The mean cross-entropy without exp and logsumexp; parity only.

    In float64, MLX 0.32.4 computes those two to seven digits, but expm1 to all digits.
    """
    shifted_BD = logits_BD - mx.stop_gradient(logits_BD.max(-1, keepdims=True))
    scores_B = mx.take_along_axis(shifted_BD, labels_B[:, None], -1).squeeze(-1)
    sums_B = (mx.expm1(shifted_BD) + 1).sum(-1)
    return (mx.log(sums_B) - scores_B).mean()


def _to_canonical_layout(array: np.ndarray) -> np.ndarray:
    """DHWC to HWCD; matrices and vectors unchanged."""
    return array.transpose(1, 2, 3, 0) if array.ndim == 4 else array
