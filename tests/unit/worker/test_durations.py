"""Durations show that work is left out only if nothing else explains them."""

from types import SimpleNamespace

import pytest

from benchmarks.contract.evidence import Evidence
from benchmarks.worker.context import LaunchFailedError
from benchmarks.worker.tasks.protocol import fail_unless_disturbed, require_share

PROVING, HELD = SimpleNamespace(proven=None), SimpleNamespace(proven="run-0-0-0")


class Seen:
    """Other load, as it was seen."""

    def __init__(self, disturbs: bool | None) -> None:
        self.disturbs = disturbs

    def __str__(self) -> str:
        return "load"


@pytest.mark.parametrize(
    ("disturbs", "status"), [(False, "invalid_work"), (True, "disturbed"), (None, "disturbed")]
)
def test_durations_show_skipped_work_on_a_quiet_machine_alone(disturbs, status):
    with pytest.raises(LaunchFailedError) as failure:
        fail_unless_disturbed(PROVING, "steps are too fast", load=Seen(disturbs))
    assert failure.value.status == status
    assert "steps are too fast" in str(failure.value)


def test_what_a_busy_machine_hides_a_proven_launch_has_shown():
    fail_unless_disturbed(HELD, "steps are too fast", load=Seen(True))
    fail_unless_disturbed(HELD, "steps are too fast", load=Seen(None))
    with pytest.raises(LaunchFailedError, match="steps are too fast"):
        fail_unless_disturbed(HELD, "steps are too fast", load=Seen(False))


@pytest.mark.parametrize("share", [0.4, 0.5])
def test_a_share_is_recorded_and_must_be_large_enough(share):
    context = SimpleNamespace(evidence=Evidence(), proven=None)
    if share < 0.5:
        with pytest.raises(LaunchFailedError, match="40% of the time"):
            require_share(context, share, least=0.5, load=Seen(False))
    else:
        require_share(context, share, least=0.5, load=Seen(True))
    assert context.evidence.share_of_audit == share
