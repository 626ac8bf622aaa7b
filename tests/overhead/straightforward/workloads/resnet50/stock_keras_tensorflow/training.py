"""`keras.applications.ResNet50` under a `tf.function` with a GradientTape, as Keras's guide has it.

A peer that nobody here wrote, for `tests/overhead/stock_peers.py`. Its mathematics differs, so that
nothing proves it and `dyno run` does not compare it: the weights are its own random ones, its
convolutions have biases, nothing decays, and it is v1, with the stride of a block in the first 1x1
convolution: 5.5 % fewer FLOP. https://keras.io/guides/writing_a_custom_training_loop_in_tensorflow/
"""

from __future__ import annotations

import itertools

import keras
import tensorflow as tf

from benchmarks.contract.program import Effective

IMPLEMENTS = {"resnet50_train"}
DIFFERS = {"resnet50_train": "v1, 5.5 % fewer FLOP; biases of convolutions; no weight decay"}


def build(problem, framework):
    return StockTraining(problem, framework)


class StockTraining:
    """The loop of Keras's guide, and the harness's protocol around it."""

    def __init__(self, problem, framework):
        size = problem.parameters["image_size"]
        self.framework = framework
        self.model = keras.applications.ResNet50(
            weights=None,
            input_shape=(size, size, 3),
            classes=problem.parameters["num_classes"],
            classifier_activation=None,
        )
        constants = problem.hyperparameters
        self.optimizer = keras.optimizers.SGD(
            constants["learning_rate"], momentum=constants["momentum"]
        )
        self.optimizer.build(self.model.trainable_variables)
        self.loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.run = self.train_step
        if problem.case.way.execution != "eager":
            is_compiled = problem.case.way.execution == "compiled"
            self.run = tf.function(self.train_step, jit_compile=is_compiled)

    def load(self, weights):
        del weights  # of another network

    def feed(self, batches):
        put = self.framework.put
        self.batches = itertools.cycle(
            [(put(batch["images"]), put(batch["labels"])) for batch in batches]
        )

    def step(self):
        self.loss = self.run(*next(self.batches))
        return self.loss

    def read(self):
        return {"loss": self.framework.get(self.loss)}

    def inspect(self):
        return Effective(parameters="float32", activations="float32", flop_per_step=None)

    def train_step(self, images, labels):
        with tf.GradientTape() as tape:
            loss = self.loss_of(labels, self.model(images, training=True))
        gradients = tape.gradient(loss, self.model.trainable_weights)
        self.optimizer.apply(gradients, self.model.trainable_weights)
        return loss
