import argparse
import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks.commands import doctor
from benchmarks.contract.framework import Capabilities
from benchmarks.contract.plan import Interpreter
from benchmarks.documents.doctor import FrameworkReport, Report
from benchmarks.host.readiness import Finding
from benchmarks.planning import catalog

LAB = Capabilities(
    name="lab",
    import_name="lab",
    distributions=("lab",),
    executions=("eager", "compiled"),
    precisions={"cpu": ("fp32",), "cuda": ("fp32",)},
    asynchronous_devices=(),
    out_of_memory_patterns=(),
    needs_compiler=(("compiled", "cpu"), ("compiled", "metal")),
)
READY = FrameworkReport(
    "lab", usable=True, reason=None, python="/p", versions={"lab": "1.2"}, devices={"cpu": 1}
)
MISSING = FrameworkReport(
    "mlx",
    usable=False,
    reason="mlx is not installed for .venv/bin/python; \x1b[31m[/bold] [link=x]",
)
MACHINE = {
    "os": "linux",
    "architecture": "x86_64",
    "cpu": "AMD EPYC",
    "num_cores": 2,
    "memory_bytes": 24 * 2**30,
    "accelerators": [{"name": "NVIDIA H200"}],
}


def make_report(*frameworks: FrameworkReport) -> Report:
    found = (
        Finding("warn", "CPU governor is powersave", "sudo cpupower"),
        Finding("note", "turbo"),
    )
    return Report("0.0", frameworks, MACHINE, {"governor": "powersave"}, None, found)


def run(monkeypatch: pytest.MonkeyPatch, report: Report, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    monkeypatch.setattr(doctor, "examine", lambda _: report)
    return doctor.run(parser.parse_args(arguments))


def test_one_usable_framework_is_enough(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, make_report(READY, MISSING)) == 0
    assert "Ready: 1 of 2 frameworks" in capsys.readouterr().out


def test_no_usable_framework_is_exit_6_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, make_report(MISSING)) == 6
    assert "scripts/setup" in capsys.readouterr().out


def test_a_busy_machine_is_exit_6_by_name_with_numbers_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    what = "other processes take 48% of our 2 cores (at most 10% while measuring)"
    busy = Finding("busy", what, "stop them")
    report = dataclasses.replace(make_report(READY, MISSING), findings=(busy,))
    assert run(monkeypatch, report) == 6
    page = capsys.readouterr().out
    assert f"busy  {what}\n      -> stop them" in page
    assert "Not ready: busy; 1 of 2 frameworks" in page
    assert max(map(len, page.splitlines())) <= 80
    assert run(monkeypatch, report, "--json") == 6


def test_json_is_one_document_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, make_report(READY, MISSING), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "dyno.doctor/1"
    assert [item["usable"] for item in document["frameworks"]] == [True, False]
    assert document["frameworks"][0]["versions"] == {"lab": "1.2"}
    assert document["machine"] == MACHINE
    assert document["findings"][0]["hint"] == "sudo cpupower"


def test_the_page_fits_80_columns_and_obeys_no_text_from_outside(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run(monkeypatch, make_report(READY, MISSING))
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    assert "\x1b" not in page
    assert "[/bold]" in page
    assert "warn  CPU governor is powersave\n      -> sudo cpupower" in page
    assert "no C++ compiler" in page


def test_a_missing_compiler_counts_where_the_device_is_there() -> None:
    found = Interpreter("/p", {"lab": "1.2"}, {"cpu": 1, "cuda": 1})
    lacking = doctor.report_framework(LAB, found, name="lab", has_compiler=False)
    assert lacking.usable
    assert lacking.needs_compiler == ("compiled on cpu",)
    ready = doctor.report_framework(LAB, found, name="lab", has_compiler=True)
    assert ready.needs_compiler == ()


def test_a_framework_that_is_not_there_keeps_its_reason() -> None:
    report = doctor.report_framework(LAB, "import died: SIGSEGV", name="lab", has_compiler=True)
    assert (report.usable, report.reason) == (False, "import died: SIGSEGV")


def test_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = argparse.Namespace(frameworks={}, python_path=())
    monkeypatch.setattr(catalog, "discover", lambda _: nothing)
    monkeypatch.setattr(catalog, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(doctor, "WATCHED_S", 0.0)
    report = doctor.examine()
    assert "foreign_cpu_share" in report.state
    assert report.frameworks == ()
    assert report.machine["num_cores"] >= 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("found", ["not there", Interpreter("/p", {}, {"cpu": 1})])
def test_a_library_stands_after_what_it_computes_with(
    found: Interpreter | str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    library = dataclasses.replace(LAB, name="ease", base="lab")
    report = doctor.report_framework(library, found, name="ease", has_compiler=True)
    assert report.base == "lab"
    run(monkeypatch, make_report(READY, report))
    assert "lab · ease" in capsys.readouterr().out
