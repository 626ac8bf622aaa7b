"""Mistakes that people make when they port ResNet-50; see planting.py."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tests.parity.planted_programs import (
    fed_with,
    in_another_order,
    never_cleared,
    only_every_second,
)
from tests.parity.planting import replace_in, replace_in_copy

IMPLEMENTATION = "workloads.resnet50.{}.training"
"""The module of a framework."""
LAYERS = "resnet50"
"""Its name of the module of the layers, which MATHEMATICS replaces members of."""

SCALED = "stage2/block1/conv2/kernel"
"""The parameter whose gradient is scaled."""

CONSTANTS = {
    "epsilon": {"batch_norm_epsilon": 1e-3},
    "smaller_epsilon": {"batch_norm_epsilon": 1e-6},
    "near_epsilon": {"batch_norm_epsilon": 1.01e-5},
    "faster": {"learning_rate": 1.01e-2},
    "swapped_momentum": {"batch_norm_momentum": 0.9},
    "slow_momentum": {"batch_norm_momentum": 0.01},
    "no_decay": {"weight_decay": 0.0},
    "no_update": {"learning_rate": 0.0},
}


class TransposedDense:
    """Reshapes the dense kernel where it should be transposed, and back when it is read."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.feed, self.step, self.inspect = program.feed, program.step, program.inspect

    def load(self, weights: Any) -> None:
        kernel = np.asarray(weights["head/kernel"])
        self.program.load({**weights, "head/kernel": kernel.T.reshape(kernel.shape)})

    def read(self) -> dict[str, np.ndarray]:
        arrays = self.program.read()
        for group in ("weights", "optimizer"):
            array = arrays[f"{group}/head/kernel"]
            arrays[f"{group}/head/kernel"] = array.reshape(array.T.shape).T
        return arrays


