"""The decoder's fine-tune in JAX, Flax linen and Optax: one compiled program from tokens to state.

Tuned: projections of one input are one product, and cuDNN's attention runs where it can. Flax keeps
what is trained under `params` and what LoRA freezes under `frozen`.

Shapes: B batch, T positions, S positions that are seen, D width, H heads, K head dimension, F width
of the MLP, V vocabulary, R rank, I inputs and O outputs of a projection. Kernels here are OI: JAX
derives their gradient as OI, and of an IO kernel it is transposed, for which XLA's CPU backend
computes the output's gradient a second time. That was a fifth of the step (jaxlib 0.10.2).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import traverse_util

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, Program, Reading
from benchmarks.frameworks.jax.adapter import count_flop
from workloads.transformer import network

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}


class Numerics(NamedTuple):
    """What a precision means here."""

    master: Any
    """Trained parameters and their optimizer."""
    compute: Any
    """Activations, products and frozen weights."""
    wide: Any
    """Normalisation, rotation, softmax, loss, and the arithmetic of the update."""


NUMERICS = {
    "fp32": Numerics(jnp.float32, jnp.float32, jnp.float32),
    "tf32": Numerics(jnp.float32, jnp.float32, jnp.float32),
    "bf16": Numerics(jnp.float32, jnp.bfloat16, jnp.float32),
    "bf16_pure": Numerics(jnp.bfloat16, jnp.bfloat16, jnp.float32),
    "fp64": Numerics(jnp.float64, jnp.float64, jnp.float64),
}

NO_VALUES = nn.initializers.zeros
"""In place of an initializer: `load` brings every value, and Flax only compares the shapes."""

MAX_QUERIES = 256
"""Queries whose attention is one product; what comes after the last of them is left out of it."""


class State(NamedTuple):
    """What a step takes, whose memory it reuses, and what it returns."""

    parameters: Any
    optimizer: Any


class Batch(NamedTuple):
    """What one step is taken on."""

    tokens_BT: jax.Array
    labels_BT: jax.Array


class Rotation(NamedTuple):
    """The angles of RoPE at every position; K is half of a head's dimension."""

    cos_T1K: jax.Array
    sin_T1K: jax.Array


@dataclass(frozen=True)
class Recipe:
    """What the modules need to know beside their layer."""

    parameters: Mapping[str, int]
    numerics: Numerics
    constants: Mapping[str, float]
    attend: Callable[..., jax.Array]
    recompute: bool

    @property
    def has_adapters(self) -> bool:
        """Whether the base is frozen and LoRA's adapters are trained."""
        return "lora_rank" in self.constants


def build(problem: Problem, framework: Framework) -> Program:
    """The training program, without weights and batches yet."""
    return DecoderTraining(problem, framework)


def product(x_BTI: jax.Array, kernel_OI: jax.Array) -> jax.Array:
    """The input times the kernel in the input's dtype, BTO."""
    over_inputs = (((x_BTI.ndim - 1,), (1,)), ((), ()))
    return jax.lax.dot_general(x_BTI, kernel_OI.astype(x_BTI.dtype), over_inputs)


def attend(
    query_BTHK: jax.Array,
    key_BTHK: jax.Array,
    value_BTHK: jax.Array,
    *,
    max_queries: int = MAX_QUERIES,
) -> jax.Array:
    """Causal attention as products, block by block, each with no more than it can see, BTHK.

    XLA has no kernel that leaves out what the mask hides. Without the blocks a step of size small
    at 1024 positions takes a seventh more on the CPU (jaxlib 0.10.2).
    """
    query, key, value = (x.swapaxes(1, 2) for x in (query_BTHK, key_BTHK, value_BTHK))
    blocks = []
    for start in range(0, query.shape[2], max_queries):
        end = start + max_queries
        seen = key[:, :, :end], value[:, :, :end]
        blocks.append(_attend_block(query[:, :, start:end], *seen, start=start))
    return jnp.concatenate(blocks, axis=2).swapaxes(1, 2)


