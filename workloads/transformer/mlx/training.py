"""The decoder's fine-tune in MLX: one function from a batch to the new state, lazily or compiled.

The two executions run the same Python: `eager` evaluates what a step recorded, `compiled` traces it
once. Parameters are flat dictionaries, the trained apart from the frozen, of which MLX is asked for
no gradients. Projections of the same input are one product. Kernels are held OI, as MLX's Linear
holds them.

Shapes: B batch, T positions, D width, H heads, K head dimension, F width of the MLP, V vocabulary,
R rank, I inputs and O outputs of a projection.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Callable, NamedTuple

import mlx.core as mx
import numpy as np

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, Reading
from benchmarks.frameworks.mlx.adapter import dtype_name
from workloads.transformer import network

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}

ATTENTION_MARKS = {
    "ScaledDotProductAttentionVJP": "mx.fast, fused both ways",
    "ScaledDotProductAttention": "mx.fast, fused forward, composed backward",
    "Softmax": "mx.fast, composed of products and softmax",
    "Expm1": "float64's own, composed of products and expm1",
}
"""An operation of a recorded step, and what it says of its attention: the first that is there."""


class Numerics(NamedTuple):
    """What a precision means here."""

    master: Any
    """Trained parameters and their optimizer."""
    compute: Any
    """Activations, products and frozen weights. MLX sums bf16 products in float32 by itself."""
    wide: Any
    """Normalisation and the arithmetic of an update."""
    fast: Any
    """What mx.fast is given: its GPU kernels compute in float32 whatever they take, and on the CPU
    it is composed of operations in the dtype of what it takes."""


def numerics_of(*, precision: str, device: str) -> Numerics:
    """The dtypes of a precision on a device."""
    if precision == "fp64":
        return Numerics(mx.float64, mx.float64, mx.float64, mx.float64)
    if precision not in ("bf16", "bf16_pure"):
        return Numerics(mx.float32, mx.float32, mx.float32, mx.float32)
    return Numerics(
        mx.bfloat16 if precision == "bf16_pure" else mx.float32,
        mx.bfloat16,
        mx.float32,
        fast=mx.float32 if device == "cpu" else mx.bfloat16,
    )


def build(problem: Problem, framework: Framework) -> DecoderTraining:
    """The training program, without weights and batches yet."""
    return DecoderTraining(problem, framework)


class Operations(NamedTuple):
    """What a decoder is made of beside its products."""

    normalise: Callable[[mx.array, mx.array], mx.array]
    """x BTD and scale D to the normalised x: Zhang and Sennrich (2019)."""
    rotate: Callable[[mx.array], mx.array]
    """RoPE of x BHTK, on pairs of its halves: Su et al. (2021), section 3.4.2."""
    attend: Callable[[mx.array, mx.array, mx.array], mx.array]
    """Query, key and value BHTK to causal attention BHTK."""
    gate: Callable[[mx.array], mx.array]
    """x to x sigmoid(x)."""
    loss: Callable[[mx.array, mx.array], mx.array]
    """Logits BTV and labels BT to the mean cross-entropy of the softmax."""


def fast_operations(numerics: Numerics, constants: Mapping[str, float]) -> Operations:
    """MLX's own kernels, where the device has them."""
    _, compute, wide, fast = numerics

    def normalise(x_BTD: mx.array, scale_D: mx.array) -> mx.array:
        # Wide on a GPU too, whose kernel rounds to what it took before it scales.
        x_BTD, scale_D = x_BTD.astype(wide), scale_D.astype(wide)
        return mx.fast.rms_norm(x_BTD, scale_D, constants["rms_norm_epsilon"]).astype(compute)

    def rotate(x_BHTK: mx.array) -> mx.array:
        dimension, base = x_BHTK.shape[-1], constants["rotary_base"]
        return mx.fast.rope(
            x_BHTK.astype(fast), dimension, traditional=False, base=base, scale=1.0, offset=0
        ).astype(compute)

    def attend(query: mx.array, key: mx.array, value: mx.array) -> mx.array:
        scale = 1 / math.sqrt(query.shape[-1])
        return mx.fast.scaled_dot_product_attention(
            query.astype(fast), key.astype(fast), value.astype(fast), scale=scale, mask="causal"
        ).astype(compute)

    def gate(x: mx.array) -> mx.array:
        return x * mx.sigmoid(x)  # nn.silu would be compiled by itself, in eager execution too

    def loss(logits_BTV: mx.array, labels_BT: mx.array) -> mx.array:
        return mx.fast.cross_entropy(logits_BTV.astype(fast), labels_BT).mean()

    return Operations(normalise, rotate, attend, gate, loss)


