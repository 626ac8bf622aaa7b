"""ResNet-50 training in JAX as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it. Flax linen's own layers, Optax's
SGD, one jitted step that donates its state.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks.contract.program import Effective
from workloads.resnet50 import network as resnet50

IMPLEMENTS = {"resnet50_train"}

COMPUTE_DTYPES = {"bf16": jnp.bfloat16, "fp16": jnp.float16, "fp64": jnp.float64}
FLAX_NAMES = {"variance": "var"}


def build(problem, framework):
    return PlainTraining(problem, framework)


class ConvBN(nn.Module):
    """A convolution without bias and its batch normalisation."""

    layer: resnet50.Convolution
    epsilon: float
    momentum: float
    dtype: object
    param_dtype: object

    @nn.compact
    def __call__(self, x):
        layer = self.layer
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.Conv(
            layer.out_channels,
            (layer.kernel_size, layer.kernel_size),
            strides=layer.stride,
            padding=(layer.kernel_size - 1) // 2,
            use_bias=False,
            name="conv",
            **dtypes,
        )(x)
        # Flax counts the weight of the old value.
        return nn.BatchNorm(
            use_running_average=False,
            momentum=1 - self.momentum,
            epsilon=self.epsilon,
            name="bn",
            **dtypes,
        )(x)


class ResNet50(nn.Module):
    """ResNet-50 v1.5."""

    layers: resnet50.Network
    epsilon: float
    momentum: float
    dtype: object
    param_dtype: object

    @nn.compact
    def __call__(self, images):
        x = nn.relu(self.conv_bn(self.layers.stem)(images))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for block in self.layers.blocks:
            one, two, three = block.convolutions
            y = nn.relu(self.conv_bn(one)(x))
            y = nn.relu(self.conv_bn(two)(y))
            y = self.conv_bn(three)(y)
            shortcut = x if block.projection is None else self.conv_bn(block.projection)(x)
            x = nn.relu(y + shortcut)
        x = x.mean(axis=(1, 2))
        head = nn.Dense(
            self.layers.num_classes, dtype=self.dtype, param_dtype=self.param_dtype, name="head"
        )
        return head(x).astype(self.param_dtype)

    def conv_bn(self, layer):
        return ConvBN(
            layer,
            self.epsilon,
            self.momentum,
            self.dtype,
            self.param_dtype,
            name=module_name(layer),
        )


class PlainTraining:
    """The training loop's body, and the harness's protocol around it."""

    def __init__(self, problem, framework):
        precision, constants = problem.case.way.precision, problem.hyperparameters
        self.framework = framework
        self.layers = resnet50.network(problem.parameters)
        self.batch_size = problem.case.work.batch_size
        self.share = constants["batch_norm_momentum"]
        self.dtype = jnp.float64 if precision == "fp64" else jnp.float32
        self.loss_scale = 128.0 if precision == "fp16" else 1.0
        self.model = ResNet50(
            self.layers,
            constants["batch_norm_epsilon"],
            self.share,
            COMPUTE_DTYPES.get(precision, jnp.float32),
            self.dtype,
        )
        self.optimizer = optax.chain(
            optax.add_decayed_weights(
                constants["weight_decay"],
                mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
            ),
            optax.sgd(constants["learning_rate"], momentum=constants["momentum"]),
        )
        self.train_step = jax.jit(self.train_step, donate_argnums=0)

    def load(self, weights):
        self.initial = {
            n: a.astype(self.dtype) for n, a in weights.items() if resnet50.is_statistic(n)
        }
        values = {
            flax_path(name): self.framework.put(array.astype(self.dtype))
            for name, array in weights.items()
        }
        statistics = {flax_path(name): values.pop(flax_path(name)) for name in self.initial}
        params = unflatten_dict(values)
        self.state = (params, unflatten_dict(statistics), self.optimizer.init(params))
        self.num_steps = 0

    def feed(self, batches):
        put = self.framework.put
        self.batches = itertools.cycle(
            [(put(batch["images"]), put(batch["labels"])) for batch in batches]
        )

    def step(self):
        images, labels = next(self.batches)
        self.num_steps += 1
        self.state, self.loss = self.train_step(self.state, images, labels)
        return self.loss

    def read(self):
        params, statistics, optimizer = self.state
        groups = {
            "weights": params,
            "optimizer": optax.tree.get(optimizer, "trace"),
            "statistics": statistics,
        }
        arrays = {"loss": self.framework.get(self.loss)}
        for group, tree in groups.items():
            for path, value in flatten_dict(tree).items():
                arrays[f"{group}/{canonical_name(path)}"] = self.framework.get(value)
        for layer in self.layers.convolutions():
            name = f"{layer.name}/bn/variance"
            arrays[f"statistics/{name}"] = self.unbiased(layer, arrays[f"statistics/{name}"], name)
        return arrays

    def inspect(self):
        params, _, optimizer = self.state
        return Effective(
            parameters=str(params["head"]["kernel"].dtype),
            gradients=str(params["head"]["kernel"].dtype),
            optimizer=str(optax.tree.get(optimizer, "trace")["head"]["kernel"].dtype),
            activations=str(jnp.dtype(self.model.dtype)),
            layout="NHWC",
            flop_per_step=None,
        )

    def unbiased(self, layer, variance, name):
        """Flax averages biased variances; what they contributed is rescaled here, outside the step.

        The average is linear: variance = (1 - share)^steps * initial + contributions.
        """
        num_samples = self.batch_size * layer.output_size**2
        remainder = self.initial[name] * (1 - self.share) ** self.num_steps
        return remainder + (variance - remainder) * (num_samples / (num_samples - 1))

    def train_step(self, state, images, labels):
        params, statistics, optimizer = state

        def loss_fn(params):
            logits, updated = self.model.apply(
                {"params": params, "batch_stats": statistics}, images, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            loss = losses.mean()
            return loss * self.loss_scale, (loss, updated["batch_stats"])

        gradients, (loss, statistics) = jax.grad(loss_fn, has_aux=True)(params)
        gradients = jax.tree.map(lambda gradient: gradient / self.loss_scale, gradients)
        updates, optimizer = self.optimizer.update(gradients, optimizer, params)
        return (optax.apply_updates(params, updates), statistics, optimizer), loss


def module_name(layer):
    return layer.name.replace("/", ".")


def flax_path(name):
    """stage1/block1/conv1/bn/variance -> (stage1.block1.conv1, bn, var)."""
    if name.startswith("head/"):
        return tuple(name.split("/"))
    prefix, kind, leaf = name.rpartition("/bn/")
    if kind:
        return (prefix.replace("/", "."), "bn", FLAX_NAMES.get(leaf, leaf))
    return (name.removesuffix("/kernel").replace("/", "."), "conv", "kernel")


def canonical_name(path):
    """The inverse of `flax_path`."""
    module, *rest = path
    if module == "head":
        return "/".join(path)
    leaf = {own: name for name, own in FLAX_NAMES.items()}.get(path[-1], path[-1])
    middle = "/bn/" if rest[0] == "bn" else "/"
    return module.replace(".", "/") + middle + leaf