def _attend_block(
    query_BHTK: jax.Array, key_BHSK: jax.Array, value_BHSK: jax.Array, *, start: int
) -> jax.Array:
    """The attention of queries from position `start` on, BHTK.

    The softmax is in float32, in fp64 in float64: that of `jax.nn.dot_product_attention` is not.
    """
    wide = jnp.promote_types(query_BHTK.dtype, jnp.float32)
    length, num_seen = query_BHTK.shape[2], key_BHSK.shape[2]
    scores_BHTS = jnp.einsum("BHTK,BHSK->BHTS", query_BHTK, key_BHSK, preferred_element_type=wide)
    sees_TS = jnp.arange(start, start + length)[:, None] >= jnp.arange(num_seen)
    scores_BHTS = jnp.where(sees_TS, scores_BHTS * query_BHTK.shape[-1] ** -0.5, -jnp.inf)
    attention_BHTS = nn.softmax(scores_BHTS).astype(query_BHTK.dtype)
    return jnp.einsum("BHTS,BHSK->BHTK", attention_BHTS, value_BHSK)


attend_by_cudnn = partial(jax.nn.dot_product_attention, is_causal=True, implementation="cudnn")
"""The same by cuDNN's flash attention, which takes operands of 16 bits only."""


def rotate(x_BTHK: jax.Array, rotation: Rotation) -> jax.Array:
    """RoPE on pairs of the head's halves, in the wide dtype, BTHK in its own dtype."""
    cos, sin = rotation
    first, second = jnp.split(x_BTHK.astype(cos.dtype), 2, axis=-1)
    turned = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate(turned, axis=-1).astype(x_BTHK.dtype)


def rotation_of(recipe: Recipe, length: int) -> Rotation:
    """Su et al. (2021), section 3.4.2."""
    dimension = recipe.parameters["width"] // recipe.parameters["num_heads"]
    frequencies_K = recipe.constants["rotary_base"] ** (-np.arange(0, dimension, 2) / dimension)
    angles_T1K = (np.arange(length)[:, None] * frequencies_K)[:, None]
    wide = recipe.numerics.wide
    return Rotation(jnp.asarray(np.cos(angles_T1K), wide), jnp.asarray(np.sin(angles_T1K), wide))


class WeightedModule(nn.Module):  # type: ignore[misc]  # flax is untyped here
    """A module whose weights are trained, or frozen where there are adapters."""

    recipe: Recipe

    def weight(self, name: str, *shape: int) -> jax.Array:
        """The weight of this name: a parameter, or a variable that is none."""
        if not self.recipe.has_adapters:
            return self.param(name, NO_VALUES, shape, self.recipe.numerics.master)
        return self.variable("frozen", name, jnp.zeros, shape, self.recipe.numerics.compute).value


class Projections(WeightedModule):
    """Projections of one input without bias, as one product; with LoRA frozen, beside adapters."""

    parts: Sequence[network.Projection]

    @nn.compact
    def __call__(self, x_BTI: jax.Array) -> list[jax.Array]:
        """The output of each part, BTO."""
        sizes = [part.num_outputs for part in self.parts]
        kernel_OI = self.weight("kernel", sum(sizes), x_BTI.shape[-1])
        ends = list(itertools.accumulate(sizes))
        outputs = jnp.split(product(x_BTI, kernel_OI), ends[:-1], axis=-1)
        if not self.recipe.has_adapters:
            return outputs
        return [output + added for output, added in zip(outputs, self._adapt(x_BTI))]

    def _adapt(self, x_BTI: jax.Array) -> Iterator[jax.Array]:
        """What LoRA adds to each part's output: Hu et al. (2021), section 4.1."""
        constants, master = self.recipe.constants, self.recipe.numerics.master
        rank, num_parts = int(constants["lora_rank"]), len(self.parts)
        a_RI = self.param("lora_a", NO_VALUES, (num_parts * rank, x_BTI.shape[-1]), master)
        low_BTR = constants["lora_alpha"] / constants["lora_rank"] * product(x_BTI, a_RI)
        for part, low in zip(self.parts, jnp.split(low_BTR, num_parts, axis=-1)):
            b_OR = self.param(_adapter_name(part), NO_VALUES, (part.num_outputs, rank), master)
            yield product(low, b_OR)


