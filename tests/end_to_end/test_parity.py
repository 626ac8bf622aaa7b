"""`dyno parity` and the gate in `dyno run`, with fakes that do other work than they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dyno_cli as cli
import pytest

from benchmarks.storage.store import Store

CHEATS = {
    "fake_cheat_early": "a step changes nothing: its work is left out",
    "fake_cheat_forward": "the step left weight unchanged",
    "fake_cheat_batch": "the batch does not matter",
    "fake_cheat_watched": "a step changes the weights and not the moments",
    "fake_cheat_sly": "a step changes the weights and not the moments",
    "fake_cheat_thawed": "frozen weights that later steps changed (base)",
    "fake_astray": "gradient (weight): off by 0.01",
}
HONEST = ("fake_steady", "fake_double")


def parity(*arguments: str, cache: Path) -> cli.Outcome:
    """`dyno parity` of the fakes, with a cache folder of its own."""
    return cli.prove(*cli.FAKE_MATRIX, *arguments, "execution=eager", "device=cpu", cache=cache)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parity") / "cache"


@pytest.fixture(scope="module")
def proven(cache: Path) -> cli.Outcome:
    """The honest fakes and two others, in both precisions."""
    names = ",".join([*HONEST, "fake_astray", "fake_cheat_forward", "fake_build_error"])
    return parity(f"framework={names}", "precision=fp32,fp64", "--json", cache=cache)


def cells_of(outcome: cli.Outcome) -> dict[tuple[str, str], Any]:
    return {(c["framework"], c["precision"]): c for c in outcome.json["cells"]}


def test_a_cell_that_fails_gives_exit_code_3(proven: cli.Outcome) -> None:
    assert proven.code == 3, proven.err
    assert proven.json["schema"] == "dyno.parity/1"


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
@pytest.mark.parametrize("name", HONEST)
def test_honest_cells_pass_with_every_check(name: str, precision: str, proven: cli.Outcome) -> None:
    cell = cells_of(proven)[name, precision]
    assert (cell["status"], cell["reason"]) == ("pass", None)
    names = [check["name"] for check in cell["checks"]]
    assert {"gemm", "convolution", "parameters", "loss", "gradient", "update"} <= set(names)
    assert {"flop", "reproduced", "other_batch", "losses", "momentum"} <= set(names)
    assert len(names) == len(set(names))
    assert cell["effective"]["parameters"] == {"fp32": "float32", "fp64": "float64"}[precision]
    assert {one["like"] for one in cell["precision_like"].values()} == {precision}


def test_the_oracle_is_held_by_the_first_two_that_agree(proven: cli.Outcome) -> None:
    cell = cells_of(proven)["fake_steady", "fp64"]
    assert cell["oracle"]["holders"] == ["fake_double", "fake_steady"]
    assert cell["oracle"]["content"]


def test_a_cell_that_does_other_work_fails_and_says_how(proven: cli.Outcome) -> None:
    cell = cells_of(proven)["fake_astray", "fp64"]
    assert cell["status"] == "fail"
    assert cell["first_difference"] == "gradient of weight"
    assert "every gradient is 1.01 times the expected one" in cell["causes"][0]


def test_a_cell_that_cannot_be_built_fails_with_its_error(proven: cli.Outcome) -> None:
    cell = cells_of(proven)["fake_build_error", "fp32"]
    assert cell["status"] == "fail"
    assert "crashed in phase build: RuntimeError: no kernel image" in cell["reason"]


def test_the_table_names_cases_errors_and_causes(cache: Path, proven: cli.Outcome) -> None:
    done = parity("framework=fake_steady,fake_astray", "precision=fp64", cache=cache)
    assert done.code == 3
    assert "computing the float64 oracle" not in done.err
    text = " ".join(done.out.split())
    assert "fake_steady eager fp64 pass" in text
    assert "FAIL fake_train/tiny/b2/fake_astray/eager/fp64/cpu" in text
    assert "likely: every gradient is 1.01 times" in text
    assert "1 cell passed, 1 cell failed" in text


def test_a_damaged_oracle_is_computed_anew(cache: Path, proven: cli.Outcome) -> None:
    (folder,) = (path for path in (cache / "oracle").iterdir() if path.is_dir())
    file = folder / "step1" / "weights" / "weight.npy"
    *kept, last = file.read_bytes()
    file.write_bytes(bytes([*kept, last ^ 1]))
    done = parity("framework=fake_steady", "precision=fp64", cache=cache)
    assert done.code == 0, done.out
    assert "is damaged: it is computed again" in done.err


@pytest.mark.parametrize("text", ["", "[]", "null", "{}"])
def test_a_damaged_index_of_an_oracle_is_made_anew(
    text: str, cache: Path, proven: cli.Outcome
) -> None:
    (file,) = (cache / "oracle").glob("*-followed.json")
    file.write_text(text)
    done = parity("framework=fake_steady", "precision=fp64", cache=cache)
    assert done.code == 0, done.out
    assert "is damaged: it is computed again" in done.err


def test_an_oracle_of_other_code_is_computed_anew(cache: Path, proven: cli.Outcome) -> None:
    (file,) = (cache / "oracle").glob("*-followed.json")
    known = json.loads(file.read_text())
    known["code"][known["holders"][0]] = "that of another day"
    file.write_text(json.dumps(known))
    done = parity("framework=fake_steady", "precision=fp64", cache=cache)
    assert done.code == 0, done.out
    assert "computing the float64 oracle" in done.err
    done = parity("framework=fake_steady", "precision=fp64", cache=cache)
    assert "computing the float64 oracle" not in done.err


def test_an_oracle_is_finished_past_the_time_limit_and_found_the_next_time(tmp_path: Path) -> None:
    own = f"machine.cache_folder={tmp_path / 'cache'}"
    run = (*cli.FAKE_AXES, "framework=fake_steady", "protocol=smoke", own)
    store = tmp_path / "runs"
    first = cli.dyno("run", *run, "--max-time", "0.7s", store=store)
    assert "computing the float64 oracle" in first.err
    assert Store(store).records() == []
    second = cli.dyno("run", *run, "--json", store=store)
    assert "computing the float64 oracle" not in second.err
    assert [cell["parity"] for cell in second.json["cells"]] == ["pass"]


def test_without_two_witnesses_nothing_is_proven(tmp_path: Path) -> None:
    interpreter = "machine.python.fake_double=/nowhere/python"
    other = "machine.python.fake_astray=/nowhere/python"
    arguments = ("framework=fake_steady", "precision=fp32", interpreter, other)
    done = parity(*arguments, cache=tmp_path / "cache")
    assert done.code == 5
    assert "unproven: it needs two frameworks with float64 on the CPU" in done.out
    run = (*cli.FAKE_AXES, *arguments[:1], *arguments[2:], "protocol=smoke", "--json")
    store = tmp_path / "runs"
    done = cli.dyno("run", *run, f"machine.cache_folder={tmp_path / 'cache'}", store=store)
    (cell,) = done.json["cells"]
    assert done.code == 3
    assert (cell["status"], cell["parity"], cell["grade"]) == ("unproven", "unproven", "F")
    assert cell["items_per_s"] > 0
    assert done.json["ratios"] == []
    assert "it needs two frameworks" in cell["reason"]


def test_a_cell_that_cannot_run_is_skipped_with_its_reason(tmp_path: Path) -> None:
    done = parity("framework=fake_steady", "precision=bf16", "--json", cache=tmp_path / "cache")
    (cell,) = json.loads(done.out)["cells"]
    assert done.code == 5
    assert cell["status"] == "skip"
    assert "has no bf16" in cell["reason"]


def test_a_run_marks_cheats_and_ranks_nothing_from_them(tmp_path: Path) -> None:
    names = ",".join([*HONEST, *CHEATS])
    run = (*cli.FAKE_AXES, f"framework={names}", "protocol=quick", "protocol.num_cohorts=1")
    done = cli.dyno("run", *run, "machine.max_resident=20", "--json", store=tmp_path / "runs")
    assert done.code == 3, done.err
    cells = {cell["framework"]: cell for cell in done.json["cells"]}
    for name, words in CHEATS.items():
        assert (cells[name]["status"], cells[name]["parity"]) == ("invalid_work", "fail")
        assert words in cells[name]["reason"]
    assert {cells[name]["parity"] for name in HONEST} == {"pass"}
    ranked = {one["case"].split("/")[3] for one in done.json["ratios"]}
    assert ranked == {"fake_double"}


def test_work_without_an_oracle_inherits_what_was_proven_at_another_size(tmp_path: Path) -> None:
    axes = [axis for axis in cli.FAKE_AXES if not axis.startswith("size=")]
    names = ",".join([*HONEST, "fake_astray"])
    cache = f"machine.cache_folder={tmp_path / 'cache'}"
    run = (*axes, "size=large", f"framework={names}", "protocol=quick", "protocol.num_cohorts=1")
    done = cli.dyno("run", *run, cache, "--json", store=tmp_path / "runs")
    assert done.code == 3, done.err
    cells = {cell["framework"]: cell for cell in done.json["cells"]}
    for name in HONEST:
        assert (cells[name]["status"], cells[name]["parity"]) == ("ok", "inherited")
        assert "proven at tiny b2, because its float64 oracle takes" in cells[name]["parity_reason"]
    astray = cells["fake_astray"]
    assert (astray["status"], astray["parity"]) == ("invalid_work", "fail")
    assert "at tiny b2: gradient (weight): off by 0.01" in astray["reason"]
    assert {one["case"].split("/")[3] for one in done.json["ratios"]} == {"fake_double"}

    again = parity(
        "size=large", f"framework={names}", "precision=fp32", "--json", cache=tmp_path / "cache"
    )
    assert again.code == 3
    statuses = {cell["framework"]: cell["status"] for cell in again.json["cells"]}
    assert statuses == {
        "fake_steady": "inherited",
        "fake_double": "inherited",
        "fake_astray": "fail",
    }