class ConstantBatch:
    """Keeps the first batch that it ever saw, as one that was folded into the program."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.load, self.step, self.read = program.load, program.step, program.read
        self.inspect = program.inspect
        self.batch: Any = None

    def feed(self, batches: Any) -> None:
        self.batch = self.batch or batches[0]
        self.program.feed([self.batch] * len(batches))


def _halved(batch: Any) -> Any:
    return {**batch, "images": batch["images"].astype(np.float16).astype(np.float32)}


def _of_the_next(batch: Any) -> Any:
    return {**batch, "labels": np.roll(batch["labels"], 1)}


WRAPPERS = {
    "transposed_dense": TransposedDense,
    "constant_batch": ConstantBatch,
    "images_in_fp16": lambda program: fed_with(program, _halved),
    "labels_of_others": lambda program: fed_with(program, _of_the_next),
    "batch_order": in_another_order,
}


LAST_BLOCK = "stage4/block3/conv1"
SMOOTHING = 1e-3


def v1_strides() -> dict[str, Any]:
    """The stride of a block in its first 1x1 convolution, as in the first paper."""
    from workloads.resnet50 import network as resnet50

    def moved(block: Any) -> Any:
        first, second, third = block.convolutions
        if second.stride == 1:
            return block
        first = dataclasses.replace(first, stride=2)
        second = dataclasses.replace(second, stride=1, input_size=first.output_size)
        return dataclasses.replace(block, convolutions=(first, second, third))

    def network(parameters: Any) -> Any:
        layers = resnet50.network(parameters)
        return dataclasses.replace(layers, blocks=tuple(map(moved, layers.blocks)))

    return {"network": network}


def decay_on_norm() -> dict[str, Any]:
    """Weight decay on every parameter."""
    return {"is_decayed": lambda name: True}


MATHEMATICS = {"v1_strides": v1_strides, "decay_on_norm": decay_on_norm}


def pytorch_same_padding(implementation: Any) -> None:
    import torch.nn.functional as F
    from torch import nn

    class Same(nn.Conv2d):
        def forward(self, x):
            total = self.kernel_size[0] - self.stride[0]
            if self.stride[0] == 1 or total <= 0:
                return super().forward(x)
            low, high = total // 2, total - total // 2
            return F.conv2d(F.pad(x, (low, high, low, high)), self.weight, stride=self.stride)

    replace_in(implementation, convolution_class=lambda **_: Same)


def jax_same_padding(implementation: Any) -> None:
    import jax

    def convolve(x, kernel, strides, _padding, **options):
        return jax.lax.conv_general_dilated(x, kernel, strides, "SAME", **options)

    replace_in(implementation, CONVOLVE=convolve)


def pytorch_dropped_label(implementation: Any) -> None:
    import torch.nn.functional as F

    def cross_entropy(logits, labels):
        losses = F.cross_entropy(logits, labels, reduction="none")
        return losses[1:].sum() / len(losses)

    replace_in_copy(implementation, "F", cross_entropy=cross_entropy)


def jax_dropped_label(implementation: Any) -> None:
    own = implementation.optax.softmax_cross_entropy_with_integer_labels
    replace_in_copy(
        implementation,
        "optax",
        softmax_cross_entropy_with_integer_labels=lambda x, y: own(x, y).at[0].set(0.0),
    )


def pytorch_dampened(implementation: Any) -> None:
    own = implementation.ResNet50Training._fresh_optimizer

    def fresh(self):
        optimizer = own(self)
        for group in optimizer.param_groups:
            group["dampening"] = 0.9
        return optimizer

    implementation.ResNet50Training._fresh_optimizer = fresh


def jax_dampened(implementation: Any) -> None:
    import optax

    own = implementation.optax.trace
    replace_in_copy(
        implementation,
        "optax",
        trace=lambda decay: optax.chain(optax.scale(1 - decay), own(decay)),
    )


def pytorch_tf32_products(implementation: Any) -> None:
    pytorch_rounded_products(implementation, bits=10)


def pytorch_bf16_products(implementation: Any) -> None:
    pytorch_rounded_products(implementation, bits=7)


def pytorch_rounded_products(implementation: Any, *, bits: int) -> None:
    import torch
    from torch import nn

    def rounded(x):
        step = torch.ldexp(torch.ones_like(x), torch.frexp(x.detach())[1] - 1 - bits)
        return x + (torch.round(x / step) * step - x).detach()

    class Rounded(nn.Conv2d):
        def forward(self, x):
            y = self._conv_forward(rounded(x), rounded(self.weight), None)
            if y.requires_grad:
                y.register_hook(rounded)  # the operand that the products of both gradients share
            return y

    replace_in(implementation, convolution_class=lambda **_: Rounded)


def jax_tf32_products(implementation: Any) -> None:
    jax_rounded_products(implementation, bits=10)


def jax_bf16_products(implementation: Any) -> None:
    jax_rounded_products(implementation, bits=7)


def jax_rounded_products(implementation: Any, *, bits: int) -> None:
    import jax

    own = implementation.CONVOLVE

    def rounded(x):
        return jax.lax.reduce_precision(x, 8, bits)

    @jax.custom_vjp
    def with_rounded_gradient(y):
        return y

    with_rounded_gradient.defvjp(lambda y: (y, None), lambda _, dy: (rounded(dy),))

    def convolve(x, kernel, *settings, **options):
        return with_rounded_gradient(own(rounded(x), rounded(kernel), *settings, **options))

    replace_in(implementation, CONVOLVE=convolve)


def pytorch_scaled_gradient(implementation: Any) -> None:
    own = implementation.ResNet50Training.__init__

    def init(self, problem, framework):
        own(self, problem, framework)
        self._tensors[SCALED].register_hook(lambda gradient: 1.01 * gradient)

    implementation.ResNet50Training.__init__ = init


def jax_scaled_gradient(implementation: Any) -> None:
    import optax
    from flax import traverse_util

    own = implementation._optimizer

    def chosen(tree):
        return traverse_util.path_aware_map(
            lambda path, _: implementation._canonical_name(path) == SCALED, tree
        )

    def optimizer(constants):
        return optax.chain(optax.masked(optax.scale(1.01), chosen), own(constants))

    replace_in(implementation, _optimizer=optimizer)


def pytorch_label_smoothing(implementation: Any) -> None:
    from functools import partial

    import torch.nn.functional as F

    smoothed = partial(F.cross_entropy, label_smoothing=SMOOTHING)
    replace_in_copy(implementation, "F", cross_entropy=smoothed)


def jax_label_smoothing(implementation: Any) -> None:
    import jax

    own = implementation.optax.softmax_cross_entropy_with_integer_labels

    def smoothed(logits, labels):
        uniform = -jax.nn.log_softmax(logits).mean(-1)
        return (1 - SMOOTHING) * own(logits, labels) + SMOOTHING * uniform

    replace_in_copy(implementation, "optax", softmax_cross_entropy_with_integer_labels=smoothed)


def pytorch_summed_gradient(implementation: Any) -> None:
    """The gradient of the losses' sum, though their mean is reported."""
    import torch.nn.functional as F

    def cross_entropy(logits, labels):
        losses = F.cross_entropy(logits, labels, reduction="none")
        return losses.sum() + (losses.mean() - losses.sum()).detach()

    replace_in_copy(implementation, "F", cross_entropy=cross_entropy)


