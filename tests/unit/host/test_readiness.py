import pytest

from benchmarks.host.readiness import findings

GIB = 2**30
TWO = {"jax": True, "pytorch": True, "tensorflow": False}
QUIET_MACHINE = {"num_cores": 8, "virtualised": False}
QUIET_STATE = {
    "foreign_cpu_share": 0.01,
    "load_average": [0.1, 2.0, 2.0],
    "cpu_pressure_percent": 0.5,
    "governor": "performance",
    "turbo": False,
    "num_thermal_throttles": 0,
    "cpu_quota_cores": None,
    "memory_available_bytes": 30 * GIB,
    "swap_used_bytes": 0,
    "on_battery": False,
    "accelerators": [
        {
            "num_processes": 0,
            "throttle_reasons": [],
            "pcie_width": 16,
            "pcie_max_width": 16,
        }
    ],
}


def test_a_quiet_machine_has_no_findings() -> None:
    assert findings(QUIET_MACHINE, QUIET_STATE, lock_holder=None, holders=TWO) == []


def test_what_is_not_known_is_no_finding() -> None:
    unknown = dict.fromkeys(QUIET_STATE)
    assert (
        findings({"num_cores": 2, "virtualised": None}, unknown, lock_holder=None, holders=TWO)
        == []
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"load_average": [3.25, 0, 0]}, "load average 3.25 on 8 cores"),
        ({"cpu_pressure_percent": 40.2}, "tasks waited for a CPU 40 % of the last 10 s"),
        ({"governor": "powersave"}, "CPU governor is powersave"),
        ({"cpu_quota_cores": 1.5}, "a CPU quota of 1.5 cores"),
        ({"memory_available_bytes": 2 * GIB}, "2.0 GiB of memory free"),
        ({"swap_used_bytes": GIB}, "1.0 GiB are swapped out"),
        ({"on_battery": True}, "running on battery"),
        ({"accelerators": [{"num_processes": 2}]}, "GPU 0 is in use by 2 other process(es)"),
        ({"accelerators": [{"throttle_reasons": ["hardware slowdown"]}]}, "GPU 0 is held back"),
        ({"accelerators": [{}, {"pcie_width": 8, "pcie_max_width": 16}]}, "GPU 1 has 8 of 16 PCIe"),
    ],
    ids=str,
)
def test_warns_of_what_spoils_results_and_says_what_to_do(change: dict, what: str) -> None:
    (finding,) = findings(QUIET_MACHINE, {**QUIET_STATE, **change}, lock_holder=None, holders=TWO)
    assert finding.severity == "warn"
    assert finding.what.startswith(what)
    assert finding.hint


def test_a_busy_machine_is_not_ready_and_named_first() -> None:
    busy = {**QUIET_STATE, "foreign_cpu_share": 0.48, "on_battery": True}
    found = findings({**QUIET_MACHINE, "num_cores": 2}, busy, lock_holder=None, holders=TWO)
    assert [finding.severity for finding in found] == ["busy", "warn"]
    assert found[0].what == "other processes take 48% of our 2 cores (at most 5% while measuring)"
    assert found[0].hint is not None
    assert "taskset" in found[0].hint


def test_on_many_cores_one_that_is_taken_makes_it_busy() -> None:
    many = {**QUIET_MACHINE, "num_cores": 64}
    for share, severities in ((0.005, []), (0.01, ["busy"])):
        state = {**QUIET_STATE, "foreign_cpu_share": share}
        found = findings(many, state, lock_holder=None, holders=TWO)
        assert [finding.severity for finding in found] == severities


def test_notes_come_after_warnings() -> None:
    noisy = {**QUIET_STATE, "turbo": True, "num_thermal_throttles": 3, "on_battery": True}
    found = findings({**QUIET_MACHINE, "virtualised": True}, noisy, lock_holder=None, holders=TWO)
    assert [finding.severity for finding in found] == ["warn", "note", "note", "note"]


def test_another_run_is_named_first() -> None:
    found = findings(
        QUIET_MACHINE, {**QUIET_STATE, "on_battery": True}, lock_holder="pid 7", holders=TWO
    )
    assert found[0].what == "another dyno run is measuring (pid 7)"


def test_warns_where_nothing_can_be_proven() -> None:
    alone = {**TWO, "jax": False}
    (finding,) = findings(QUIET_MACHINE, QUIET_STATE, lock_holder=None, holders=alone)
    assert finding.severity == "warn"
    words = "1 of the 2 frameworks that the float64 oracle needs can be used"
    assert finding.what.startswith(words)
    assert finding.hint == "install 2 of jax, pytorch, tensorflow: scripts/setup"
