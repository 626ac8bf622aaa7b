import sys
from types import ModuleType, SimpleNamespace

import pytest

from benchmarks.host import nvidia


def unanswered(*_: object) -> None:
    raise RuntimeError("not supported")


class FakeLibrary(ModuleType):
    """A driver that answers some of the questions, as each of them does."""

    NVML_CLOCK_SM = 1

    def __init__(self, reasons: int = 0) -> None:
        super().__init__("pynvml")
        self.is_open = False
        self.nvmlDeviceGetCurrentClocksEventReasons = lambda _: reasons

    def __getattr__(self, name: str) -> object:
        if name.startswith("nvml"):
            return unanswered
        raise AttributeError(name)

    def nvmlInit(self) -> None:  # noqa: N802 - the library's name
        self.is_open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open = False

    nvmlDeviceGetCount = staticmethod(lambda: 2)  # noqa: N815
    nvmlDeviceGetHandleByIndex = staticmethod(lambda index: index)  # noqa: N815
    nvmlDeviceGetName = staticmethod(lambda _: b"NVIDIA H200")  # noqa: N815
    nvmlDeviceGetMemoryInfo = staticmethod(lambda _: SimpleNamespace(total=141))  # noqa: N815
    nvmlDeviceGetEnforcedPowerLimit = staticmethod(lambda _: 700_000)  # noqa: N815
    nvmlDeviceGetMigMode = staticmethod(lambda _: [1, 1])  # noqa: N815
    nvmlDeviceGetComputeRunningProcesses = staticmethod(lambda index: [1] * index)  # noqa: N815


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    library = FakeLibrary(reasons=0x1 | 0x4 | 0x40)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


def test_what_a_driver_does_not_answer_is_none(library: FakeLibrary) -> None:
    assert (
        nvidia.devices()
        == [
            {
                "name": "NVIDIA H200",
                "memory_bytes": 141,
                "driver": None,
                "power_limit_w": 700.0,
                "max_sm_clock_mhz": None,
                "mig": True,
                "ecc": None,
            }
        ]
        * 2
    )
    assert library.is_open is False


def test_idle_and_power_cap_are_no_throttling(library: FakeLibrary) -> None:
    assert [state["throttle_reasons"] for state in nvidia.states()] == [
        ["hardware thermal slowdown"]
    ] * 2
    assert [state["num_processes"] for state in nvidia.states()] == [0, 1]


UUIDS = ["GPU-aa11", "GPU-aa22", "GPU-bb33"]


@pytest.mark.parametrize(
    ("environment", "visible"),
    [
        ({}, [0, 1, 2]),
        ({"CUDA_VISIBLE_DEVICES": "2,0"}, [2, 0]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-bb"}, [2]),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, [1]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-aa,2"}, []),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "MIG-aa"}, [0, 1, 2]),
        ({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, [0, 1, 2]),
    ],
    ids=str,
)
def test_hidden_devices_are_not_looked_at(environment: dict[str, str], visible: list[int]) -> None:
    assert nvidia.visible_indices(UUIDS, environment) == visible


def test_a_hidden_device_is_no_part_of_the_machine(
    library: FakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert len(nvidia.devices()) == 1
    assert [state["num_processes"] for state in nvidia.states()] == [1]


def test_without_the_library_there_are_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvidia.devices() == []
    assert nvidia.states() == []


def test_without_a_driver_there_are_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeLibrary()
    library.nvmlInit = unanswered
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert nvidia.devices() == []
