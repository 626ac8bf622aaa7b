"""Canonical weights and batches as .npy files: every implementation gets the same bytes.

Run as `python -m benchmarks.worker.canonical SPEC_MODULE WORK_JSON FOLDER PARENT_PID`, in a process
of its own, so that the arrays do not count as memory of the parent or of a launch.
Standard library, NumPy, the contract and one workload's spec.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.contract.case import Work, work_from_json
from benchmarks.contract.workload import WorkloadSpec
from benchmarks.worker import process

ORDER_FILE = "order.json"
"""The names of the weights as the spec gives them: in the order of the forward pass."""


def write(spec: WorkloadSpec, work: Work, folder: Path) -> None:
    """Write the arrays of one Work below folder; the folder appears complete or not at all."""
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    try:
        names = []
        for name, array in spec.weights(work):
            _save(partial / "weights" / f"{name}.npy", array)
            names.append(name)
        (partial / ORDER_FILE).write_text(json.dumps(names), encoding="utf-8")
        for index in range(spec.task.num_batches):
            for name, array in spec.batch(work, index).items():
                _save(partial / f"batch{index}" / f"{name}.npy", array)
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process has written a complete copy meanwhile
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """The canonical weights in the order of the forward pass, memory-mapped from their files."""
    names = json.loads((folder / ORDER_FILE).read_text(encoding="utf-8"))
    return {name: _load(folder / "weights" / f"{name}.npy") for name in names}


def read_batches(folder: Path) -> list[dict[str, np.ndarray]]:
    """The canonical batches in their order, memory-mapped from their files."""
    num_batches = sum(1 for _ in folder.glob("batch*"))
    return [dict(_load_below(folder / f"batch{index}")) for index in range(num_batches)]


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)


def _load_below(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    for path in sorted(folder.rglob("*.npy")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        yield name, _load(path)


def _load(path: Path) -> np.ndarray:
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def main(arguments: list[str]) -> None:
    """Write the arrays that the first three arguments name; the fourth is the parent's pid."""
    spec_module, work_json, folder, parent_pid = arguments
    process.prepare(int(parent_pid))
    work = work_from_json(json.loads(work_json))
    spec = importlib.import_module(spec_module).SPECS[work.workload]
    write(spec, work, Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