def float64_operations(constants: Mapping[str, float]) -> Operations:
    """The same in all digits of float64; parity only.

    MLX 0.32.4 computes mx.fast in float32 there, and exp, sigmoid, softmax and cos to seven digits;
    expm1, tanh and rsqrt to all of them.
    """

    def normalise(x_BTD: mx.array, scale_D: mx.array) -> mx.array:
        mean_BT1 = mx.square(x_BTD).mean(-1, keepdims=True)
        return x_BTD * mx.rsqrt(mean_BT1 + constants["rms_norm_epsilon"]) * scale_D

    def rotate(x_BHTK: mx.array) -> mx.array:
        length, dimension = x_BHTK.shape[-2:]
        frequencies = constants["rotary_base"] ** (-np.arange(0, dimension, 2) / dimension)
        angles = np.arange(length)[:, None] * frequencies
        cos, sin = (mx.array(table, mx.float64) for table in (np.cos(angles), np.sin(angles)))
        first, second = mx.split(x_BHTK, 2, -1)
        return mx.concatenate([first * cos - second * sin, second * cos + first * sin], -1)

    def attend(query: mx.array, key: mx.array, value: mx.array) -> mx.array:
        scores_BHTT = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
        seen_TT = mx.tri(query.shape[-2], dtype=mx.bool_)
        scores_BHTT = _below_largest(mx.where(seen_TT, scores_BHTT, -math.inf))
        weights_BHTT = mx.expm1(scores_BHTT) + 1
        return weights_BHTT @ value / weights_BHTT.sum(-1, keepdims=True)

    def gate(x: mx.array) -> mx.array:
        return x * (0.5 + 0.5 * mx.tanh(0.5 * x))

    def loss(logits_BTV: mx.array, labels_BT: mx.array) -> mx.array:
        scores_BTV = _below_largest(logits_BTV)
        own_BT1 = mx.take_along_axis(scores_BTV, labels_BT[..., None], -1)
        sums_BT1 = (mx.expm1(scores_BTV) + 1).sum(-1, keepdims=True)
        return (mx.log(sums_BT1) - own_BT1).mean()

    return Operations(normalise, rotate, attend, gate, loss)


def _below_largest(x: mx.array) -> mx.array:
    """The last axis less its maximum, through which no gradient goes."""
    return x - mx.stop_gradient(x.max(-1, keepdims=True))


class Group(NamedTuple):
    """Projections of one input: their kernels are one, and so are their adapters' A."""

    parts: tuple[network.Projection, ...]

    @property
    def name(self) -> str:
        """The canonical names as one: layer0/mlp/gate+up."""
        prefix = self.parts[0].name.rpartition("/")[0]
        return f"{prefix}/{'+'.join(part.name.rpartition('/')[2] for part in self.parts)}"

    @property
    def outputs(self) -> list[slice]:
        """Where each part's outputs are."""
        ends = np.cumsum([part.num_outputs for part in self.parts]).tolist()
        return [slice(end - part.num_outputs, end) for part, end in zip(self.parts, ends)]


class Layer(NamedTuple):
    """The projections of one layer."""

    name: str
    query_key_value: Group
    output: Group
    gate_up: Group
    down: Group


def layer_of(parameters: Mapping[str, int], index: int) -> Layer:
    """A layer of this size."""
    *inputs, output = network.attention_projections(parameters, index)
    *gate_up, down = network.mlp_projections(parameters, index)
    groups = (Group(tuple(parts)) for parts in (inputs, [output], gate_up, [down]))
    return Layer(f"layer{index}", *groups)


