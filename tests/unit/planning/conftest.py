"""The world that planning is tested in."""

import copy
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.planning import config
from tests.unit.planning.worlds import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three frameworks, all installed, and an empty store."""
    return World(tmp_path)


@pytest.fixture(autouse=True, scope="module")
def composed_once() -> Iterator[None]:
    """Hydra composes each set of overrides once for a module: a plan takes it half a second."""
    original = config.compose
    compose = functools.cache(lambda overrides: original(list(overrides)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "compose", lambda asked: copy.deepcopy(compose(tuple(asked))))
        yield
