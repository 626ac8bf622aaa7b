"""Trains a line with a penalty by Keras, and prints what each step left behind as JSON.

Run as `python -m tests.unit.frameworks.keras_training FRAMEWORK SETTINGS_JSON`, in the framework's
environment: a process has one Keras backend.
"""

from __future__ import annotations

import importlib
import json
import sys

import numpy as np

from benchmarks.contract.framework import Settings

NUM_SAMPLES, NUM_STEPS = 8, 3
PENALTY, LEARNING_RATE = 0.5, 0.1


def inputs() -> np.ndarray:
    """The samples, one feature each."""
    return np.linspace(-1, 1, NUM_SAMPLES, dtype=np.float32)[:, None]


def targets() -> np.ndarray:
    """What the line is to be."""
    return 2 * inputs()


def main(framework_name: str, settings: Settings) -> None:
    module = f"benchmarks.frameworks.{framework_name}.adapter"
    framework = importlib.import_module(module).Adapter()
    framework.configure(settings)
    import keras

    from benchmarks.frameworks.keras.adapter import TrainedModel

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
        "examined": training.examine(*batch)._asdict(),
        "described": framework.describe(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], Settings(**json.loads(sys.argv[2])))
