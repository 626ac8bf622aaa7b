"""How properties are tried, and how tests are shared out among processes (scripts/test)."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest

from tests import groups


def pytest_configure() -> None:
    """Have properties tried on the same values each time, however slow the machine is."""
    hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
    hypothesis.settings.load_profile("fixed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all tests of a group to one process.

    By ourselves, since `--dist loadgroup` of pytest-xdist 3.8.0 finds no group with pytest 9.2: it
    writes to Node._nodeid, which is gone. With a release that does not, xdist_group marks will do.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return groups.group_of(nodeid)

    return Scheduler(config, log)
