"""A third kind of work comes in an extension folder: run, proven and shown without an edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dyno_cli as cli
import pytest

KIND = cli.ROOT / "tests" / "fake_kind"
WORK = (
    *("--extend", str(KIND)),
    *("workload=fake_pipeline", "size=tiny", "precision=fp32", "device=cpu"),
    *("framework=fake_steady,fake_double,fake_astray", "execution=eager"),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run of `document` is stored."""
    return tmp_path_factory.mktemp("kind") / "store"


@pytest.fixture(scope="module")
def document(store: Path) -> Any:
    done = cli.dyno("run", *WORK, "protocol=smoke", "--json", store=store)
    assert done.code == 3, done.err  # of the one that scales wrongly
    return done.json


def cells(document: Any) -> dict[str, Any]:
    return {one["framework"]: one for one in document["cells"]}


@pytest.mark.parametrize("framework", ["fake_steady", "fake_double"])
def test_an_honest_program_of_a_third_kind_is_timed_and_proven(
    document: Any, framework: str
) -> None:
    cell = cells(document)[framework]
    assert (cell["status"], cell["parity"]) == ("ok", "pass")
    assert cell["items_per_s"] == pytest.approx(3 / cell["step_s"])
    assert cell["latency_num_samples"] is None


def test_a_metric_reads_the_number_that_the_kind_left_in_the_evidence(
    document: Any, store: Path
) -> None:
    size = 3 * 4 * 4  # images of four float32
    assert cells(document)["fake_steady"]["batch_bytes"] == size
    shown = cli.dyno("show", "--extend", str(KIND), store=store)
    lines = shown.out.splitlines()
    heading = next(number for number, line in enumerate(lines) if line.startswith("case "))
    assert "batch bytes" in lines[heading]
    table = lines[heading : lines.index("", heading)]
    [row] = [one for one in table if one.split()[:1] == ["fake_steady"]]
    assert str(size) in row.split()


def test_one_that_makes_other_work_is_refused(document: Any) -> None:
    cell = cells(document)["fake_astray"]
    assert (cell["status"], cell["parity"]) == ("invalid_work", "fail")
    assert cell["reason"].startswith("batch: off by")


def test_its_proof_names_the_likely_cause(tmp_path: Path) -> None:
    done = cli.prove(*WORK, "--json", cache=tmp_path / "cache")
    found = {one["framework"]: one for one in done.json["cells"]}
    assert found["fake_steady"]["status"] == found["fake_double"]["status"] == "pass"
    assert found["fake_astray"]["causes"] == ["the scale"]
