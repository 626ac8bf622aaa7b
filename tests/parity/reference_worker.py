"""Saves what a program must hold after step 1 and step 2, by the reference of its workload.

Run as `python -m tests.parity.reference_worker REFERENCE_MODULE WORK_JSON DATA_FOLDER FOLDER`, so
that the tests' own process imports no framework.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.contract.case import work_from_json
from benchmarks.measuring import data


def main(arguments: list[str]) -> None:
    reference_module, work_json, data_folder, folder = arguments
    reference = importlib.import_module(reference_module)
    work = work_from_json(json.loads(work_json))
    weights = data.read_weights(Path(data_folder))
    zeroth, first = data.read_batches(Path(data_folder))[:2]
    steps = {"first": [zeroth], "second": [zeroth, first], "repeated": [zeroth, zeroth]}
    for name, batches in steps.items():
        read = reference.reference_steps(work, weights, batches)
        np.savez(Path(folder) / f"{name}.npz", **read)
    stable = json.dumps(reference.STABLE_GRADIENTS)
    (Path(folder) / "stable.json").write_text(stable, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
