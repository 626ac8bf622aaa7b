"""ResNet-50 training in TensorFlow as a competent user writes it, without tuning.

The tuned implementation and the harness are measured against it. `tf.nn` operations with explicit
padding, batch normalisation from `tf.nn.moments`, updates by `assign`, one `tf.function`.
"""

from __future__ import annotations

import itertools

import tensorflow as tf

from benchmarks.contract.program import Effective
from workloads.resnet50 import network as resnet50

IMPLEMENTS = {"resnet50_train"}

COMPUTE_DTYPES = {"bf16": tf.bfloat16, "fp16": tf.float16, "fp64": tf.float64}


def build(problem, framework):
    return PlainTraining(problem, framework)


class PlainTraining:
    """The training loop's body, and the harness's protocol around it."""

    def __init__(self, problem, framework):
        precision, execution = problem.case.way.precision, problem.case.way.execution
        self.framework = framework
        self.hyperparameters = problem.hyperparameters
        self.layers = resnet50.network(problem.parameters)
        self.compute_dtype = COMPUTE_DTYPES.get(precision, tf.float32)
        self.dtype = tf.float64 if precision == "fp64" else tf.float32
        self.loss_scale = 128.0 if precision == "fp16" else 1.0
        self.variables = {}
        self.momenta = {}
        self.run = self.train_step
        if execution != "eager":
            self.run = tf.function(self.train_step, jit_compile=execution == "compiled")

    def load(self, weights):
        for name, array in weights.items():
            value = tf.cast(self.framework.put(array), self.dtype)
            if name not in self.variables:
                trainable = not resnet50.is_statistic(name)
                self.variables[name] = tf.Variable(value, trainable=trainable)
                if trainable:
                    self.momenta[name] = tf.Variable(tf.zeros_like(value), trainable=False)
            self.variables[name].assign(value)
            if name in self.momenta:
                self.momenta[name].assign(tf.zeros_like(value))

    def feed(self, batches):
        put = self.framework.put
        self.batches = itertools.cycle(
            [(put(batch["images"]), put(batch["labels"])) for batch in batches]
        )

    def step(self):
        images, labels = next(self.batches)
        self.loss = self.run(images, labels)
        return self.loss

    def read(self):
        get = self.framework.get
        arrays = {"loss": get(self.loss)}
        for name, variable in self.variables.items():
            group = "statistics" if resnet50.is_statistic(name) else "weights"
            arrays[f"{group}/{name}"] = get(variable)
        for name, variable in self.momenta.items():
            arrays[f"optimizer/{name}"] = get(variable)
        return arrays

    def inspect(self):
        return Effective(
            parameters=self.variables["head/kernel"].dtype.name,
            gradients=self.variables["head/kernel"].dtype.name,
            optimizer=self.momenta["head/kernel"].dtype.name,
            activations=self.compute_dtype.name,
            layout="NHWC",
            flop_per_step=None,
        )

    def train_step(self, images, labels):
        with tf.GradientTape() as tape:
            logits = self.forward(images)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            loss = tf.reduce_mean(losses)
            scaled_loss = loss * self.loss_scale
        weights = {name: self.variables[name] for name in self.momenta}
        gradients = tape.gradient(scaled_loss, weights)
        for name, weight in weights.items():
            gradient = gradients[name] / self.loss_scale
            if resnet50.is_decayed(name):
                gradient += self.hyperparameters["weight_decay"] * weight
            momentum = self.momenta[name]
            momentum.assign(self.hyperparameters["momentum"] * momentum + gradient)
            weight.assign_sub(self.hyperparameters["learning_rate"] * momentum)
        return loss

    def forward(self, images):
        x = tf.cast(images, self.compute_dtype)
        x = tf.nn.relu(self.conv_bn(self.layers.stem, x))
        x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        x = tf.nn.max_pool2d(x, ksize=3, strides=2, padding="VALID")
        for block in self.layers.blocks:
            one, two, three = block.convolutions
            y = tf.nn.relu(self.conv_bn(one, x))
            y = tf.nn.relu(self.conv_bn(two, y))
            y = self.conv_bn(three, y)
            shortcut = x if block.projection is None else self.conv_bn(block.projection, x)
            x = tf.nn.relu(y + shortcut)
        x = tf.reduce_mean(x, axis=[1, 2])
        x = x @ tf.cast(self.variables["head/kernel"], self.compute_dtype)
        return tf.cast(x, self.dtype) + self.variables["head/bias"]

    def conv_bn(self, conv, x):
        kernel = tf.cast(self.variables[f"{conv.name}/kernel"], self.compute_dtype)
        margin = (conv.kernel_size - 1) // 2
        padding = [[0, 0], [margin, margin], [margin, margin], [0, 0]]
        return self.batch_norm(conv.name, tf.nn.conv2d(x, kernel, conv.stride, padding))

    def batch_norm(self, name, x):
        x = tf.cast(x, self.dtype)
        mean, variance = tf.nn.moments(x, axes=[0, 1, 2])
        num_samples = x.shape[0] * x.shape[1] * x.shape[2]
        self.update_average(f"{name}/bn/mean", mean)
        self.update_average(f"{name}/bn/variance", variance * (num_samples / (num_samples - 1)))
        x = tf.nn.batch_normalization(
            x,
            mean,
            variance,
            offset=self.variables[f"{name}/bn/bias"],
            scale=self.variables[f"{name}/bn/scale"],
            variance_epsilon=self.hyperparameters["batch_norm_epsilon"],
        )
        return tf.cast(x, self.compute_dtype)

    def update_average(self, name, value):
        share = self.hyperparameters["batch_norm_momentum"]
        average = self.variables[name]
        average.assign((1 - share) * average + share * value)
