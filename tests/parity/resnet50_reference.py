"""ResNet-50's training step in plain float64 PyTorch: what the oracle itself is tested with.

It follows the mathematics of workloads/resnet50 and nothing else: it shares no code with the
implementations, spells out batch normalisation and the optimizer, and is written to be read.
Run as `python -m tests.parity.resnet50_reference FOLDER` it saves its results there.

Shapes: B batch, H height, W width, C channels in, D channels out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.contract.case import Work
from workloads.resnet50 import training_spec as spec

Tensors = dict[str, torch.Tensor]

WORK = Work("resnet50_train", 1, "tiny", 8)
NUM_FOLLOWED_STEPS = 10


def reference_steps(
    work: Work,
    weights: Mapping[str, np.ndarray],
    batches: Sequence[Mapping[str, np.ndarray]],
    learning_rate: float,
) -> dict[str, np.ndarray]:
    """What `Program.read` must return after one step on each of these batches, in float64.

    Keys: `loss` of the last step, `losses` of each, `weights/<name>`, `optimizer/<name>` (momentum
    buffer) and `statistics/<name>`, in canonical names and layout.
    """
    values = {name: torch.tensor(np.asarray(array, np.float64)) for name, array in weights.items()}
    statistics = {name: value for name, value in values.items() if spec.is_statistic(name)}
    parameters = {name: value for name, value in values.items() if name not in statistics}
    momenta = {name: torch.zeros_like(value) for name, value in parameters.items()}
    layers = spec.network(spec.SIZES[work.size])
    losses = []
    for batch in batches:
        for value in parameters.values():
            value.requires_grad_(True)
        loss = _loss(layers, parameters, statistics, batch)
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        with torch.no_grad():
            for name, gradient in zip(parameters, gradients, strict=True):
                _update(name, parameters, momenta, gradient, learning_rate)
        losses.append(loss.item())
    return {
        "loss": np.array(losses[-1]),
        "losses": np.array(losses),
        **{f"weights/{name}": value.detach().numpy() for name, value in parameters.items()},
        **{f"optimizer/{name}": value.numpy() for name, value in momenta.items()},
        **{f"statistics/{name}": value.numpy() for name, value in statistics.items()},
    }


def _update(
    name: str,
    parameters: Tensors,
    momenta: Tensors,
    gradient: torch.Tensor,
    learning_rate: float,
) -> None:
    """SGD with momentum: v = m v + (g + decay w), w = w - rate v."""
    constants = spec.HYPERPARAMETERS
    weight = parameters[name].detach()
    if spec.is_decayed(name):
        gradient = gradient + constants["weight_decay"] * weight
    momenta[name] = constants["momentum"] * momenta[name] + gradient
    parameters[name] = weight - learning_rate * momenta[name]


def _loss(
    layers: spec.Network,
    parameters: Tensors,
    statistics: Tensors,
    batch: Mapping[str, np.ndarray],
) -> torch.Tensor:
    """Mean cross-entropy of the batch; advances the running statistics."""
    images_BHWC = torch.tensor(np.asarray(batch["images"], np.float64))
    labels_B = torch.tensor(np.asarray(batch["labels"], np.int64))

    def normalised(conv: spec.Convolution, x_BCHW: torch.Tensor) -> torch.Tensor:
        return _normalise(conv.name, _convolve(conv, parameters, x_BCHW), parameters, statistics)

    x_BCHW = normalised(layers.stem, images_BHWC.permute(0, 3, 1, 2)).relu()
    x_BCHW = F.max_pool2d(x_BCHW, kernel_size=3, stride=2, padding=1)
    for block in layers.blocks:
        first, second, third = block.convolutions
        y_BCHW = normalised(first, x_BCHW).relu()
        y_BCHW = normalised(second, y_BCHW).relu()
        y_BCHW = normalised(third, y_BCHW)
        shortcut = x_BCHW if block.projection is None else normalised(block.projection, x_BCHW)
        x_BCHW = (y_BCHW + shortcut).relu()
    logits_BD = x_BCHW.mean(dim=(2, 3)) @ parameters["head/kernel"] + parameters["head/bias"]
    log_probabilities_BD = logits_BD - logits_BD.logsumexp(dim=1, keepdim=True)
    return -log_probabilities_BD[torch.arange(len(labels_B)), labels_B].mean()


def _convolve(conv: spec.Convolution, parameters: Tensors, x_BCHW: torch.Tensor) -> torch.Tensor:
    kernel_DCHW = parameters[f"{conv.name}/kernel"].permute(3, 2, 0, 1)
    return F.conv2d(x_BCHW, kernel_DCHW, stride=conv.stride, padding=(conv.kernel_size - 1) // 2)


def _normalise(
    name: str, x_BDHW: torch.Tensor, parameters: Tensors, statistics: Tensors
) -> torch.Tensor:
    """Batch normalisation, Ioffe and Szegedy (2015), algorithm 1; running variance unbiased."""
    constants = spec.HYPERPARAMETERS
    mean_D = x_BDHW.mean(dim=(0, 2, 3))
    variance_D = (x_BDHW - mean_D[:, None, None]).square().mean(dim=(0, 2, 3))
    num_samples = x_BDHW.numel() // x_BDHW.shape[1]
    unbiased_D = variance_D * (num_samples / (num_samples - 1))
    share = constants["batch_norm_momentum"]
    for key, new in ((f"{name}/bn/mean", mean_D), (f"{name}/bn/variance", unbiased_D)):
        statistics[key] = (1 - share) * statistics[key] + share * new.detach()
    inverse_D = (variance_D + constants["batch_norm_epsilon"]).rsqrt()
    scale_D, bias_D = parameters[f"{name}/bn/scale"], parameters[f"{name}/bn/bias"]
    centred_BDHW = x_BDHW - mean_D[:, None, None]
    return centred_BDHW * (inverse_D * scale_D)[:, None, None] + bias_D[:, None, None]


def main(folder: Path) -> None:
    """Save a first step, the loss of one on another batch, and ten steps at the small rate."""
    weights = dict(spec.weights(WORK))
    batches = [spec.batch(WORK, index) for index in range(8)]
    usual, small = (values["learning_rate"] for values in (spec.HYPERPARAMETERS, spec.TRAJECTORY))
    step = reference_steps(WORK, weights, batches[:1], usual)
    other = reference_steps(WORK, weights, batches[1:2], usual)
    rotated = [batches[index % len(batches)] for index in range(NUM_FOLLOWED_STEPS)]
    followed = reference_steps(WORK, weights, rotated, small)
    numbers = {"other_loss": float(other["loss"]), "losses": followed.pop("losses").tolist()}
    step.pop("losses")
    np.savez(folder / "step1.npz", **step)
    states = {n.split("/", 1)[1]: a for n, a in followed.items() if n.startswith("optimizer/")}
    np.savez(folder / "followed.npz", **states)
    (folder / "numbers.json").write_text(json.dumps(numbers), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
