"""What the tests of this folder share: one cache, so that each oracle is computed once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parity.faults import Verdicts
from tests.parity.proofs import Key, Proofs

TIMEOUT_S = 3600
"""The first test of a workload that asks for a proof waits for those of all its cells."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test that may have to wait for proofs the time for them."""
    for item in items:
        if isinstance(item, pytest.Function) and "proofs" in item.fixturenames:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of this process of the tests."""
    return tmp_path_factory.mktemp("parity") / "cache"


@pytest.fixture(scope="session")
def proofs(request: pytest.FixtureRequest, cache: Path) -> Proofs:
    """The proofs of every cell that a selected test asks for."""
    functions = [item for item in request.session.items if isinstance(item, pytest.Function)]
    parameters = [item.callspec.params for item in functions if hasattr(item, "callspec")]
    wanted = [one for each in parameters for one in each.values() if isinstance(one, Key)]
    return Proofs(wanted, cache)


@pytest.fixture(scope="module")
def verdicts(proofs: Proofs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verdicts]:
    """The verdicts on planted faults."""
    made = Verdicts(proofs, tmp_path_factory.mktemp("faults"))
    yield made
    made.close()
