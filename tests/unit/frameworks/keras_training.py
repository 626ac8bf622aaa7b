"""Trains a line with a penalty and a table by Keras, and prints what that left behind as JSON.

Run as `python -m tests.unit.frameworks.keras_training FRAMEWORK SETTINGS_JSON`, in the framework's
environment: a process has one Keras backend.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import numpy as np

from benchmarks.contract.framework import Settings

NUM_SAMPLES, NUM_STEPS = 8, 3
PENALTY, LEARNING_RATE = 0.5, 0.1
NUM_ROWS = 3
ADAMW = {
    "learning_rate": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "epsilon": 0.25,  # so large that its place shows
    "weight_decay": 0.5,
}
HEADS = (1, 8, 2, 16)


def inputs() -> np.ndarray:
    """The samples, one feature each."""
    return np.linspace(-1, 1, NUM_SAMPLES, dtype=np.float32)[:, None]


def targets() -> np.ndarray:
    """What the line is to be."""
    return 2 * inputs()


def rows() -> np.ndarray:
    """The row of the table that each sample takes: all of them, some several times."""
    return np.arange(NUM_SAMPLES, dtype=np.int32) % NUM_ROWS


def train_by_adamw(framework: Any) -> dict[str, list[float]]:
    """A table whose rows are scaled by one factor, after some steps: values and moments."""
    import keras

    from benchmarks.frameworks.keras.model import TrainedModel

    chosen = keras.Input((), batch_size=NUM_SAMPLES, dtype="int32")
    table = keras.layers.Embedding(NUM_ROWS, 1, embeddings_initializer="ones")
    factor = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = TrainedModel(chosen, factor(table(chosen)))
    optimizer = framework.adamw(ADAMW, is_decayed=[True, False])
    training = framework.training(model, optimizer=optimizer, loss=keras.losses.MeanSquaredError())
    for _ in range(NUM_STEPS):
        loss = training.step(framework.put(rows()), framework.put(targets()))
    framework.wait(loss)
    training.sync()
    found = {
        "weights": model.trainable_variables,
        "moments": optimizer.moments,
        "second_moments": optimizer.second_moments,
    }
    return {
        name: np.concatenate([framework.get(one.value).ravel() for one in ones]).tolist()
        for name, ones in found.items()
    }


def main(framework_name: str, settings: Settings) -> None:
    module = f"benchmarks.frameworks.{framework_name}.adapter"
    framework = importlib.import_module(module).Adapter()
    framework.configure(settings)
    import keras

    from benchmarks.frameworks.keras.model import TrainedModel

    features = keras.Input((1,), batch_size=NUM_SAMPLES)
    layer = keras.layers.Dense(
        1,
        use_bias=False,
        kernel_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(PENALTY),
    )
    model = TrainedModel(features, layer(features))
    training = framework.training(
        model,
        optimizer=keras.optimizers.SGD(learning_rate=LEARNING_RATE),
        loss=keras.losses.MeanSquaredError(),
    )
    batch = framework.put(inputs()), framework.put(targets())

    def slope() -> float:
        training.sync()
        return float(framework.get(layer.kernel.value)[0, 0])

    losses, compilations = [], []
    for _ in range(NUM_STEPS):
        losses.append(training.step(*batch))
        compilations.append(framework.num_compilations())
    last_slope = slope()
    layer.kernel.assign(framework.put(np.ones((1, 1), np.float32)))
    losses.append(training.step(*batch))
    compilations.append(framework.num_compilations())
    framework.wait(losses)
    training.sync()
    result = {
        "losses": [float(framework.get(loss)) for loss in losses],
        "last_slope": last_slope,
        "placement": framework.placement(losses[0]),
        "compilations": compilations,
        "kernel": layer.kernel.dtype,
        "output": keras.backend.standardize_dtype(layer(batch[0]).dtype),
        "fused_attention": framework.fused_attention(HEADS, layer.compute_dtype),
        "adamw": train_by_adamw(framework),
        "examined": training.examine(*batch)._asdict(),
        "described": framework.describe(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], Settings(**json.loads(sys.argv[2])))
