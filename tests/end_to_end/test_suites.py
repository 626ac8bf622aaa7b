"""The suites that come with Dyno, planned on this machine: nothing of them is run."""

from __future__ import annotations

import re

import pytest
from dyno_cli import dyno

from benchmarks.planning.catalog import discover

WORKS = {
    ("resnet50_train", "full", 256, None),
    ("transformer_finetune", "7b", 1, 512),
    ("transformer_finetune", "7b", 1, 2048),
    ("transformer_lora", "7b", 8, 512),
    ("transformer_lora", "7b", 2, 2048),
}
MEMORY = re.compile(r"needs up to \d+\.\d GiB of (cpu|a device's) memory")


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The cells of the documents' suite on a CPU with 16 GiB."""
    folder = tmp_path_factory.mktemp("plan")
    done = dyno(
        *("plan", "suite=documents", "device=cpu", "machine.memory_limit_gib=16", "--json"),
        f"machine.cache_folder={folder / 'cache'}",
        store=folder / "runs",
    )
    return done.json["cells"]


def work_of(cell):
    return (cell["workload"], cell["size"], cell["batch_size"], cell.get("sequence_length"))


def test_the_documents_work_is_there_at_its_size(cells):
    assert {work_of(cell) for cell in cells} == WORKS


def test_every_framework_that_trains_is_there_for_every_work(cells):
    catalog = discover()
    for work in WORKS:
        mine = {cell["framework"] for cell in cells if work_of(cell) == work}
        able = {framework for workload, framework in catalog.implementations if workload == work[0]}
        assert mine == able, work
        assert len(mine) >= 7


def test_every_cell_says_how_much_memory_it_needs_and_why_it_is_not_run(cells):
    for cell in cells:
        assert cell["action"] == "skip", cell["case_id"]
        assert cell["memory_bytes"] > 16 * 2**30
        if cell["kind"] != "not_installed":
            assert MEMORY.search(cell["reason"]), (cell["case_id"], cell["reason"])
