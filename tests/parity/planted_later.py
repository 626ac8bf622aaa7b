"""Mistakes and cheats that begin after step 1, planted into the real implementations.

Each is a wrapper around the framework's own program. Imported in a worker.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

MODULES = {
    "resnet50_train": "workloads.resnet50.{}.training",
    "resnet50_infer": "workloads.resnet50.{}.inference",
    "transformer_finetune": "workloads.transformer.{}.training",
    "transformer_infer": "workloads.transformer.{}.inference",
}
HONEST = 15
"""Steps after a load before the faults called `later` begin."""
RATE, MOMENTUM, DECAY = 0.01, 0.9, 1e-4
"""SGD's constants in ResNet-50."""
NUM_BURNERS = 3
UNDO: list[Callable[[], Any]] = []
"""What brings the process back to its own state after a launch."""


def planted(workload: str, fault: str, framework: str) -> Callable[[Any, Any], Any]:
    """The `build` of the framework's implementation, with this fault in it."""
    implementation = importlib.import_module(MODULES[workload].format(framework))
    wrapper = FAULTS[fault]

    def build(problem: Any, adapter: Any) -> Any:
        return wrapper(implementation.build(problem, adapter), framework)

    return build


class Wrapped:
    """A program whose steps are counted since its last load."""

    def __init__(self, program: Any, framework: str) -> None:
        self.program = program
        self.framework = framework
        self.num_steps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.program, name)

    def load(self, weights: Any) -> None:
        self.program.load(weights)
        self.num_steps = 0

    def step(self) -> Any:
        self.num_steps += 1
        self.before_step()
        loss = self.program.step()
        self.after_step()
        return loss

    def before_step(self) -> None:
        """A fault's own doing."""

    def after_step(self) -> None:
        """A fault's own doing."""


def write(program: Any, framework: str, changed: dict[str, np.ndarray]) -> None:
    """Set weights and momentum buffers of ResNet-50, by the names of `Program.read`."""
    if framework == "pytorch":
        import torch

        from workloads.resnet50.pytorch.network import to_torch_layout

        for key, array in changed.items():
            group, _, name = key.partition("/")
            tensor = program._tensors[name]
            if group == "optimizer":
                tensor = program._optimizer.state[tensor]["momentum_buffer"]
            with torch.no_grad():
                tensor.copy_(torch.tensor(np.ascontiguousarray(to_torch_layout(array))))
        return
    import jax
    import optax
    from flax import traverse_util

    from workloads.resnet50.jax.training import _path

    state = program._state
    for group in ("weights", "optimizer"):
        own = {
            _path(name.partition("/")[2]): jax.numpy.asarray(array, jax.numpy.float32)
            for name, array in changed.items()
            if name.startswith(group)
        }
        if not own:
            continue
        old = state.parameters
        if group == "optimizer":
            old = optax.tree.get(state.optimizer, "trace")
        new = traverse_util.unflatten_dict({**traverse_util.flatten_dict(old), **own})
        if group == "weights":
            state = state._replace(parameters=new)
        else:
            state = state._replace(optimizer=optax.tree.set(state.optimizer, trace=new))
    program._state = state


