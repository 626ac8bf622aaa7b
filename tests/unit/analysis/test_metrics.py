"""Metrics: Dyno's own, and those of an extension folder."""

import dataclasses
import json
import math

import pytest

from benchmarks import cli
from benchmarks.analysis.metrics import (
    METRICS,
    Metric,
    Number,
    interval,
    largest,
    median,
    median_cold,
    median_warm,
    total,
    with_extensions,
)
from benchmarks.analysis.summary import summarise
from benchmarks.contract.plan import Cell
from benchmarks.errors import UsageError
from benchmarks.statistics.intervals import Interval
from benchmarks.storage.store import Store
from tests.unit.analysis.records import case, cohorts, plan, record

BASE, FAST = case(), case("pytorch", "compiled")
SKIPPED = Cell(case("mlx"), "skip", "unsupported", "no")
FAKE = '''
"""A metric from data at hand: seconds of a launch in which its framework was imported."""

from benchmarks.analysis.metrics import Metric, Number, interval, largest

METRICS = (
    Metric(
        "import_s",
        meaning="importing the framework",
        unit="s",
        source=lambda record: record.phases_s.get("import"),
        numbers=(
            Number("import_s", interval, has_interval=True),
            Number("import_worst_s", largest),
        ),
        heading="import s",
        better="lower",
    ),
)
'''


def fake(**changes):
    """A metric of the step time's name and more."""
    fields = {
        "name": "import_s",
        "meaning": "importing the framework",
        "unit": "s",
        "source": lambda record: record.phases_s.get("import"),
        "numbers": (Number("import_s", median),),
    }
    return Metric(**{**fields, **changes})


@pytest.fixture
def extension(tmp_path):
    file = tmp_path / "lab" / "metrics" / "imports.py"
    file.parent.mkdir(parents=True)
    file.write_text(FAKE)
    return str(tmp_path / "lab")


@pytest.fixture
def store(tmp_path):
    """A store with a run of two cases, whose launches imported in 1, 2 and 4 s."""
    found = Store(tmp_path / "runs")
    found.create_run(plan([BASE, FAST], skipped=[SKIPPED]))
    for cohort, import_s in enumerate((1.0, 2.0, 4.0)):
        for one in (BASE, FAST):
            found.append(record(one, cohort, phases_s={"import": import_s, "turn": 5.0}))
    return found