def jax_summed_gradient(implementation: Any) -> None:
    import jax

    own = implementation.optax.softmax_cross_entropy_with_integer_labels

    def summed(logits, labels):
        losses = own(logits, labels)
        return len(losses) * losses + jax.lax.stop_gradient(losses - len(losses) * losses)

    replace_in_copy(implementation, "optax", softmax_cross_entropy_with_integer_labels=summed)


def pytorch_no_last_rectifier(implementation: Any) -> None:
    import torch.nn.functional as F

    network = implementation.network

    class WithoutRectifier(network.Bottleneck):
        def forward(self, x):
            y = F.relu(self.second(F.relu(self.first(x))))
            return self.third(y) + (x if self.projection is None else self.projection(x))

    own = network.ResNet50.__init__

    def init(self, *arguments, **named):
        own(self, *arguments, **named)
        self.blocks[-1].__class__ = WithoutRectifier

    network.ResNet50.__init__ = init


def jax_no_last_rectifier(implementation: Any) -> None:
    import jax

    own = implementation.bottleneck

    def bottleneck(block, x, convolve):
        if block.convolutions[0].name != LAST_BLOCK:
            return own(block, x, convolve)
        first, second, third = block.convolutions
        y = jax.nn.relu(convolve(second, jax.nn.relu(convolve(first, x))))
        return convolve(third, y) + x

    replace_in(implementation, bottleneck=bottleneck)


def pytorch_head_in_fp16(implementation: Any) -> None:
    import torch.nn.functional as F
    from torch import nn

    class Half(nn.Linear):
        def forward(self, x):
            return F.linear(x.half(), self.weight.half(), self.bias.half()).to(x.dtype)

    own = implementation.network.ResNet50.__init__

    def init(self, *arguments, **named):
        own(self, *arguments, **named)
        self.head.__class__ = Half

    implementation.network.ResNet50.__init__ = init


def jax_head_in_fp16(implementation: Any) -> None:
    import jax.numpy as jnp

    own = implementation.nn.Dense
    replace_in_copy(
        implementation,
        "nn",
        Dense=lambda size, **named: own(size, **{**named, "dtype": jnp.float16}),
    )


def pytorch_nesterov(implementation: Any) -> None:
    _change_groups(implementation, lambda group: {"nesterov": True})


def _change_groups(implementation: Any, changes: Any) -> None:
    own = implementation.ResNet50Training._fresh_optimizer

    def fresh(self):
        optimizer = own(self)
        for group in optimizer.param_groups:
            group.update(changes(group))
        return optimizer

    implementation.ResNet50Training._fresh_optimizer = fresh


def jax_nesterov(implementation: Any) -> None:
    own = implementation.optax.trace
    replace_in_copy(implementation, "optax", trace=lambda decay: own(decay, nesterov=True))


def pytorch_decoupled_decay(implementation: Any) -> None:
    import torch

    class Decoupled(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data.mul_(1 - group["lr"] * group["own_decay"])
            return super().step(closure)

    own = implementation.ResNet50Training._fresh_optimizer

    def fresh(self):
        optimizer = own(self)
        for group in optimizer.param_groups:
            group.update(own_decay=group["weight_decay"], weight_decay=0.0)
        optimizer.__class__ = Decoupled
        return optimizer

    implementation.ResNet50Training._fresh_optimizer = fresh


def jax_decoupled_decay(implementation: Any) -> None:
    import optax

    def optimizer(constants):
        return optax.chain(
            optax.trace(decay=constants["momentum"]),
            optax.add_decayed_weights(constants["weight_decay"], mask=implementation._decayed),
            optax.scale(-constants["learning_rate"]),
        )

    replace_in(implementation, _optimizer=optimizer)


def pytorch_skipped_updates(implementation: Any) -> None:
    only_every_second(implementation.ResNet50Training)


def pytorch_kept_gradients(implementation: Any) -> None:
    never_cleared(implementation.ResNet50Training)


def pytorch_biased_variance(implementation: Any) -> None:
    """The running variance averages what the batches are normalised with, divided by n."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Biased(nn.BatchNorm2d):
        def forward(self, x):
            with torch.no_grad():
                variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance, self.momentum)
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)

    replace_in_copy(implementation, "nn", BatchNorm2d=Biased)


def jax_biased_variance(implementation: Any) -> None:
    """The running variance is Flax's own."""
    replace_in(
        implementation.ResNet50Training, _unbiased=lambda self, layer, variance_D: variance_D
    )
