"""The decoder's fine-tune in TensorFlow: raw operations, one function for the whole step, no Keras.

All three executions run the same Python: `eager` calls it, `graph` and `compiled` trace it.
Tuned: projections of the same input are one product, queries and keys are rotated together, and
Adam is TensorFlow's own operation.

Shapes: B batch, T positions, N all positions of a batch (B T), D width, H heads, K head dimension,
F width of the MLP, V vocabulary, R rank, I inputs and O outputs of a projection. Activations are
ND and kernels IO: both are taken by TensorFlow's product of two matrices as they lie.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, Reading
from benchmarks.frameworks.tensorflow.adapter import count_flop, multiplies_bf16
from workloads.transformer import network

IMPLEMENTS = {"transformer_finetune", "transformer_lora"}

ALIASED_BYTES = 2**14
"""Rows that are a multiple of this apart fall on the same few sets of a CPU's caches."""
LINE_BYTES = 64
"""Of a CPU's caches."""


class Numerics(NamedTuple):
    """What a precision means here."""

    master: Any
    """Trained parameters, their gradients and their optimizer."""
    compute: Any
    """Activations, products and frozen weights."""
    wide: Any
    """Normalisation, rotation, softmax, loss, and the optimizer's arithmetic."""
    widens_products: bool = False
    """Whether products of rounded operands are made in float32, as a bf16 unit sums them: without
    such a unit the CPU's own bf16 is two to ten times slower."""


def numerics_of(*, precision: str, device: str) -> Numerics:
    """The dtypes of a precision on a device."""
    if precision == "fp64":
        return Numerics(tf.float64, tf.float64, tf.float64)
    if precision not in ("bf16", "bf16_pure"):
        return Numerics(tf.float32, tf.float32, tf.float32)
    return Numerics(
        tf.bfloat16 if precision == "bf16_pure" else tf.float32,
        tf.bfloat16,
        tf.float32,
        widens_products=device == "cpu" and not multiplies_bf16(),
    )


def build(problem: Problem, framework: Framework) -> DecoderTraining:
    """The training program, without weights and batches yet."""
    return DecoderTraining(problem, framework)


