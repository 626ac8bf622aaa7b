"""Durations show that work is left out only if nothing else explains them."""

from types import SimpleNamespace

import pytest

from benchmarks.contract.evidence import Evidence
from benchmarks.worker.context import LaunchFailedError
from benchmarks.worker.tasks.protocol import fail_unless_disturbed, require_share


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
        fail_unless_disturbed("steps are too fast", load=Seen(disturbs))
    assert failure.value.status == status
    assert "steps are too fast" in str(failure.value)


@pytest.mark.parametrize("share", [0.4, 0.5])
def test_a_share_is_recorded_and_must_be_large_enough(share):
    context = SimpleNamespace(evidence=Evidence())
    if share < 0.5:
        with pytest.raises(LaunchFailedError, match="40% of the time"):
            require_share(context, share, least=0.5, load=Seen(False))
    else:
        require_share(context, share, least=0.5, load=Seen(True))
    assert context.evidence.share_of_audit == share