def test_a_metric_of_an_extension_is_in_the_document(extension, store, capsys):
    assert cli.main(["show", "--store", str(store.folder), "--extend", extension, "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    for cell in cells[:2]:
        assert cell["import_s"] == pytest.approx(2.0)  # the geometric mean of 1, 2 and 4
        assert cell["import_s_low"] * cell["import_s_high"] == pytest.approx(4.0)
        assert cell["import_s_low"] < 2.0
        assert cell["import_worst_s"] == 4.0
    keys = ("import_s", "import_s_low", "import_s_high", "import_worst_s")
    assert {cells[2][key] for key in keys} == {None}


def test_a_metric_of_an_extension_is_a_column_of_the_table(extension, store, capsys):
    assert cli.main(["show", "--store", str(store.folder), "--extend", extension]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("import s" in line for line in lines if line.startswith("case "))
    row = next(line for line in lines if line.startswith("pytorch eager "))
    assert " not known " in row  # 0.4 to 11.2
    assert cli.main(["show", "--store", str(store.folder)]) == 0
    assert "import s" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [(median, 2.0), (median_warm, 3.0), (median_cold, 1.0), (largest, 4.0), (total, 7.0)],
)
def test_a_number_is_of_the_launches_that_it_is_over(aggregation, expected):
    launches = [
        dataclasses.replace(record(BASE, c, phases_s={"import": s}), cold_cache=s == 1.0)
        for c, s in enumerate((1.0, 2.0, 4.0))
    ]
    launches.append(record(BASE, 3, phases_s={}))
    launches.append(record(BASE, 0, phases_s={"import": 99.0}, replica=1))
    metric = fake(numbers=(Number("import_s", aggregation),))
    summary = summarise(plan([BASE]), launches, {}, metrics=(metric,))
    assert summary.cells[0].measured.metrics == {"import_s": expected}


@pytest.mark.parametrize(
    "aggregation", [median, median_warm, median_cold, largest, total, interval]
)
def test_a_metric_that_no_launch_has_is_none(aggregation):
    metric = fake(source=lambda record: None, numbers=(Number("import_s", aggregation),))
    summary = summarise(plan([BASE]), cohorts({BASE: 0.1}), {}, metrics=(metric,))
    assert summary.cells[0].measured.metrics == {"import_s": None}


def test_a_number_that_is_not_finite_counts_as_none():
    metric = fake(source=lambda record: float("inf"))
    summary = summarise(plan([BASE]), cohorts({BASE: 0.1}), {}, metrics=(metric,))
    assert summary.cells[0].measured.metrics == {"import_s": None}


def test_a_source_that_fails_is_named_with_the_launch():
    metric = fake(source=lambda record: record.phases_s["nap"])
    with pytest.raises(UsageError, match=r"^metric import_s: failed on c0-pytorch.*'nap'"):
        summarise(plan([BASE]), cohorts({BASE: 0.1}), {}, metrics=(metric,))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("import_s", "received 'import_s', expected a Metric"),
        (fake(name="export_s"), "the name export_s is taken"),
        (fake(name="step_s"), "the name step_s is taken"),
        (fake(numbers=(Number("export_s", median),)), "the key export_s is taken"),
        (fake(format="nonsense"), "format='nonsense', expected one of number, seconds, gib"),
        (fake(better="faster"), "better='faster', expected one of higher, lower, None"),
        (fake(rows="few"), "rows='few', expected one of all, steps, requests"),
        (fake(numbers=("import_s",)), "expected a tuple of Number"),
    ],
)
def test_a_metric_that_is_none_or_taken_is_refused(found, message):
    with pytest.raises(UsageError, match=message):
        with_extensions([found])
    assert with_extensions([]) == METRICS


def _fails(own, column):
    raise KeyError(column)


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (Number("import_s", _fails), "KeyError: 'import_s'"),
        (Number("import_s", interval, has_interval=True), "ValueError: "),  # log(-1)
        (Number("import_s", lambda own, column: Interval(1.0, None, None, 1)), "expected a number"),
        (Number("import_s", median, has_interval=True), "expected an Interval"),
        (Number("import_s", lambda own, column: "long"), "TypeError: "),
    ],
)
def test_an_aggregation_that_fails_is_named_with_its_key(number, cause):
    metric = fake(source=lambda record: -1.0, numbers=(number,))
    with pytest.raises(UsageError, match=f"^metric import_s: import_s failed: .*{cause}"):
        summarise(plan([BASE]), cohorts({BASE: 0.1}), {}, metrics=(metric,))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("changes", [{}, {"is_integer": True}])
def test_an_aggregate_that_is_not_finite_counts_as_none(value, changes):
    metric = fake(numbers=(Number("import_s", lambda own, column: value),), **changes)
    summary = summarise(plan([BASE]), cohorts({BASE: 0.1}), {}, metrics=(metric,))
    assert summary.cells[0].measured.metrics == {"import_s": None}


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize("key", ["status", "workload", "latency_p75_ms"])
def test_a_key_that_the_document_has_for_something_else_is_refused(
    key, as_json, store, extension, capsys
):
    file = f"{extension}/metrics/imports.py"
    text = FAKE.replace("import_worst_s", key)
    with open(file, "w") as stream:
        stream.write(text)
    words = ["show", "--store", str(store.folder), "--extend", extension, *as_json]
    assert cli.main(words) == 2
    assert capsys.readouterr().err == f"metrics: the key {key} is taken already\n"
