"""The decoder's inference in PyTorch, in its fastest idiom: prefill, and decode with a cache.

Tuned: projections of one input are one matmul, the residual is added within the matmul, and
attention is torch's own kernel. `eager` attends to the filled part of the cache; `compiled` is one
graph for all positions, which masks the rest, and which CUDA replays as a whole.

Shapes: B batch, P positions of the prompt, T positions of a pass, S positions of the cache, R rows:
B * T, D width, H heads, K head dimension, F width of the MLP, V vocabulary, I inputs and O outputs
of a projection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch._inductor.config
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contract.framework import Framework
from benchmarks.contract.program import Arrays, Effective, Problem, RequestProgram
from benchmarks.frameworks.pytorch.adapter import TORCH_DEVICES, dtype_name
from workloads.transformer import inference_spec as spec
from workloads.transformer import network
from workloads.transformer.pytorch.network import cast, normalised, numerics_of, rotary_angles

IMPLEMENTS = {"transformer_infer"}


def build(problem: Problem, framework: Framework) -> DecoderInference:
    """Build the program of this case; it has no weights and no requests yet."""
    return DecoderInference(problem, framework)


class Layer(NamedTuple):
    """The weights of a layer, and its cache."""

    attention_scale_D: torch.Tensor
    query_key_value_IO: torch.Tensor
    output_IO: torch.Tensor
    mlp_scale_D: torch.Tensor
    gate_up_IO: torch.Tensor
    down_IO: torch.Tensor
    keys_BHSK: torch.Tensor
    values_BHSK: torch.Tensor


class Window(NamedTuple):
    """The positions of a pass's tokens, and the slots of the cache that they attend to."""

    own: slice | torch.Tensor
    """The tokens' positions."""
    seen: slice
    cos_TK: torch.Tensor
    sin_TK: torch.Tensor
    is_causal: bool = False
    sees_1S: torch.Tensor | None = None
    """A mask of the slots that they see; None if they see all."""


