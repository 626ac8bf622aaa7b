"""A simulated machine: two speeds, foreign load, and launches that differ in their luck."""

import numpy as np

SLOW = 0.3
"""ln(step time) in the slow state over that in the fast one."""
DWELL_S = (0.6, 30.0)
"""A state lasts between these, evenly in logarithms."""
STEP_S, TURN_OVERHEAD_S, NUM_RESIDENT = 0.1, 0.2, 5


def turns(generator, *, num_runs, num_rounds, num_steps, slow_share):
    """Step times (2, runs, rounds, steps) of a base and a case that are equally fast.

    Both take turns with three more launches in random order. Each turn meets the machine in the
    state that it has then, and one in twenty a foreign process.
    """
    turn_s = TURN_OVERHEAD_S + num_steps * STEP_S
    round_s = NUM_RESIDENT * turn_s
    places = np.argsort(generator.random((num_runs, num_rounds, NUM_RESIDENT)), axis=2)[..., :2]
    starts = places * turn_s + np.arange(num_rounds)[:, None] * round_s
    moments = np.moveaxis(starts, 2, 0)[..., None] + STEP_S * np.arange(num_steps)
    slow = np.stack(
        [
            _is_slow(generator, moments[:, run], num_rounds * round_s, slow_share)
            for run in range(num_runs)
        ],
        axis=1,
    )
    logs = SLOW * slow + 0.02 * generator.standard_exponential(slow.shape)
    loaded = generator.random((*slow.shape[:3], 1)) < 0.05
    return STEP_S * np.exp(logs + loaded * generator.uniform(0.2, 1.0, loaded.shape))


def log_ratios(generator, *, num_runs, num_cohorts, deviations, base_deviation, tails, states):
    """Launch-level log-ratios (runs, cohorts, cases) of cases beside one base, of truth 0.

    `deviations` are those of the cases' launch effects: normal, or Student's t with 4 degrees of
    freedom. Rounds add 0.7 %; with `states`, one in ten launches met another state than its base.
    """

    def effects(num_cases):
        shape = (num_runs, num_cohorts, num_cases)
        if tails == "normal":
            return generator.standard_normal(shape)
        return generator.standard_t(4, shape) / np.sqrt(2)

    found = base_deviation * effects(1) - np.asarray(deviations) * effects(len(deviations))
    found += 0.007 * generator.standard_normal(found.shape)
    if states:
        met = generator.random(found.shape) < 0.1
        found += met * 0.05 * generator.standard_normal(found.shape)
    return found


def _is_slow(generator, moments, length_s, slow_share):
    """Whether the machine is in its slow state at each moment of one run."""
    slow_first = generator.random() < slow_share
    num_dwells = 20 + int(length_s)
    dwells = np.exp(generator.uniform(*np.log(DWELL_S), num_dwells))
    odds = slow_share / (1 - slow_share)
    is_slow = (np.arange(num_dwells) % 2 == 0) == slow_first
    dwells *= np.where(is_slow, min(1, odds), min(1, 1 / odds))
    return is_slow[np.searchsorted(np.cumsum(dwells), moments)]