class RMSNorm(WeightedModule):
    """Zhang and Sennrich (2019), in the wide dtype."""

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """The normalised input in its dtype."""
        wide, epsilon = self.recipe.numerics.wide, self.recipe.constants["rms_norm_epsilon"]
        x = x_BTD.astype(wide)
        normalised = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + epsilon)
        scale_D = self.weight("scale", x_BTD.shape[-1])
        return (normalised * scale_D.astype(wide)).astype(x_BTD.dtype)


class Layer(WeightedModule):
    """Attention and MLP, each behind a normalisation and added to its input."""

    index: int

    @nn.compact
    def __call__(self, x_BTD: jax.Array, rotation: Rotation) -> jax.Array:
        """The layer's output, BTD."""
        y_BTD = RMSNorm(self.recipe, name="attention_norm")(x_BTD)
        mixed_BTD = self._mixed(self._project("query_key_value", y_BTD), rotation)
        (output_BTD,) = self._project("output", mixed_BTD)
        x_BTD = x_BTD + output_BTD
        y_BTD = RMSNorm(self.recipe, name="mlp_norm")(x_BTD)
        gate_BTF, up_BTF = self._project("gate_up", y_BTD)
        (down_BTD,) = self._project("down", nn.silu(gate_BTF) * up_BTF)  # Shazeer (2020), SwiGLU
        return x_BTD + down_BTD

    def _project(self, name: str, x_BTI: jax.Array) -> Any:
        parts = groups_of(self.recipe.parameters, self.index)[name]
        return Projections(self.recipe, parts, name=name)(x_BTI)

    def _mixed(self, parts: Sequence[jax.Array], rotation: Rotation) -> jax.Array:
        """The heads' attention of query, key and value, BTD."""
        heads = (*parts[0].shape[:2], self.recipe.parameters["num_heads"], -1)
        query, key, value = (part.reshape(heads) for part in parts)
        mixed = self.recipe.attend(rotate(query, rotation), rotate(key, rotation), value)
        return mixed.reshape(parts[0].shape)


class Decoder(WeightedModule):
    """The decoder from tokens to logits."""

    @nn.compact
    def __call__(self, tokens_BT: jax.Array) -> jax.Array:
        """The logits, BTV, in the wide dtype."""
        recipe, parameters = self.recipe, self.recipe.parameters
        shape = (parameters["vocabulary_size"], parameters["width"])
        rotation = rotation_of(recipe, tokens_BT.shape[1])
        x_BTD = self.weight("table", *shape)[tokens_BT].astype(recipe.numerics.compute)
        layer_type = nn.remat(Layer) if recipe.recompute else Layer
        for index in range(parameters["num_layers"]):
            x_BTD = layer_type(recipe, index, name=f"layer{index}")(x_BTD, rotation)
        x_BTD = RMSNorm(recipe, name="final_norm")(x_BTD)
        return product(x_BTD, self.weight("head", *shape)).astype(recipe.numerics.wide)


def groups_of(parameters: Mapping[str, int], layer: int) -> dict[str, list[network.Projection]]:
    """A layer's projections, those of one input together."""
    *inputs, output = network.attention_projections(parameters, layer)
    gate, up, down = network.mlp_projections(parameters, layer)
    return {"query_key_value": inputs, "output": [output], "gate_up": [gate, up], "down": [down]}


def _adapter_name(part: network.Projection) -> str:
    return f"{part.name.rpartition('/')[2]}_lora_b"


class Held(NamedTuple):
    """Where a canonical array is."""

    path: str
    """Of the array in Flax's tree."""
    rows: slice = slice(None)


def canonical(recipe: Recipe) -> Iterator[tuple[str, Held]]:
    """Every canonical name and where it is; the parts of one array in its order."""
    yield "embedding/table", Held("table")
    yield "head/kernel", Held("head")
    yield "final_norm/scale", Held("final_norm/scale")
    for layer in range(recipe.parameters["num_layers"]):
        for norm in ("attention_norm", "mlp_norm"):
            yield f"layer{layer}/{norm}/scale", Held(f"layer{layer}/{norm}/scale")
        for name, parts in groups_of(recipe.parameters, layer).items():
            yield from _canonical_group(f"layer{layer}/{name}", parts, recipe)