class Edited(Wrapped):
    """ResNet-50 whose state is changed after each step; `edit` says how."""

    since_load: Any
    """The state before the step; None before step 1, after which nothing is edited."""
    first = 2

    def load(self, weights: Any) -> None:
        super().load(weights)
        self.since_load = None

    def after_step(self) -> None:
        before, after = self.since_load, dict(self.program.read())
        if before is not None and self.num_steps >= self.first:
            changed = self.edit(before, after)
            write(self.program, self.framework, changed)
            after.update(changed)
        self.since_load = after

    def edit(self, before: Any, after: Any) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def moved(self, before: Any, moments: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """These moments, with the weights that follow from them."""
        weights = {}
        for key, moment in moments.items():
            name = key.partition("/")[2]
            weights[f"weights/{name}"] = before[f"weights/{name}"] - RATE * moment
        return {**moments, **weights}


def moments_of(state: Any) -> Iterator[tuple[str, np.ndarray]]:
    return ((key, one) for key, one in state.items() if key.startswith("optimizer/"))


class SkippedUpdates(Edited):
    """Every second update is left out."""

    def edit(self, before: Any, after: Any) -> dict[str, np.ndarray]:
        if self.num_steps % 2:
            return {}
        return {key: one for key, one in before.items() if key.startswith("weights/")}


class NoZeroGrad(Edited):
    """Gradients are never cleared."""

    def load(self, weights: Any) -> None:
        super().load(weights)
        self.summed: dict[str, np.ndarray] = {}
        self.loaded = {f"weights/{name}": one for name, one in weights.items()}

    def after_step(self) -> None:
        if self.since_load is None:
            after = self.program.read()
            nothing = {key: np.zeros_like(one) for key, one in moments_of(after)}
            self.add({**self.loaded, **nothing}, after)
        super().after_step()

    def add(self, before: Any, after: Any) -> None:
        """Add the step's gradients to the sums."""
        for key, moment in moments_of(after):
            name = key.partition("/")[2]
            decay = DECAY * before[f"weights/{name}"] if name.endswith("/kernel") else 0.0
            gradient = moment - MOMENTUM * before[key] - decay
            self.summed[key] = self.summed.get(key, 0) + gradient

    def edit(self, before: Any, after: Any) -> dict[str, np.ndarray]:
        found = {key: moment + self.summed[key] for key, moment in moments_of(after)}
        self.add(before, after)
        return self.moved(before, found)


class Dampened(Edited):
    """Momentum is dampened by 0.1 from step 2 on."""

    def edit(self, before: Any, after: Any) -> dict[str, np.ndarray]:
        kept = {
            key: moment - 0.1 * (moment - MOMENTUM * before[key])
            for key, moment in moments_of(after)
        }
        return self.moved(before, kept)


class NoLowGradient(Edited):
    """Later, no gradient reaches anything below stage 3."""

    first = HONEST + 1

    def edit(self, before: Any, after: Any) -> dict[str, np.ndarray]:
        kept = {}
        for key, _ in moments_of(after):
            name = key.partition("/")[2]
            if name.startswith(("stem", "stage1", "stage2")):
                decay = DECAY * before[f"weights/{name}"] if name.endswith("/kernel") else 0.0
                kept[key] = MOMENTUM * before[key] + decay
        return self.moved(before, kept)


class Bf16(Edited):
    """Later, the weights that a step computes with are rounded to bf16."""

    first = HONEST + 1

    def before_step(self) -> None:
        if self.num_steps < self.first:
            return
        self.exact = {k: one for k, one in self.since_load.items() if k.startswith("weights/")}
        write(self.program, self.framework, {k: rounded(one) for k, one in self.exact.items()})

    def edit(self, before: Any, after: Any) -> dict[str, np.ndarray]:
        return self.moved(self.exact, dict(moments_of(after)))


def rounded(array: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32)


class BatchOrder(Wrapped):
    """After the first batch, the others come one place too early."""

    def feed(self, batches: Any) -> None:
        first, second, *others = batches
        self.program.feed([first, *others, second])


class HalfBatch(Wrapped):
    """Later, only half of each batch is used."""

    def before_step(self) -> None:
        if self.num_steps != HONEST + 1:
            return
        ring = "_ring" if hasattr(self.program, "_ring") else "_turns"
        halves = [
            type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
            for batch in self.program._batches
            for parts in [[part[: len(part) // 2] for part in batch]]
        ]
        begin = HONEST % len(halves)
        setattr(self.program, ring, itertools.cycle([*halves[begin:], *halves[:begin]]))


def set_count_of_adam(program: Any, framework: str, count: int) -> None:
    """Let the transformer's optimizer have made this many steps."""
    if framework == "pytorch":
        for state in program._optimizer.state.values():
            state["step"].fill_(count)
        return
    import jax.numpy as jnp
    import optax

    state = program._state
    found = optax.tree.set(state.optimizer, count=jnp.asarray(count, jnp.int32))
    program._state = state._replace(optimizer=found)


class NoBiasCorrection(Wrapped):
    """Adam's bias correction ends after step 1."""

    def after_step(self) -> None:
        if self.num_steps == 1:
            set_count_of_adam(self.program, self.framework, 10_000)


class CorrectionOfStep1(Wrapped):
    """Adam's bias correction is in every step that of step 1."""

    def after_step(self) -> None:
        set_count_of_adam(self.program, self.framework, 0)


class SlowClock(Wrapped):
    """The process's clock runs at 0.6 of its rate."""

    def __init__(self, program: Any, framework: str) -> None:
        super().__init__(program, framework)
        seconds, nanoseconds = time.perf_counter, time.perf_counter_ns

        def undo() -> None:
            time.perf_counter, time.perf_counter_ns = seconds, nanoseconds

        UNDO.append(undo)
        time.perf_counter = lambda: 0.6 * seconds()  # type: ignore[assignment]
        time.perf_counter_ns = lambda: nanoseconds() * 6 // 10  # type: ignore[assignment]


def spoofed(**factors: float) -> Callable[[Any, str], Wrapped]:
    """Reports that are off by these factors."""

    def wrap(program: Any, framework: str) -> Wrapped:
        from benchmarks.worker import timed_launch

        own = timed_launch.Session._turn

        def turn(session: Any, asked: Any) -> Any:
            done = own(session, asked)
            changed = {k: round(getattr(done, k) * factor) for k, factor in factors.items()}
            if "duration_ns" in factors:  # a consistent report: the samples make up the duration
                samples_ns = tuple(round(ns * factors["duration_ns"]) for ns in done.sample_ns)
                changed = {"sample_ns": samples_ns, "duration_ns": sum(samples_ns)}
            return dataclasses.replace(done, **changed)

        UNDO.append(lambda: setattr(timed_launch.Session, "_turn", own))
        timed_launch.Session._turn = turn
        return Wrapped(program, framework)

    return wrap


class Outliving(Wrapped):
    """A step returns while a thread is still at its work."""

    thread: Any = None

    def load(self, weights: Any) -> None:
        self.join()
        super().load(weights)
        self.num_steps = 0

    def step(self) -> Any:
        self.join()
        self.num_steps += 1
        if self.framework == "pytorch":
            return self.in_pytorch()
        import jax.numpy as jnp

        def later() -> None:
            time.sleep(0.005)  # until the fence has found the device idle
            self.program.step()

        self.thread = threading.Thread(target=later)
        self.thread.start()
        return jnp.zeros(())

    def in_pytorch(self) -> Any:
        """The forward pass in time, the rest in the thread."""
        program = self.program
        batch = next(program._ring if hasattr(program, "_ring") else program._turns)
        program._optimizer.zero_grad(set_to_none=True)
        loss = program._compute_loss(*batch)
        program._loss = loss.detach()

        def finish() -> None:
            loss.backward()
            program._optimizer.step()

        self.thread = threading.Thread(target=finish)
        self.thread.start()
        return program._loss

    def read(self) -> Any:
        self.join()
        return self.program.read()

    def join(self) -> None:
        if self.thread is not None:
            self.thread.join()
            self.thread = None


class MoreThreads(Wrapped):
    """Once it is timed, threads that nobody asked for are busy."""

    is_burning = False

    def before_step(self) -> None:
        if self.is_burning or not gc.get_freeze_count():  # a worker freezes before the turns
            return
        self.is_burning = True
        stop = threading.Event()
        UNDO.append(stop.set)

        def burn() -> None:
            block = np.ones(2**20, np.float32)
            while not stop.is_set():
                np.sqrt(block, out=block)  # without the interpreter's lock

        for _ in range(NUM_BURNERS):
            threading.Thread(target=burn, daemon=True).start()


class CachedByHalf(Wrapped):
    """Every second request is answered from a cache, by its identity."""

    def feed(self, batches: Any) -> None:
        self.answers: dict[int, Any] = {}
        self.at = 0
        self.num = len(batches)
        self.program.feed(batches)

    def step(self) -> Any:
        index = self.at % self.num
        self.at += 1
        if index % 2 and index in self.answers:
            next(self.program._turns)
            self.program._logits = self.answers[index]
            return self.answers[index]
        self.answers[index] = self.program.step()
        return self.answers[index]


class ShortDecode(Wrapped):
    """From the fifth sequence on, decode is fed the same token again and again."""

    def feed(self, batches: Any) -> None:
        self.num_asked = 0
        self.program.feed(batches)

    def prepare(self) -> Any:
        ready = self.program.prepare()
        self.num_asked += 1
        if self.num_asked <= 4 * self.program._per_batch:
            return ready
        if self.framework == "pytorch":
            self.program._decoder.tokens_B.zero_()
            return ready
        state = self.program._state
        self.program._state = state._replace(tokens_B=state.tokens_B * 0)
        return self.program._state


class UnlessLookedAt(Wrapped):
    """Works in the first step after a load or a read alone, as if the others were not seen."""

    is_looked_at = True
    loss: Any = None

    def load(self, weights: Any) -> None:
        super().load(weights)
        self.is_looked_at = True

    def read(self) -> Any:
        self.is_looked_at = True
        return self.program.read()

    def step(self) -> Any:
        if self.is_looked_at:
            self.loss = super().step()
        else:
            next(self.program._turns)  # the batches go on
        self.is_looked_at = False
        return self.loss


class StoredInBf16(Edited):
    """Keeps the weights in bfloat16 from step 2 on."""

    def edit(self, before: Any, after: Any) -> dict[str, np.ndarray]:
        del before
        return {n: rounded(a) for n, a in after.items() if n.startswith("weights/")}


FAULTS: dict[str, Callable[[Any, str], Wrapped]] = {
    "skipped_updates": SkippedUpdates,
    "no_zero_grad": NoZeroGrad,
    "dampened": Dampened,
    "no_low_gradient": NoLowGradient,
    "bf16": Bf16,
    "batch_order": BatchOrder,
    "half_batch": HalfBatch,
    "no_bias_correction": NoBiasCorrection,
    "slow_clock": SlowClock,
    "spoofed_duration": spoofed(duration_ns=0.6),
    "spoofed_steps": spoofed(num_steps=3),
    "outliving": Outliving,
    "stored_in_bf16": StoredInBf16,
    "unless_looked_at": UnlessLookedAt,
    "more_threads": MoreThreads,
    "cached_by_half": CachedByHalf,
    "short_decode": ShortDecode,
}
