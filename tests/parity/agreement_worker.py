"""Runs one case and saves what its program holds after step 1, after step 2 and, loaded anew, after
step 1 again. A process of its own for each case: frameworks do not share one.

Run as `python -m tests.parity.agreement_worker REQUEST_JSON`.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.contract.case import case_from_json
from benchmarks.contract.framework import Settings
from benchmarks.contract.workload import problem_of
from benchmarks.measuring import data


def main(request: dict) -> None:
    case = case_from_json(request["case"])
    framework = importlib.import_module(f"{request['framework_module']}.adapter").Adapter()
    framework.configure(Settings(**request["settings"]))
    spec = importlib.import_module(request["spec_module"]).SPECS[case.work.workload]
    implementation = importlib.import_module(request["implementation_module"])
    program = implementation.build(problem_of(case, spec), framework)
    weights = data.read_weights(Path(request["data_folder"]))
    batches = data.read_batches(Path(request["data_folder"]))

    def step(name: str) -> None:
        framework.wait(program.step())
        np.savez(Path(request["folder"]) / f"{name}.npz", **program.read())

    program.load(weights)
    program.feed(batches)
    step("first")
    step("second")
    program.load(weights)
    program.feed(batches)
    step("again")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