def _canonical_group(
    path: str, parts: Sequence[network.Projection], recipe: Recipe
) -> Iterator[tuple[str, Held]]:
    row = 0
    for part in parts:
        yield f"{part.name}/kernel", Held(f"{path}/kernel", slice(row, row + part.num_outputs))
        row += part.num_outputs
    if not recipe.has_adapters:
        return
    rank = int(recipe.constants["lora_rank"])
    for index, part in enumerate(parts):
        rows = slice(index * rank, (index + 1) * rank)
        yield f"{part.name}/lora_a", Held(f"{path}/lora_a", rows)
        yield f"{part.name}/lora_b", Held(f"{path}/{_adapter_name(part)}")


class DecoderTraining:
    """The state on the device, the batches, and the compiled step; see `Program`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        way, device = problem.case.way, problem.case.place.device
        numerics = NUMERICS[way.precision]
        has_cudnn = device == "cuda" and numerics.compute == jnp.bfloat16
        self._framework = framework
        self._recipe = Recipe(
            problem.parameters,
            numerics,
            problem.hyperparameters,
            attend=attend_by_cudnn if has_cudnn else attend,
            recompute=dict(way.options)["recompute"] == "full",
        )
        self._held = dict(canonical(self._recipe))
        self._model = Decoder(self._recipe)
        self._optimizer = _optimizer(problem.hyperparameters)
        self._init = jax.jit(self._optimizer.init)
        self._train_step = jax.jit(self._traced_step, donate_argnums=0)
        self._state: State | None = None
        self._frozen: Any = None
        self._batches: list[Batch] = []
        self._next = 0
        self._loss: Any = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights; reset the optimizer's state."""
        self._state = self._frozen = None  # first, since a device may not hold two of them
        trained: dict[str, Any] = {}
        frozen: dict[str, Any] = {}
        parts: dict[str, list[str]] = {}
        for name, held in self._held.items():
            parts.setdefault(held.path, []).append(name)
        for path, names in parts.items():
            group, dtype = trained, self._recipe.numerics.master
            if self._is_frozen(names[0]):
                group, dtype = frozen, self._recipe.numerics.compute
            whole = np.concatenate([_turned(name, weights[name]) for name in names])
            group[path] = self._framework.put(whole.astype(dtype))
        parameters, self._frozen = _nested(trained), _nested(frozen)
        self._state = State(parameters, self._init(parameters))

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these batches on the device; the next step uses the first, and steps rotate."""
        put = self._framework.put
        self._batches = [Batch(put(one["tokens"]), put(one["labels"])) for one in batches]
        self._next = 0

    def step(self) -> Any:
        """Enqueue one training step on the next batch; its loss.

        The loss stands for the whole step: the results of one program are ready together.
        """
        batch = self._batches[self._next]
        self._next = (self._next + 1) % len(self._batches)
        self._state, self._loss = self._train_step(self._state, self._frozen, batch)
        return self._loss

    def read(self) -> Reading:
        """The last loss, weights and moments, fetched one by one."""
        assert self._state is not None, "read before load"
        frozen = _flat(self._frozen)
        trained = {
            "weights": _flat(self._state.parameters),
            "optimizer": _flat(optax.tree.get(self._state.optimizer, "mu")),
            "second_moment": _flat(optax.tree.get(self._state.optimizer, "nu")),
        }
        fetch: dict[str, Callable[[], np.ndarray]] = {
            "loss": partial(self._framework.get, self._loss)
        }
        for name in self._held:
            groups = {"frozen": frozen} if self._is_frozen(name) else trained
            for group, arrays in groups.items():
                fetch[f"{group}/{name}"] = partial(self._get_part, name, arrays)
        return Reading(fetch)

    def inspect(self) -> Effective:
        """What the step's tensors are, from its trace.

        FLOP are counted with attention as the products that it is made of, and once each.
        """
        assert self._state is not None, "inspect before load"
        batch, parameters = self._batches[0], self._state.parameters
        attend_at_once = partial(attend, max_queries=batch.tokens_BT.shape[1])
        plain = Decoder(dataclasses.replace(self._recipe, attend=attend_at_once, recompute=False))
        gradients_of = jax.grad(partial(loss_of, plain))
        arguments = (parameters, self._frozen, batch)
        _, seen = jax.eval_shape(
            partial(plain.apply, capture_intermediates=True, mutable=["intermediates"]),
            {"params": parameters, "frozen": self._frozen},
            batch.tokens_BT,
        )
        program = self._train_step.lower(self._state, self._frozen, batch).as_text()
        return Effective(
            parameters=_dtype_name(parameters),
            gradients=_dtype_name(jax.eval_shape(gradients_of, *arguments)),
            optimizer=_dtype_name(optax.tree.get(self._state.optimizer, "mu")),
            activations=_dtype_name(seen["intermediates"]["layer0"]["__call__"]),
            flop_per_step=count_flop(gradients_of, *arguments),
            attention="cudnn flash" if "__cudnn$fmha" in program else "xla products",
        )

    def _is_frozen(self, name: str) -> bool:
        return self._recipe.has_adapters and not network.is_adapter(name)

    def _get_part(self, name: str, arrays: Mapping[str, Any]) -> np.ndarray:
        path, rows = self._held[name]
        return _turned(name, self._framework.get(arrays[path])[rows])

    def _traced_step(self, state: State, frozen: Any, batch: Batch) -> tuple[State, jax.Array]:
        """The new state and the loss, from the old state and a batch.

        The update is computed in the wide dtype, and what is kept of it is rounded once. Optax
        computes in the states' dtype, and in bfloat16 takes a beta of 0.9 for 0.8984.
        """
        gradients_of = jax.value_and_grad(partial(loss_of, self._model))
        loss, gradients = gradients_of(state.parameters, frozen, batch)
        gradients, (parameters, optimizer) = self._widened((gradients, state))
        updates, optimizer = self._optimizer.update(gradients, optimizer, parameters)
        parameters = optax.apply_updates(parameters, updates)
        return optax.tree.cast_like(State(parameters, optimizer), state), loss

    def _widened(self, tree: Any) -> Any:
        def widened(leaf: jax.Array) -> jax.Array:
            is_count = jnp.issubdtype(leaf.dtype, jnp.integer)
            return leaf if is_count else leaf.astype(self._recipe.numerics.wide)

        return jax.tree.map(widened, tree)


def loss_of(model: Decoder, parameters: Any, frozen: Any, batch: Batch) -> jax.Array:
    """The mean cross-entropy over all positions, from logits in float32 or wider."""
    logits_BTV = model.apply({"params": parameters, "frozen": frozen}, batch.tokens_BT)
    losses_BT = optax.softmax_cross_entropy_with_integer_labels(logits_BTV, batch.labels_BT)
    return losses_BT.mean()


def _optimizer(constants: Mapping[str, float]) -> optax.GradientTransformation:
    """AdamW, Loshchilov and Hutter (2019), algorithm 2; the decay on matrices only."""
    return optax.adamw(
        constants["learning_rate"],
        b1=constants["beta1"],
        b2=constants["beta2"],
        eps=constants["epsilon"],
        weight_decay=constants["weight_decay"],
        mask=_decayed,
    )


def _decayed(parameters: Any) -> Any:
    return traverse_util.path_aware_map(
        lambda path, _: network.is_decayed("/".join(path)), parameters
    )


def _turned(name: str, array: np.ndarray) -> np.ndarray:
    """A kernel from IO to OI or back; the embedding's table and vectors as they are."""
    return array if array.ndim < 2 or name == "embedding/table" else array.T


def _dtype_name(tree: Any) -> str:
    """The dtype of a tree's first array."""
    return str(jax.tree.leaves(tree)[0].dtype)


def _nested(values: Mapping[str, Any]) -> Any:
    return traverse_util.unflatten_dict(values, sep="/")


def _flat(tree: Any) -> dict[str, Any]:
    return dict(traverse_util.flatten_dict(tree, sep="/"))
