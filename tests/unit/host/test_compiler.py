import argparse
from pathlib import Path

import pytest

from benchmarks.commands import doctor
from benchmarks.host.compiler import find_compiler
from benchmarks.planning import catalog, surroundings


@pytest.fixture
def only_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose one C++ compiler has none of the usual names."""
    compiler = tmp_path / "bin" / "icpx"
    compiler.parent.mkdir()
    compiler.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.delenv("CXX", raising=False)
    return compiler


def test_a_compiler_of_another_name_is_found_only_if_cxx_names_it(
    only_named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_compiler() is None
    monkeypatch.setenv("CXX", f"{only_named} -O2")
    assert find_compiler() == str(only_named)


def test_one_of_the_usual_names_is_found_without_cxx(
    only_named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = only_named.rename(only_named.with_name("clang++"))
    monkeypatch.setenv("PATH", str(usual.parent))
    assert find_compiler() == str(usual)


@pytest.mark.parametrize("is_named", [True, False])
def test_doctor_and_plan_agree_on_the_compiler(
    is_named: bool, only_named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_named:
        monkeypatch.setenv("CXX", str(only_named))
    nothing = argparse.Namespace(frameworks={}, python_path=())
    monkeypatch.setattr(catalog, "discover", lambda _: nothing)
    assert surroundings.here().has_compiler == is_named
    assert (doctor.examine().compiler is not None) == is_named
