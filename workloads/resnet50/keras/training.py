"""ResNet-50 training in Keras 3, for every backend: Keras's layers, optimizer and train step.

Keras's own layouts are the canonical ones: nothing is transposed. The tuned recipe computes some
convolutions as matmuls.

Shapes: B batch, H height, W width, C channels, D channels out. Images are BHWC.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from benchmarks.contract.case import TUNED as RECIPE_TUNED
from benchmarks.contract.program import Arrays, Effective, Problem
from benchmarks.frameworks.keras.framework import KerasFramework
from benchmarks.frameworks.keras.model import TrainedModel, image_layout
from workloads.resnet50 import network as resnet50
from workloads.resnet50.keras.network import Recipe, canonical_variables, layer_name, model_of
from workloads.resnet50.keras.products import ProductConv2D

IMPLEMENTS = {"resnet50_train"}
TUNED = {"resnet50_train": "1x1 convolutions, and of small images, as matmuls"}
TUNED_ON = {"resnet50_train": {"cpu"}}

# A power of two scales exactly; 128 is what NVIDIA's ResNet-50 recipes use with fp16.
LOSS_SCALES = {"fp16": 128.0}


def build(problem: Problem, framework: KerasFramework) -> ResNet50Training:
    """Build the training program; it has no weights and no batches yet."""
    return ResNet50Training(problem, framework)


class ResNet50Training:
    """The model, its optimizer, the batches, and Keras's train step; see `Program`."""

    def __init__(self, problem: Problem, framework: KerasFramework) -> None:
        constants, work = problem.hyperparameters, problem.case.work
        self._framework = framework
        self._constants = constants
        self._batch_size = work.batch_size
        self._network = resnet50.network(problem.parameters)
        recipe = Recipe(
            epsilon=constants["batch_norm_epsilon"],
            share=constants["batch_norm_momentum"],
            image_format=keras.config.image_data_format(),
        )
        if problem.case.way.recipe == RECIPE_TUNED:
            product = partial(ProductConv2D, max_size=framework.product_size)
            recipe = dataclasses.replace(recipe, convolution=product)
        self._model = model_of(self._network, recipe, batch_size=work.batch_size, kind=TrainedModel)
        self._variables = canonical_variables(self._model, self._network)
        names = {id(variable): name for name, variable in self._variables.items()}
        is_decayed = [
            resnet50.is_decayed(names[id(variable)]) for variable in self._model.trainable_variables
        ]
        # NumPy's numbers, because TensorFlow treats a Python number as float32.
        rate, momentum = (np.float64(constants[name]) for name in ("learning_rate", "momentum"))
        self._optimizer = framework.sgd(
            decay=constants["weight_decay"],
            is_decayed=is_decayed,
            # A function keeps the rate constant: a number would become a variable, which torch's
            # update fetches from the device in each step.
            learning_rate=lambda: rate,
            momentum=momentum,
            loss_scale_factor=LOSS_SCALES.get(problem.case.way.precision),
        )
        self._training = framework.training(
            self._model,
            optimizer=self._optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        self._initial: dict[str, np.ndarray] = {}
        self._batches: list[tuple[Any, Any]] = []
        self._turns = itertools.cycle(self._batches)
        self._loss: Any = None

    def load(self, weights: Arrays) -> None:
        """Take canonical weights and statistics; reset the optimizer's state and the metrics."""
        self._training.sync()
        for name, variable in self._variables.items():
            array = weights[name].astype(variable.dtype)
            variable.assign(self._framework.put(array))
            if resnet50.is_statistic(name):
                self._initial[name] = array
        for variable in self._optimizer.variables:
            variable.assign(keras.ops.zeros(variable.shape, variable.dtype))
        self._model.reset_metrics()

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these batches to the device; the next step uses the first, then they take turns."""
        wide = keras.config.floatx()
        self._batches = [
            (
                self._framework.put(batch["images"].astype(wide)),
                self._framework.put(batch["labels"].astype(np.int64)),  # Keras's index type
            )
            for batch in batches
        ]
        self._turns = itertools.cycle(self._batches)

    def step(self) -> Any:
        """Enqueue one training step on the next batch and return its loss."""
        images_BHWC, labels_B = next(self._turns)
        self._loss = self._training.step(images_BHWC, labels_B)
        return self._loss

    def read(self) -> dict[str, np.ndarray]:
        """Copies of the last loss, the weights, the momentum buffers and the statistics."""
        self._training.sync()
        get, rate = self._framework.get, self._constants["learning_rate"]
        momenta = zip(self._model.trainable_variables, self._optimizer.momentums)
        momentum_of = {id(variable): momentum for variable, momentum in momenta}
        arrays = {"loss": get(self._loss)}
        for name, variable in self._variables.items():
            if resnet50.is_statistic(name):
                arrays[f"statistics/{name}"] = get(variable.value)
                continue
            arrays[f"weights/{name}"] = get(variable.value)
            # Keras's velocity includes the learning rate: it is added to the weights unchanged.
            arrays[f"optimizer/{name}"] = get(momentum_of[id(variable)].value) / -rate
        for conv in self._network.convolutions():
            name = f"statistics/{conv.name}/bn/variance"
            arrays[name] = self._unbiased(conv, arrays[name])
        return arrays

    def inspect(self) -> Effective:
        """Dtypes of variables and activations, layout and FLOP of the model."""
        images_BHWC, labels_B = self._batches[0]
        examined = self._training.examine(images_BHWC, labels_B)
        self._training.sync()
        middle = self._network.blocks[0].convolutions[2].name
        activations = keras.Model(
            self._model.inputs, self._model.get_layer(layer_name(middle, "out")).output
        )(images_BHWC)
        return Effective(
            parameters=self._variables["head/kernel"].dtype,
            gradients=examined.gradients,
            optimizer=self._optimizer.momentums[0].dtype,
            activations=keras.backend.standardize_dtype(activations.dtype),
            layout=image_layout(),
            flop_per_step=examined.flop_per_step,
        )

    def _unbiased(self, conv: resnet50.Convolution, variance_D: np.ndarray) -> np.ndarray:
        """The running variance as if it averaged the unbiased variances of the batches.

        Differs: Keras averages the biased variances, which lack the factor n / (n - 1). Because the
        average is linear, the steps' contribution to it is rescaled here, outside of the steps.
        """
        num_steps = int(self._framework.get(self._optimizer.iterations.value))
        num_samples = self._batch_size * conv.output_size**2
        kept = (1 - self._constants["batch_norm_momentum"]) ** num_steps
        remainder_D = self._initial[f"{conv.name}/bn/variance"] * kept
        return remainder_D + (variance_D - remainder_D) * (num_samples / (num_samples - 1))
