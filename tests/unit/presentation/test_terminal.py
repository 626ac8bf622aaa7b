"""A run on the terminal."""

import io

from rich.console import Console

from benchmarks.analysis.summary import summarise
from benchmarks.contract.plan import Cell
from benchmarks.presentation.footer import EVERYTHING_ELSE
from benchmarks.presentation.terminal import console_for, render_summary
from tests.unit.analysis.records import case, cohorts, failed, plan, record
from workloads.resnet50.training_spec import SPECS

BASE, FAST, SLOW = case(), case("pytorch", "compiled"), case("jax", "compiled")
TIMES = {BASE: 0.2, FAST: 0.15, SLOW: 0.4}
MACHINE = {"cpu": "Test CPU", "num_cores": 2, "memory_bytes": 8 * 2**30, "accelerators": []}


def summary_of(records, *, cases=(BASE, FAST, SLOW), **changes):
    return summarise(plan(cases, machine=MACHINE, **changes), records, SPECS)


def rendered(summary, *, width=100, all_notes=False, **options):
    stream = io.StringIO()
    console = Console(file=stream, width=width, **options)
    render_summary(summary, console, store="results/runs", all_notes=all_notes)
    return stream.getvalue()


def row(text, name):
    """The row of a table that begins with this name; sentences have no columns."""
    return next(
        line for line in text.splitlines() if line.startswith(name) and "  " in line.rstrip()
    )


def test_a_group_has_its_title_then_its_answer_then_its_table():
    lines = rendered(summary_of(cohorts(TIMES))).splitlines()
    title = lines.index("resnet50_train small b8 cpu fp32")
    assert lines[title - 1] == ""
    assert lines[title + 1].startswith("pytorch compiled is fastest: 1.3")
    assert "images/s" in lines[title + 2]
    assert " base " in row("\n".join(lines), "pytorch eager ")


def test_the_answer_is_bold():
    text = rendered(summary_of(cohorts(TIMES)), force_terminal=True, color_system="standard")
    assert "\x1b[1mpytorch compiled is fastest" in text


def test_cases_of_several_precisions_are_named_with_theirs():
    half = case(precision="bf16")
    text = rendered(summary_of(cohorts({BASE: 0.2, half: 0.1}), cases=(BASE, half)))
    assert "resnet50_train small b8 cpu" in text.splitlines()
    assert row(text, "pytorch eager bf16 ")


def test_all_notes_replace_the_few_lines_below_the_tables():
    summary = summary_of(cohorts(TIMES))
    assert rendered(summary).splitlines()[-1] == EVERYTHING_ELSE
    text = rendered(summary, all_notes=True)
    assert "--notes" not in text
    assert "how to read" in text


def test_failed_and_skipped_cells_are_rows_with_their_reason_and_log():
    skip = Cell(case("mlx", "compiled"), "skip", "not_installed", "mlx is not installed")
    records = [*cohorts(TIMES), failed(SLOW, 5, reason="no memory left")]
    text = rendered(summary_of(records, skipped=[skip]))
    assert "oom_host" in row(text, "jax compiled")
    assert "no memory left" in row(text, "jax compiled")
    assert "log: results/runs/run1/logs/5.log" in text
    assert "not_installed" in row(text, "mlx compiled")


def test_a_cell_without_a_round_that_counts_says_so():
    records = [*cohorts({BASE: 0.2}), *(record(FAST, c, step_s=[]) for c in range(3))]
    text = rendered(summary_of(records, cases=(BASE, FAST)))
    assert "no valid round: none was measured" in row(text, "pytorch compiled")


def test_markup_and_escapes_in_records_stay_text():
    records = [*cohorts(TIMES), failed(SLOW, 5, reason="\x1b]8;;x\x07[/bold][link=x]oops")]
    text = rendered(summary_of(records), force_terminal=True)
    assert "[/bold][link=x]oops" in text
    assert "\x1b]8" not in text
    assert "\x07" not in text


def test_no_color_is_honoured(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    summary = summary_of(cohorts(TIMES))
    options = {"force_terminal": True, "color_system": "standard"}
    assert "\x1b[32m" in rendered(summary, **options)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in rendered(summary, **options)


def test_a_stream_that_is_no_terminal_gets_plain_text():
    stream = io.StringIO()
    console = console_for(stream)
    render_summary(summary_of(cohorts(TIMES)), console)
    assert console.width == 110
    assert "\x1b" not in stream.getvalue()


def test_a_stream_without_unicode_gets_ascii():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    records = [*cohorts(TIMES), failed(SLOW, 5, reason="zażółć")]
    render_summary(summary_of(records), console_for(stream))
    stream.flush()
    text = raw.getvalue().decode("ascii")
    assert "^ faster" in text
    assert "za\\u017c" in text


def test_a_run_without_results_is_shown_too():
    text = rendered(summary_of([]))
    assert "interrupted" in text
    assert "nothing was measured" in text.splitlines()