class Held(NamedTuple):
    """Where a canonical array is."""

    name: str
    columns: slice = slice(None)
    """Of the canonical layout; of what is turned the rows here."""

    @property
    def is_turned(self) -> bool:
        """Whether it is held OI, and canonical IO."""
        return self.name.endswith("/kernel")


def held_arrays(layers: Sequence[Layer], *, rank: int | None) -> Iterator[tuple[str, Held]]:
    """Every canonical name and where it is held; with adapters of this rank, if any."""
    norms = [f"{layer.name}/{norm}" for layer in layers for norm in ("attention_norm", "mlp_norm")]
    scales = [f"{norm}/scale" for norm in (*norms, "final_norm")]
    for name in ("embedding/table", "head/kernel", *scales):
        yield name, Held(name)
    for group in (group for layer in layers for group in layer[1:]):
        for index, (part, columns) in enumerate(zip(group.parts, group.outputs)):
            yield f"{part.name}/kernel", Held(f"{group.name}/kernel", columns)
            if rank is not None:
                columns = slice(index * rank, (index + 1) * rank)
                yield f"{part.name}/lora_a", Held(f"{group.name}/lora_a", columns)
                yield f"{part.name}/lora_b", Held(f"{part.name}/lora_b")


class Decoder:
    """The forward pass, without weights."""

    def __init__(self, problem: Problem) -> None:
        parameters, constants, way = problem.parameters, problem.hyperparameters, problem.case.way
        self.numerics = numerics_of(precision=way.precision, device=problem.case.place.device)
        self.layers = [layer_of(parameters, i) for i in range(parameters["num_layers"])]
        self.rank = int(constants["lora_rank"]) if "lora_rank" in constants else None
        self._adapter_factor = 0.0 if self.rank is None else constants["lora_alpha"] / self.rank
        self._num_heads = parameters["num_heads"]
        self._recompute = dict(way.options)["recompute"] == "full"
        if self.numerics.wide == mx.float64:
            self._operations = float64_operations(constants)
        else:
            self._operations = fast_operations(self.numerics, constants)

    def is_trained(self, name: str) -> bool:
        """Whether an array is trained; the others are frozen."""
        return self.rank is None or network.is_adapter(name)

    def loss(
        self,
        trained: Mapping[str, mx.array],
        frozen: Mapping[str, mx.array],
        tokens_BT: mx.array,
        labels_BT: mx.array,
    ) -> mx.array:
        """The mean cross-entropy over all positions, in float32 or wider."""
        arrays = {**frozen, **trained}
        x_BTD = self.embed(arrays, tokens_BT)
        pass_layer = self._pass_again if self._recompute else self.pass_layer
        for layer in self.layers:
            x_BTD = pass_layer(layer, arrays, x_BTD)
        x_BTD = self._operations.normalise(x_BTD, arrays["final_norm/scale"])
        return self._operations.loss(x_BTD @ self._narrow(arrays["head/kernel"]).T, labels_BT)

    def embed(self, arrays: Mapping[str, mx.array], tokens_BT: mx.array) -> mx.array:
        """The tokens' rows of the table, BTD."""
        return self._narrow(arrays["embedding/table"][tokens_BT])

    def pass_layer(self, layer: Layer, arrays: Mapping[str, mx.array], x_BTD: mx.array) -> mx.array:
        """The layer's output, BTD."""
        normalise, project = self._operations.normalise, partial(self._project, arrays)
        y_BTD = normalise(x_BTD, arrays[f"{layer.name}/attention_norm/scale"])
        mixed_BTD = self._attend(project(layer.query_key_value, y_BTD))
        x_BTD = x_BTD + project(layer.output, mixed_BTD)[0]
        y_BTD = normalise(x_BTD, arrays[f"{layer.name}/mlp_norm/scale"])
        gate_BTF, up_BTF = project(layer.gate_up, y_BTD)
        hidden_BTF = self._operations.gate(gate_BTF) * up_BTF  # Shazeer (2020), SwiGLU
        return x_BTD + project(layer.down, hidden_BTF)[0]

    def _pass_again(
        self, layer: Layer, arrays: Mapping[str, mx.array], x_BTD: mx.array
    ) -> mx.array:
        """The same, computed a second time in the backward pass in place of being kept."""

        def pass_layer(trained: Mapping[str, mx.array], x_BTD: mx.array) -> mx.array:
            return self.pass_layer(layer, {**arrays, **trained}, x_BTD)

        # Arguments, because a checkpoint has gradients of nothing else.
        own = (name for name in arrays if name.startswith(f"{layer.name}/"))
        trained = {name: arrays[name] for name in own if self.is_trained(name)}
        return mx.checkpoint(pass_layer)(trained, x_BTD)

    def _attend(self, query_key_value: Sequence[mx.array]) -> mx.array:
        query, key, value = (
            mx.unflatten(part_BTD, -1, (self._num_heads, -1)).swapaxes(1, 2)
            for part_BTD in query_key_value
        )
        rotate, attend = self._operations.rotate, self._operations.attend
        mixed_BHTK = attend(rotate(query), rotate(key), value)
        return mixed_BHTK.swapaxes(1, 2).flatten(-2)

    def _project(
        self, arrays: Mapping[str, mx.array], group: Group, x_BTI: mx.array
    ) -> list[mx.array]:
        """The output of each part, BTO; with LoRA as in Hu et al. (2021), section 4.1."""
        y_BTO = x_BTI @ self._narrow(arrays[f"{group.name}/kernel"]).T
        outputs = y_BTO.split(tuple(part.start for part in group.outputs[1:]), -1)
        if self.rank is None:
            return outputs
        low_BTR = self._adapter_factor * (x_BTI @ self._narrow(arrays[f"{group.name}/lora_a"]))
        lows = low_BTR.split(len(group.parts), -1)
        kernels = [self._narrow(arrays[f"{part.name}/lora_b"]) for part in group.parts]
        return [mx.addmm(*each) for each in zip(outputs, lows, kernels)]

    def _narrow(self, array: mx.array) -> mx.array:
        return array.astype(self.numerics.compute)


