"""When a warm-up may end."""

import math

import numpy as np
import pytest

from benchmarks.contract.device import DeviceRules
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.worker import warmup
from benchmarks.worker.timing import BlockTime
from benchmarks.worker.warmup import is_steady

WINDOW = 10


def noisy(generator, deviation, size=2 * WINDOW):
    return 0.1 * np.exp(deviation * generator.standard_normal(size))


@pytest.mark.parametrize("deviation", [0.001, 0.02, 0.1])
def test_honest_noise_is_steady_nearly_always(deviation):
    generator = np.random.default_rng(1)
    steady = [is_steady(noisy(generator, deviation), window=WINDOW) for _ in range(400)]
    assert np.mean(steady) > 0.85


def test_a_drift_beyond_the_noise_is_not_steady():
    generator = np.random.default_rng(2)
    ramp = np.exp(-0.15 * np.linspace(0, 1, 2 * WINDOW))
    steady = [is_steady(noisy(generator, 0.01) * ramp, window=WINDOW) for _ in range(200)]
    assert np.mean(steady) < 0.02


def test_a_slow_drift_without_noise_is_not_steady():
    assert not is_steady(np.exp(-0.0015 * np.arange(20)).tolist(), window=WINDOW)
    assert not is_steady(np.exp(-0.0009 * np.arange(20)).tolist(), window=WINDOW)
    assert is_steady(np.exp(-0.0004 * np.arange(20)).tolist(), window=WINDOW)


def test_a_step_between_the_halves_is_not_steady():
    generator = np.random.default_rng(3)
    steps = noisy(generator, 0.005)
    steps[:WINDOW] *= 1.1
    assert not is_steady(steps, window=WINDOW)


def test_halves_that_differ_without_a_drift_are_not_steady():
    bulge = [0.1] * 10 + [0.103] * 6 + [0.1] * 4
    assert not is_steady(bulge, window=WINDOW)
    assert is_steady([0.1] * 10 + [0.103] * 3 + [0.1] * 7, window=WINDOW)


def test_only_the_last_window_counts():
    assert is_steady([5.0] * 30 + [0.1] * 20, window=WINDOW)
    assert not is_steady([5.0] * 10 + [0.1] * 10, window=WINDOW)


def test_spikes_do_not_prevent_it():
    steps = noisy(np.random.default_rng(4), 0.01)
    steps[[3, 15]] *= 4
    assert is_steady(steps, window=WINDOW)


def test_too_few_blocks_are_not_steady():
    assert not is_steady([0.1] * (2 * WINDOW - 1), window=WINDOW)
    assert not is_steady([], window=WINDOW)


def test_the_smallest_window_works():
    assert is_steady([0.1, 0.1], window=1)


@pytest.mark.parametrize("bad", [math.nan, 0.0, -1.0, math.inf])
def test_refuses_a_time_that_is_none(bad):
    with pytest.raises(ValueError, match="finite seconds above 0"):
        is_steady([0.1] * 19 + [bad], window=WINDOW)


def test_refuses_an_empty_window():
    with pytest.raises(ValueError, match="window=0"):
        is_steady([0.1], window=0)


class Slow:
    """A program of 10 s a step, on a clock of its own."""

    def __init__(self, monkeypatch, *, growth=1.0):
        self.now, self.step_s, self.growth, self.num_blocks = 0.0, 10.0, growth, 0
        monkeypatch.setattr(warmup.time, "perf_counter", lambda: self.now)

    def block(self, num_steps):
        self.now += num_steps * self.step_s
        self.num_blocks += 1
        self.step_s *= self.growth
        return BlockTime(round(num_steps * self.step_s * 1e9), 0, suspended=False, outputs=None)

    def num_compilations(self):
        return 0

    def warm_up(self, window):
        protocol = MeasuringProtocol(max_warmup_s=60.0, min_warmup_steps=3, warmup_window=window)
        return warmup.warm_up(self.block, self, protocol=protocol, rules=DeviceRules(), step_s=10.0)


def test_a_program_of_slow_steps_gets_as_many_as_a_verdict_needs(monkeypatch):
    slow = Slow(monkeypatch)
    assert slow.warm_up(window=10).steady
    assert slow.num_blocks == 20


def test_the_limit_holds_where_there_are_enough_to_judge(monkeypatch):
    slow = Slow(monkeypatch, growth=1.2)
    assert not slow.warm_up(window=2).steady
    assert slow.now <= 60 + slow.step_s


def test_the_stretched_limit_holds_too(monkeypatch):
    slow = Slow(monkeypatch)
    assert not slow.warm_up(window=50).steady
    assert slow.num_blocks == 30