class Decoder:
    """Weights, caches and last tokens on a device, and the functions that use them."""

    def __init__(self, problem: Problem, device: str) -> None:
        work, parameters = problem.case.work, problem.parameters
        constants, place = problem.hyperparameters, problem.case.place
        self.numerics = numerics_of(precision=problem.case.way.precision, device=place.device)
        self._is_turned = place.device != "cpu" or self.numerics.operand == torch.bfloat16
        self._device = device
        self._epsilon = constants["rms_norm_epsilon"]
        self._num_heads = parameters["num_heads"]
        length = spec.cache_length(work)
        self.dimension = parameters["width"] // self._num_heads
        cache_shape = (work.batch_size, self._num_heads, length, self.dimension)
        self.table_VD = self._empty(parameters["vocabulary_size"], parameters["width"])
        self.layers = [
            self._layer(parameters, index, cache_shape) for index in range(parameters["num_layers"])
        ]
        self.final_scale_D = self._scale(parameters["width"])
        self.head_IO = self._kernel(network.head(parameters))
        self._cos_SK, self._sin_SK = self._rotation(length, constants["rotary_base"])
        self._slots_S = torch.arange(length, device=device)
        self.tokens_B = torch.zeros(work.batch_size, dtype=torch.int64, device=device)
        """The last output tokens, which decode reads and replaces."""

    def prefill(self, tokens_BP: torch.Tensor) -> torch.Tensor:
        """The logits after the prompt, BV; its keys and values are then in the cache."""
        return self._answer(tokens_BP, self.prompt_window(tokens_BP.shape[1]))

    def decode(self, position: int) -> torch.Tensor:
        """The logits after the last tokens, which are at this position, BV."""
        window = self._window(slice(position, position + 1), seen=slice(position + 1))
        return self._answer(self.tokens_B, window)

    def decode_masked(self, position_1: torch.Tensor) -> torch.Tensor:
        """The same with the position on the device and the whole cache: one graph for all."""
        window = self._window(position_1, seen=slice(None))
        sees_1S = (self._slots_S <= position_1)[None]
        return self._answer(self.tokens_B, window._replace(sees_1S=sees_1S))

    def prompt_window(self, length: int) -> Window:
        """The first positions, each of which attends to itself and those before it."""
        return self._window(slice(length), seen=slice(length))._replace(is_causal=True)

    def _window(self, own: slice | torch.Tensor, *, seen: slice) -> Window:
        return Window(own, seen, self._cos_SK[own], self._sin_SK[own])

    def pass_layer(self, layer: Layer, x_RD: torch.Tensor, window: Window) -> torch.Tensor:
        """The layer's output, RD."""
        y_RD = self._normalised(x_RD, layer.attention_scale_D)
        mixed_RD = self._attention(layer, self._product(y_RD, layer.query_key_value_IO), window)
        x_RD = self._added(x_RD, mixed_RD, layer.output_IO)
        y_RD = self._normalised(x_RD, layer.mlp_scale_D)
        gate_RF, up_RF = self._product(y_RD, layer.gate_up_IO).chunk(2, dim=-1)
        return self._added(x_RD, F.silu(gate_RF) * up_RF, layer.down_IO)  # Shazeer (2020), SwiGLU

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """The tokens' rows of the table, RD."""
        return cast(F.embedding(tokens.flatten(), self.table_VD), self.numerics.compute)

    def tensors(self) -> Iterator[torch.Tensor]:
        """Every tensor whose address does not change."""
        for layer in self.layers:
            yield from layer
        yield from (value for value in vars(self).values() if isinstance(value, torch.Tensor))

    def _answer(self, tokens: torch.Tensor, window: Window) -> torch.Tensor:
        """The logits after each sequence's last token, BV; their argmax becomes the last tokens."""
        x_RD = self.embed(tokens)
        for layer in self.layers:
            x_RD = self.pass_layer(layer, x_RD, window)
        x_BD = x_RD.unflatten(0, (len(self.tokens_B), -1))[:, -1]
        y_BD = self._normalised(x_BD, self.final_scale_D)
        logits_BV = cast(self._product(y_BD, self.head_IO), self.numerics.wide)
        self.tokens_B.copy_(logits_BV.argmax(-1))
        return logits_BV

    def _attention(self, layer: Layer, parts_RO: torch.Tensor, window: Window) -> torch.Tensor:
        """The heads' attention from query, key and value side by side, RD."""
        shape = (len(self.tokens_B), -1, 3, self._num_heads, self.dimension)
        parts_3BHTK = parts_RO.view(shape).permute(2, 0, 3, 1, 4)
        query_BHTK, key_BHTK = self._rotated(parts_3BHTK[:2], window).unbind()
        layer.keys_BHSK[:, :, window.own] = key_BHTK
        layer.values_BHSK[:, :, window.own] = cast(parts_3BHTK[2], self.numerics.operand)
        mixed_BHTK = F.scaled_dot_product_attention(
            query_BHTK,
            layer.keys_BHSK[:, :, window.seen],
            layer.values_BHSK[:, :, window.seen],
            attn_mask=window.sees_1S,
            is_causal=window.is_causal,
        )
        mixed_BTHK = cast(mixed_BHTK, self.numerics.compute).transpose(1, 2)
        return mixed_BTHK.reshape(len(parts_RO), -1)

    def _rotated(self, x_2BHTK: torch.Tensor, window: Window) -> torch.Tensor:
        """RoPE on pairs of the head's halves, Su et al. (2021), section 3.4.2."""
        x = cast(x_2BHTK, self.numerics.wide)
        swapped = x.roll(self.dimension // 2, -1)
        turned = torch.addcmul(x * window.cos_TK, swapped, window.sin_TK)
        return cast(cast(turned, self.numerics.compute), self.numerics.operand)

    def _normalised(self, x_RD: torch.Tensor, scale_D: torch.Tensor) -> torch.Tensor:
        return normalised(x_RD, scale_D, epsilon=self._epsilon, numerics=self.numerics)

    def _product(self, x_RI: torch.Tensor, kernel_IO: torch.Tensor) -> torch.Tensor:
        return cast(cast(x_RI, self.numerics.operand) @ kernel_IO, self.numerics.compute)

    def _added(
        self, x_RO: torch.Tensor, y_RI: torch.Tensor, kernel_IO: torch.Tensor
    ) -> torch.Tensor:
        """The residual plus the matmul, rounded once."""
        operand = self.numerics.operand
        summed_RO = torch.addmm(cast(x_RO, operand), cast(y_RI, operand), kernel_IO)
        return cast(summed_RO, self.numerics.compute)

    def _layer(
        self, parameters: Mapping[str, int], index: int, cache_shape: Sequence[int]
    ) -> Layer:
        parts = network.layer_projections(parameters, index)
        return Layer(
            attention_scale_D=self._scale(parameters["width"]),
            query_key_value_IO=self._kernel(*parts.query_key_value),
            output_IO=self._kernel(*parts.output),
            mlp_scale_D=self._scale(parameters["width"]),
            gate_up_IO=self._kernel(*parts.gate_up),
            down_IO=self._kernel(*parts.down),
            keys_BHSK=self._empty(*cache_shape).zero_(),
            values_BHSK=self._empty(*cache_shape).zero_(),
        )

    def _kernel(self, *parts: network.Projection) -> torch.Tensor:
        """The kernels of one input as one array, IO, in the fastest memory layout.

        It is a parameter, because Inductor freezes parameters only.
        """
        shape = parts[0].num_inputs, sum(part.num_outputs for part in parts)
        kernel_IO = self._empty(*shape[::-1]).T if self._is_turned else self._empty(*shape)
        return torch.nn.Parameter(kernel_IO, requires_grad=False)

    def _scale(self, width: int) -> torch.Tensor:
        return torch.empty(width, dtype=self.numerics.wide, device=self._device)

    def _empty(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=self.numerics.operand, device=self._device)

    def _rotation(self, length: int, base: float) -> Iterator[torch.Tensor]:
        """Cosines and signed sines for whole heads, SK."""
        angles = rotary_angles(length, dimension=self.dimension, base=base)
        cos, sin = np.cos(angles), np.sin(angles)
        for halves in ((cos, cos), (-sin, sin)):
            table = np.concatenate(halves, -1)
            yield torch.tensor(table, dtype=self.numerics.wide, device=self._device)


def held_arrays(decoder: Decoder, parameters: Mapping[str, int]) -> Iterator[tuple[str, Any]]:
    """Every canonical name, with the tensor to which that array is copied."""
    yield "embedding/table", decoder.table_VD
    yield "final_norm/scale", decoder.final_scale_D
    yield "head/kernel", decoder.head_IO
    for index, layer in enumerate(decoder.layers):
        yield f"layer{index}/attention_norm/scale", layer.attention_scale_D
        yield f"layer{index}/mlp_norm/scale", layer.mlp_scale_D
        kernels = layer.query_key_value_IO, layer.output_IO, layer.gate_up_IO, layer.down_IO
        for parts, kernel_IO in zip(network.layer_projections(parameters, index), kernels):
            columns = kernel_IO.split([part.num_outputs for part in parts], dim=1)
            yield from zip((f"{part.name}/kernel" for part in parts), columns)


class DecoderInference(RequestProgram):
    """Runs requests of device-resident prompts through the decoder; see `RequestProgram`."""

    def __init__(self, problem: Problem, framework: Framework) -> None:
        case = problem.case
        device = TORCH_DEVICES[case.place.device]
        self._framework = framework
        self._problem = problem
        self._is_decode = spec.is_decode(case.work)
        self._per_batch = spec.per_batch(case.work)
        self._decoder = Decoder(problem, device)
        first = spec.prompt_length(case.work)
        self._positions: list[Any] = list(range(first, first + self._per_batch))
        self._prefill, self._decode = self._decoder.prefill, self._decoder.decode
        if case.way.execution == "compiled":
            self._compile(device)
        self._batches: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        self._next = 0
        self._logits: torch.Tensor | None = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights."""
        for name, tensor in held_arrays(self._decoder, self._problem.parameters):
            tensor.copy_(self._framework.put(weights[name]))

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these prompts to the device, and the forced tokens of each request."""
        put = self._framework.put
        self._batches = [
            (put(batch["tokens"]), put(batch["forced"].T) if "forced" in batch else None)
            for batch in batches
        ]
        self._next = 0

    @torch.inference_mode()
    def prepare(self) -> Any:
        """Run the prompt if a sequence begins, and set the next input token if it is forced."""
        if not self._is_decode:
            return None
        index, request = divmod(self._next, self._per_batch)
        tokens_BP, forced_NB = self._batches[index]
        if request == 0:
            self._prefill(tokens_BP)
        if forced_NB is not None:
            self._decoder.tokens_B.copy_(forced_NB[request])
        return self._decoder.tokens_B

    @torch.inference_mode()
    def step(self) -> torch.Tensor:
        """Enqueue the next request and return its output tokens, still on the device."""
        index, request = divmod(self._next, self._per_batch)
        self._next = (self._next + 1) % (len(self._batches) * self._per_batch)
        if self._is_decode:
            self._logits = self._decode(self._positions[request])
        else:
            self._logits = self._prefill(self._batches[index][0])
        return self._decoder.tokens_B

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        assert self._logits is not None, "read before the first request"
        return {"logits": self._framework.get(self._logits)}

    def inspect(self) -> Effective:
        """Dtypes, attention and FLOP, from a copy without values; torch counts the FLOP of matmuls.

        Decode counts as if at the last position, where it attends to the whole cache. Attention
        counts as matmuls.
        """
        work, twin = self._problem.case.work, Decoder(self._problem, "meta")
        tokens_BP = torch.empty(work.batch_size, spec.prompt_length(work), device="meta").int()
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            if self._is_decode:
                twin.decode(spec.cache_length(work) - 1)
            else:
                twin.prefill(tokens_BP)
        window = twin.prompt_window(tokens_BP.shape[1])
        hidden_RD = twin.pass_layer(twin.layers[0], twin.embed(tokens_BP), window)
        return Effective(
            parameters=dtype_name(self._decoder.head_IO.dtype),
            activations=dtype_name(hidden_RD.dtype),
            flop_per_step=counter.get_total_flops(),
            attention=self._attention_kernel(),
        )

    def _attention_kernel(self) -> str:
        """The kernel that torch chooses for the attention of this case."""
        keys_BHSK = self._decoder.layers[0].keys_BHSK
        operands = (keys_BHSK[:, :, :1], keys_BHSK, keys_BHSK)
        if not self._is_decode:
            prompt = keys_BHSK[:, :, : spec.prompt_length(self._problem.case.work)]
            chosen = torch._fused_sdp_choice(prompt, prompt, prompt, is_causal=True)
        elif self._problem.case.way.execution == "compiled":
            mask = torch.ones(1, keys_BHSK.shape[2], dtype=torch.bool, device=keys_BHSK.device)
            chosen = torch._fused_sdp_choice(*operands, attn_mask=mask)
        else:
            chosen = torch._fused_sdp_choice(*operands)
        return f"sdpa {SDPBackend(chosen).name.lower()}"

    def _compile(self, device: str) -> None:
        """Compile the timed function.

        CUDA replays it as one graph. Its weights, cache and last tokens keep their addresses, since
        otherwise they would be copied to those of the recording. On a CPU the kernels are constants
        of prefill, packed once: this saves an eighth of its time at size slice, and none of decode.
        """
        torch._inductor.config.freezing = device == "cpu" and not self._is_decode
        if device == "cuda":
            for tensor in self._decoder.tensors():
                torch._dynamo.mark_static_address(tensor)
        compiled = partial(
            torch.compile,
            fullgraph=True,
            dynamic=False,
            mode="reduce-overhead" if device == "cuda" else None,
        )
        if self._is_decode:
            self._decode = compiled(self._decoder.decode_masked)
            self._positions = [torch.tensor([one], device=device) for one in self._positions]
        else:
            self._prefill = compiled(self._decoder.prefill)