class DecoderTraining:
    """The state, device-resident batches and the function of one step; see `Program`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        self._framework = framework
        self._constants = problem.hyperparameters
        self._decoder = Decoder(problem)
        self._held = dict(held_arrays(self._decoder.layers, rank=self._decoder.rank))
        self._trained: dict[str, mx.array] = {}
        self._frozen: dict[str, mx.array] = {}
        self._first_moments: dict[str, mx.array] = {}
        self._second_moments: dict[str, mx.array] = {}
        self._powers: dict[str, mx.array] = {}
        """Each beta to the number of steps."""
        self._state = [self._trained, self._first_moments, self._second_moments, self._powers]
        self._gradients = mx.value_and_grad(self._decoder.loss)
        self._train_step = self._recorded_step
        if problem.case.way.execution == "compiled":
            self._train_step = mx.compile(
                self._recorded_step, inputs=[self._state, self._frozen], outputs=self._state
            )
        self._batches: list[tuple[mx.array, mx.array]] = []
        self._next = 0
        self._loss: mx.array | None = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights; reset the optimizer's state.

        The dictionaries stay, which the compiled step reads and writes.
        """
        numerics = self._decoder.numerics
        parts: dict[str, list[str]] = {}
        for canonical, held in self._held.items():
            parts.setdefault(held.name, []).append(canonical)
        for name, names in parts.items():
            joined = np.concatenate([weights[one] for one in names], -1)
            value = self._framework.put(joined.T if Held(name).is_turned else joined)
            if self._decoder.is_trained(name):
                self._trained[name] = value.astype(numerics.master)
                self._first_moments[name] = mx.zeros_like(self._trained[name])
                self._second_moments[name] = mx.zeros_like(self._trained[name])
            else:
                self._frozen[name] = value.astype(numerics.compute)
            mx.eval(self._state, self._frozen)  # type: ignore[no-untyped-call]  # in mlx's stubs
        for beta in ("beta1", "beta2"):
            self._powers[beta] = mx.array(1.0, numerics.wide)

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these batches on the device; the next step uses the first, and steps rotate."""
        put = self._framework.put
        self._batches = [(put(batch["tokens"]), put(batch["labels"])) for batch in batches]
        self._next = 0

    def step(self) -> Any:
        """Enqueue one training step on the next batch; its loss.

        The whole state is enqueued with it: MLX computes nothing that is not asked for.
        """
        tokens_BT, labels_BT = self._batches[self._next]
        self._next = (self._next + 1) % len(self._batches)
        self._loss = self._train_step(tokens_BT, labels_BT)
        mx.async_eval(self._loss, self._state)  # type: ignore[no-untyped-call]  # in mlx's stubs
        return self._loss

    def read(self) -> Reading:
        """The last loss, weights and moments, fetched one by one."""
        assert self._loss is not None, "read before the first step"
        fetch = {"loss": partial(self._framework.get, self._loss)}
        groups = {
            "weights": self._trained,
            "optimizer": self._first_moments,
            "second_moment": self._second_moments,
            "frozen": self._frozen,
        }
        for name, held in self._held.items():
            for group, arrays in groups.items():
                if held.name in arrays:
                    fetch[f"{group}/{name}"] = partial(self._get_part, arrays[held.name], held)
        return Reading(fetch)

    def inspect(self) -> Effective:
        """What the step's tensors are, from a step that is recorded and never computed."""
        tokens_BT, labels_BT = self._batches[0]
        _, gradients = self._gradients(self._trained, self._frozen, tokens_BT, labels_BT)
        graph = io.StringIO()
        mx.export_to_dot(graph, *gradients.values())
        decoder, arrays = self._decoder, {**self._frozen, **self._trained}
        x_BTD = decoder.pass_layer(decoder.layers[0], arrays, decoder.embed(arrays, tokens_BT))
        name = next(iter(gradients))
        return Effective(
            parameters=dtype_name(self._trained[name].dtype),
            gradients=dtype_name(gradients[name].dtype),
            optimizer=dtype_name(self._first_moments[name].dtype),
            activations=dtype_name(x_BTD.dtype),
            flop_per_step=None,
            attention=next(
                (found for mark, found in ATTENTION_MARKS.items() if mark in graph.getvalue()),
                "unknown",
            ),
        )

    def _get_part(self, array: mx.array, held: Held) -> np.ndarray:
        if held.is_turned:
            return self._framework.get(array[held.columns]).T
        return self._framework.get(array[..., held.columns])

    def _recorded_step(self, tokens_BT: mx.array, labels_BT: mx.array) -> mx.array:
        """The loss; parameters, moments and powers move on with it."""
        loss, gradients = self._gradients(self._trained, self._frozen, tokens_BT, labels_BT)
        for beta, power in self._powers.items():
            self._powers[beta] = power * self._constants[beta]
        for name, gradient in gradients.items():
            self._update(name, gradient)
        return loss

    def _update(self, name: str, gradient: mx.array) -> None:
        """Move a parameter on: AdamW, Loshchilov and Hutter (2019), algorithm 2.

        Differs from mlx.optimizers.AdamW, which decays every parameter, rounds its rate to the
        gradient's dtype and makes its arithmetic in it.
        """
        constants, numerics = self._constants, self._decoder.numerics
        beta1, beta2, rate = constants["beta1"], constants["beta2"], constants["learning_rate"]
        states = (self._trained, self._first_moments, self._second_moments)
        weight, first, second = (state[name].astype(numerics.wide) for state in states)
        gradient = gradient.astype(numerics.wide)
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * mx.square(gradient)
        # Scalars, which take no pass over the parameters.
        scale = (1 - self._powers["beta1"]) / rate
        root_scale = scale * mx.rsqrt(1 - self._powers["beta2"])
        change = first / (root_scale * mx.sqrt(second) + scale * constants["epsilon"])
        if network.is_decayed(name):
            weight = weight * (1 - rate * constants["weight_decay"])
        for state, value in zip(states, (weight - change, first, second)):
            state[name] = value.astype(numerics.master)
