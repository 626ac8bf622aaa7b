"""What the tests of this folder share: one cache, so that the oracle is computed once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A cache folder of the tests' own."""
    return tmp_path_factory.mktemp("parity") / "cache"
