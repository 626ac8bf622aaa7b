import os
from pathlib import Path

import pytest

from benchmarks.host.environment import allowed_environment

SECRETS = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "NVIDIA_API_KEY", "CUDA_TOKEN", "GITHUB_TOKEN")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in SECRETS:
        monkeypatch.setenv(name, "canary")
    for name in ("LD_PRELOAD", "OMP_NUM_THREADS", "PYTHONPATH", "PYTHONSTARTUP", "XLA_FLAGS"):
        monkeypatch.setenv(name, "ours")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/cuda")
    return allowed_environment({"XLA_FLAGS": "--asked"}, private_folder=tmp_path / "private")


def test_no_token_passes(environment: dict[str, str]) -> None:
    assert "canary" not in environment.values()


def test_our_own_settings_do_not_pass(environment: dict[str, str]) -> None:
    assert "ours" not in environment.values()


def test_what_finds_the_device_and_what_is_asked_for_passes(environment: dict[str, str]) -> None:
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["LD_LIBRARY_PATH"] == "/opt/cuda"
    assert environment["XLA_FLAGS"] == "--asked"
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["LANG"] == "C.UTF-8"


def test_home_temporary_files_and_caches_are_private_and_exist(
    environment: dict[str, str], tmp_path: Path
) -> None:
    folders = [Path(environment[name]) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")]
    assert len(set(folders)) == 3
    assert all(folder.is_dir() for folder in folders)
    assert all(folder.is_relative_to(tmp_path / "private") for folder in folders)