class Pack(NamedTuple):
    """Projections of one input, whose kernels are one variable, column after column."""

    name: str
    parts: tuple[network.Projection, ...]

    def canonical(self, *, has_adapters: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each variable's name with the canonical names of what it holds."""
        parts = tuple(part.name for part in self.parts)
        yield f"{self.name}/kernel", tuple(f"{part}/kernel" for part in parts)
        if has_adapters:
            yield f"{self.name}/lora_a", tuple(f"{part}/lora_a" for part in parts)
            yield from ((f"{part}/lora_b", (f"{part}/lora_b",)) for part in parts)


class Layer(NamedTuple):
    """One layer's products; its normalisations are called after it."""

    name: str
    query_key_value: Pack
    output: Pack
    gate_up: Pack
    down: Pack

    def canonical(self, *, has_adapters: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each variable's name with the canonical names of what it holds."""
        for norm in (f"{self.name}/attention_norm/scale", f"{self.name}/mlp_norm/scale"):
            yield norm, (norm,)
        for pack in (self.query_key_value, self.output, self.gate_up, self.down):
            yield from pack.canonical(has_adapters=has_adapters)


def layer_of(parameters: Mapping[str, int], index: int) -> Layer:
    """The layer of this index."""
    *inputs, output = network.attention_projections(parameters, index)
    gate, up, down = network.mlp_projections(parameters, index)
    name = f"layer{index}"
    return Layer(
        name,
        query_key_value=Pack(f"{name}/attention/query_key_value", tuple(inputs)),
        output=Pack(output.name, (output,)),
        gate_up=Pack(f"{name}/mlp/gate_up", (gate, up)),
        down=Pack(down.name, (down,)),
    )


class Rotation(NamedTuple):
    """RoPE of a query and a key as x * cos + exchanged halves of x * sin, with a row for each.

    The query's row holds the scale of the scores, 1 / sqrt(K), as well.
    """

    cos_211TK: Any
    sin_211TK: Any


def rotation_of(problem: Problem, dtype: Any) -> Rotation:
    """Su et al. (2021), section 3.4.2."""
    dimension = problem.parameters["width"] // problem.parameters["num_heads"]
    exponents = np.arange(0, dimension, 2) / dimension
    frequencies = problem.hyperparameters["rotary_base"] ** -exponents
    angles = np.arange(network.sequence_length(problem.case.work))[:, None] * frequencies
    scales_2111 = np.array([1 / math.sqrt(dimension), 1.0]).reshape(2, 1, 1, 1, 1)
    cos_TK = np.concatenate([np.cos(angles), np.cos(angles)], axis=-1)
    sin_TK = np.concatenate([-np.sin(angles), np.sin(angles)], axis=-1)
    return Rotation(
        tf.constant(scales_2111 * cos_TK, dtype), tf.constant(scales_2111 * sin_TK, dtype)
    )


def causal_mask(length: int, dtype: Any) -> Any:
    """What is added to scores, TT: minus infinity where a position is not seen."""
    from_own_on_TT = tf.linalg.band_part(
        tf.fill((length, length), tf.constant(-np.inf, dtype)), 0, -1
    )
    return tf.linalg.set_diag(from_own_on_TT, tf.zeros(length, dtype))


class Decoder:
    """The weights as variables, and the way from a batch to its loss."""

    def __init__(self, problem: Problem) -> None:
        place, way = problem.case.place, problem.case.way
        parameters, constants = problem.parameters, problem.hyperparameters
        length = network.sequence_length(problem.case.work)
        self.numerics = numerics_of(precision=way.precision, device=place.device)
        self.recomputes = dict(way.options)["recompute"] == "full"
        self.variables: dict[str, Any] = {}
        self._layers = [layer_of(parameters, i) for i in range(parameters["num_layers"])]
        self._rank = constants.get("lora_rank")
        self._lora_factor = constants["lora_alpha"] / self._rank if self._rank else None
        num_heads = parameters["num_heads"]
        self._heads_shape = (length, 3, num_heads, parameters["width"] // num_heads)
        self._epsilon = constants["rms_norm_epsilon"]
        self._rotation = rotation_of(problem, self.numerics.wide)
        self._mask_TT = causal_mask(length, self.numerics.wide)
        self._is_on_cpu = place.device == "cpu"

    def canonical(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each variable's name with the canonical names of what it holds, column after column."""
        for name in ("embedding/table", "final_norm/scale", "head/kernel"):
            yield name, (name,)
        for layer in self._layers:
            yield from layer.canonical(has_adapters=self._rank is not None)

    def assign(self, name: str, value: Any) -> None:
        """Give a variable its value; it stays if it is there, so that nothing is traced anew."""
        is_trained = self._rank is None or network.is_adapter(name)
        value = tf.cast(value, self.numerics.master if is_trained else self.numerics.compute)
        if name in self.variables:
            self.variables[name].assign(value)
        else:
            label = name.replace("/", "_")
            self.variables[name] = tf.Variable(value, trainable=is_trained, name=label)

    def loss(self, tokens_BT: Any, labels_BT: Any) -> Any:
        """The mean cross-entropy over all positions, from logits in the wide dtype."""
        x_ND = self._normalised("final_norm", self.hidden(tokens_BT))
        logits_NV = tf.cast(self._product(x_ND, "head/kernel"), self.numerics.wide)
        labels_N = tf.reshape(labels_BT, (-1,))
        losses_N = tf.nn.sparse_softmax_cross_entropy_with_logits(labels_N, logits_NV)
        return tf.reduce_mean(losses_N)

    def hidden(self, tokens_BT: Any) -> Any:
        """What the last layer returns, ND."""
        rows_ND = tf.gather(self.variables["embedding/table"], tf.reshape(tokens_BT, (-1,)))
        x_ND = tf.cast(rows_ND, self.numerics.compute)
        for layer in self._layers:
            run = partial(self._run, layer)
            x_ND = tf.recompute_grad(run)(x_ND) if self.recomputes else run(x_ND)
        return x_ND

    def _run(self, layer: Layer, x_ND: Any) -> Any:
        y_ND = self._normalised(f"{layer.name}/attention_norm", x_ND)
        x_ND = x_ND + self._attention(layer, y_ND)
        y_ND = self._normalised(f"{layer.name}/mlp_norm", x_ND)
        gate_NF, up_NF = tf.split(self._projected(layer.gate_up, y_ND), 2, axis=-1)
        # SwiGLU, Shazeer (2020); the gradient of `tf.nn.silu` would compute the sigmoid again.
        hidden_NF = gate_NF * tf.sigmoid(gate_NF) * up_NF
        return x_ND + self._projected(layer.down, hidden_NF)

    def _attention(self, layer: Layer, x_ND: Any) -> Any:
        compute, wide = self.numerics.compute, self.numerics.wide
        packed_NO = self._projected(layer.query_key_value, x_ND)
        packed_BT3HK = tf.reshape(packed_NO, (-1, *self._heads_shape))
        query_key_2BHTK, value_1BHTK = tf.split(tf.transpose(packed_BT3HK, (2, 0, 3, 1, 4)), (2, 1))
        rotated_2BHTK = rotated(tf.cast(query_key_2BHTK, wide), self._rotation)
        query_BHTK, key_BHTK = tf.unstack(tf.cast(rotated_2BHTK, compute))
        mixed_BHTK = attend(
            query_BHTK, key_BHTK, value_1BHTK[0], mask_TT=self._mask_TT, numerics=self.numerics
        )
        mixed_BTHK = tf.transpose(mixed_BHTK, (0, 2, 1, 3))
        return self._projected(layer.output, tf.reshape(mixed_BTHK, x_ND.shape))

    def _projected(self, pack: Pack, x_NI: Any) -> Any:
        """The outputs of the pack's parts side by side, NO; LoRA is Hu et al. (2021), 4.1."""
        outputs_NO = self._product(x_NI, f"{pack.name}/kernel")
        if self._rank is None:
            return outputs_NO
        lows_NR = self._lora_factor * self._product(x_NI, f"{pack.name}/lora_a")
        added_NO = [
            self._product(low_NR, f"{part.name}/lora_b")
            for part, low_NR in zip(pack.parts, tf.split(lows_NR, len(pack.parts), axis=-1))
        ]
        return outputs_NO + (tf.concat(added_NO, axis=-1) if len(added_NO) > 1 else added_NO[0])

    def _product(self, x_NI: Any, name: str) -> Any:
        """The input times a weight in the compute dtype, NO."""
        variable, numerics = self.variables[name], self.numerics
        weight_IO = tf.cast(variable, numerics.compute)
        if numerics.widens_products:
            x_NI, weight_IO = tf.cast(x_NI, numerics.wide), tf.cast(weight_IO, numerics.wide)
        row_bytes = weight_IO.shape[-1] * weight_IO.dtype.size
        pads = self._is_on_cpu and variable.trainable and row_bytes % ALIASED_BYTES == 0
        return tf.cast((multiply_padded if pads else tf.matmul)(x_NI, weight_IO), numerics.compute)

    def _normalised(self, name: str, x_ND: Any) -> Any:
        wide = self.numerics.wide
        scale_D = tf.cast(self.variables[f"{name}/scale"], wide)
        y_ND = normalised(tf.cast(x_ND, wide), scale_D, epsilon=self._epsilon)
        return tf.cast(y_ND, self.numerics.compute)


def normalised(x_ND: Any, scale_D: Any, *, epsilon: float) -> Any:
    """RMSNorm, Zhang and Sennrich (2019), ND."""
    mean_N1 = tf.reduce_mean(tf.square(x_ND), axis=-1, keepdims=True)
    return x_ND * tf.math.rsqrt(mean_N1 + epsilon) * scale_D


def rotated(x_2BHTK: Any, rotation: Rotation) -> Any:
    """RoPE on pairs of the head's halves; see `Rotation`."""
    first, second = tf.split(x_2BHTK, 2, axis=-1)
    exchanged_2BHTK = tf.concat([second, first], axis=-1)
    return x_2BHTK * rotation.cos_211TK + exchanged_2BHTK * rotation.sin_211TK


def attend(
    query_BHTK: Any, key_BHTK: Any, value_BHTK: Any, *, mask_TT: Any, numerics: Numerics
) -> Any:
    """The attended values, BHTK, from scaled queries; TensorFlow has no fused kernel for this."""
    operand = numerics.wide if numerics.widens_products else numerics.compute
    query_BHTK, key_BHTK, value_BHTK = (
        tf.cast(one, operand) for one in (query_BHTK, key_BHTK, value_BHTK)
    )
    scores_BHTT = tf.matmul(query_BHTK, key_BHTK, transpose_b=True)
    attention_BHTT = tf.nn.softmax(tf.cast(scores_BHTT, numerics.wide) + mask_TT)
    mixed_BHTK = tf.matmul(tf.cast(attention_BHTT, operand), value_BHTK)
    return tf.cast(mixed_BHTK, numerics.compute)


@tf.custom_gradient  # type: ignore[untyped-decorator]  # tensorflow is untyped here
def multiply_padded(x_NI: Any, weight_IO: Any) -> Any:
    """The product, NO, whose gradient of the weight takes rows that do not alias in the caches.

    With rows that do, both oneDNN and Eigen need up to twice the time for that one product.
    """

    def gradients(dy_NO: Any) -> tuple[Any, Any]:
        padded = tf.pad(dy_NO, [[0, 0], [0, LINE_BYTES // dy_NO.dtype.size]])
        dweight_IO = tf.matmul(x_NI, padded, transpose_a=True)[:, : dy_NO.shape[-1]]
        return tf.matmul(dy_NO, weight_IO, transpose_b=True), dweight_IO

    return tf.matmul(x_NI, weight_IO), gradients


class Moments(NamedTuple):
    """Adam's two averages for one variable."""

    first: Any
    second: Any


class Powers(NamedTuple):
    """What the variables of one update have in common: the betas to the power of its number."""

    beta1: Any
    beta2: Any
    scaled_epsilon: Any
    """For a root that is not corrected for its bias yet."""


class AdamW:
    """Loshchilov and Hutter (2019), algorithm 2, at a constant rate."""

    def __init__(self, constants: Mapping[str, float], dtype: Any, framework: Framework) -> None:
        def constant(value: float) -> Any:
            return framework.put(np.array(value, dtype.as_numpy_dtype))

        # Made once: eager execution would otherwise copy them to the device for every parameter.
        self._rate = constant(constants["learning_rate"])
        self._decay = constant(constants["learning_rate"] * constants["weight_decay"])
        self._beta1, self._beta2 = constant(constants["beta1"]), constant(constants["beta2"])
        self._epsilon = constant(constants["epsilon"])
        self._num_updates = tf.Variable(constant(0.0), trainable=False, name="num_updates")
        self.moments: dict[str, Moments] = {}

    def reset(self, variables: Mapping[str, Any]) -> None:
        """Begin anew with these variables; the moments stay if they are there."""
        self._num_updates.assign(tf.zeros_like(self._num_updates))
        for name, variable in variables.items():
            zeros = tf.zeros_like(variable)
            if name in self.moments:
                for moment in self.moments[name]:
                    moment.assign(zeros)
            else:
                self.moments[name] = Moments(*(tf.Variable(zeros, trainable=False) for _ in "mv"))

    def apply(self, variables: Mapping[str, Any], gradients: Mapping[str, Any]) -> None:
        """Move every variable that has a gradient on by one update."""
        self._num_updates.assign_add(tf.ones_like(self._num_updates))
        number = self._num_updates.read_value()
        beta1_power, beta2_power = tf.pow(self._beta1, number), tf.pow(self._beta2, number)
        epsilon = self._epsilon * tf.sqrt(1 - beta2_power)
        powers = Powers(beta1_power, beta2_power, epsilon)
        for name, gradient in gradients.items():
            is_wide = gradient.dtype == self._rate.dtype
            update = self._update_in_one if is_wide else self._update_in_wide
            update(name, variables[name], gradient, powers)

    def _update_in_one(self, name: str, variable: Any, gradient: Any, powers: Powers) -> None:
        """By TensorFlow's own operation; it adds epsilon to a root that is not corrected yet.

        https://www.tensorflow.org/api_docs/python/tf/raw_ops/ResourceApplyAdam
        """
        if network.is_decayed(name):
            with tf.control_dependencies([gradient]):  # not before: what it makes takes memory
                variable.assign_sub(self._decay * variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self.moments[name].first.handle,
            v=self.moments[name].second.handle,
            beta1_power=powers.beta1,
            beta2_power=powers.beta2,
            lr=self._rate,
            beta1=self._beta1,
            beta2=self._beta2,
            epsilon=powers.scaled_epsilon,
            grad=gradient,
        )

    def _update_in_wide(self, name: str, variable: Any, gradient: Any, powers: Powers) -> None:
        """The same from single operations, for weights that would round away each of them.

        Not before the gradient is there: what they make of the state takes memory.
        """
        with tf.control_dependencies([gradient]):
            self._update_from_operations(name, variable, gradient, powers)

    def _update_from_operations(
        self, name: str, variable: Any, gradient: Any, powers: Powers
    ) -> None:
        dtype, wide = variable.dtype, self._rate.dtype
        moments, gradient = self.moments[name], tf.cast(gradient, wide)
        first = self._beta1 * tf.cast(moments.first, wide) + (1 - self._beta1) * gradient
        second = self._beta2 * tf.cast(moments.second, wide)
        second += (1 - self._beta2) * tf.square(gradient)
        root = tf.sqrt(second / (1 - powers.beta2))
        step = self._rate * (first / (1 - powers.beta1)) / (root + self._epsilon)
        weight = tf.cast(variable, wide)
        if network.is_decayed(name):
            step += self._decay * weight
        variable.assign(tf.cast(weight - step, dtype))
        moments.first.assign(tf.cast(first, dtype))
        moments.second.assign(tf.cast(second, dtype))


class DecoderTraining:
    """The decoder, its optimizer, device-resident batches and the function of one step."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        self._framework = framework
        self._decoder = Decoder(problem)
        self._optimizer = AdamW(problem.hyperparameters, self._decoder.numerics.wide, framework)
        self._train_step = _executed(self._train_step_in_python, problem.case.way.execution)
        self._batches: list[tuple[Any, Any]] = []
        self._num_steps = 0
        self._loss: Any = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights; reset the optimizer's state."""
        for name, held in self._decoder.canonical():
            parts = [weights[one] for one in held]
            whole = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
            self._decoder.assign(name, self._framework.put(whole))
        self._optimizer.reset(self._trained())

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Put these batches on the device; the next step uses the first, and steps rotate.

        They become int64: TensorFlow keeps eager int32 tensors in host memory, from where a GPU
        would fetch them in each step.
        """
        put = self._framework.put
        self._batches = [
            (put(one["tokens"].astype(np.int64)), put(one["labels"].astype(np.int64)))
            for one in batches
        ]
        self._num_steps = 0

    def step(self) -> Any:
        """Enqueue one training step on the next batch; its loss."""
        tokens_BT, labels_BT = self._batches[self._num_steps % len(self._batches)]
        self._num_steps += 1
        self._loss = self._train_step(tokens_BT, labels_BT)
        return self._loss

    def read(self) -> Reading:
        """The last loss, weights and moments, fetched one by one."""
        fetch: dict[str, Callable[[], np.ndarray]] = {
            "loss": partial(self._framework.get, self._loss)
        }
        for name, held in self._decoder.canonical():
            for group, variable in self._groups(name):
                for index, canonical_name in enumerate(held):
                    part = partial(self._get_part, variable, index, num_parts=len(held))
                    fetch[f"{group}/{canonical_name}"] = part
        return Reading(fetch)

    def inspect(self) -> Effective:
        """What the step's tensors are, from graphs of it, which every execution runs.

        FLOP are counted without recomputation.
        """
        recomputes, self._decoder.recomputes = self._decoder.recomputes, False
        step = _traced(self._gradients).get_concrete_function(*self._batches[0])
        hidden = _traced(self._decoder.hidden).get_concrete_function(self._batches[0][0])
        self._decoder.recomputes = recomputes
        name, variable = next(iter(self._trained().items()))
        return Effective(
            parameters=variable.dtype.name,
            gradients=step.structured_outputs[1][name].dtype.name,
            optimizer=self._optimizer.moments[name].first.dtype.name,
            activations=hidden.structured_outputs.dtype.name,
            flop_per_step=count_flop(step.graph),
            attention="matmul, softmax, matmul",
        )

    def _trained(self) -> dict[str, Any]:
        return {name: one for name, one in self._decoder.variables.items() if one.trainable}

    def _groups(self, name: str) -> Iterator[tuple[str, Any]]:
        """What is held of a weight: what `read` calls it, and the variable."""
        variable = self._decoder.variables[name]
        if not variable.trainable:
            yield "frozen", variable
            return
        yield "weights", variable
        yield from zip(("optimizer", "second_moment"), self._optimizer.moments[name])

    def _get_part(self, variable: Any, index: int, *, num_parts: int) -> np.ndarray:
        """One of the parts that lie side by side in a variable, all as wide."""
        width = variable.shape[-1] // num_parts
        part = variable[..., index * width : (index + 1) * width] if num_parts > 1 else variable
        return self._framework.get(part)

    def _train_step_in_python(self, tokens_BT: Any, labels_BT: Any) -> Any:
        """The loss; the trained weights and the optimizer's state move on with it."""
        loss, gradients = self._gradients(tokens_BT, labels_BT)
        self._optimizer.apply(self._decoder.variables, gradients)
        return loss

    def _gradients(self, tokens_BT: Any, labels_BT: Any) -> tuple[Any, dict[str, Any]]:
        """The loss, and its dense gradient by each trained weight."""
        with tf.GradientTape() as tape:
            loss = self._decoder.loss(tokens_BT, labels_BT)
        gradients = tape.gradient(loss, self._trained())
        return loss, {name: tf.convert_to_tensor(one) for name, one in gradients.items()}


def _traced(function: Callable[..., Any], *, jit_compile: bool = False) -> Any:
    return tf.function(function, autograph=False, jit_compile=jit_compile)


def _executed(function: Callable[..., Any], execution: str) -> Callable[..., Any]:
    """The function, run as the execution asks."""
    if execution == "eager":
        return function
    traced: Callable[..., Any] = _traced(function, jit_compile=execution == "compiled")
    return traced
