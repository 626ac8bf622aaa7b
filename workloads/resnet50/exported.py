"""Exports models with canonical weights for engines to run; each exporter is a separate process.

What an exporter takes is in the launch's private folder. NumPy, the contract and the exporters'
names only.

Shapes: B batch, H height, W width, C channels. Images are BHWC.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.contract.program import Arrays, Exporter, Problem, RequestProgram
from benchmarks.frameworks.export_process import export
from workloads.resnet50 import inference_spec as spec


class EngineProgram(RequestProgram):
    """Runs requests through an exported model that an engine has loaded.

    `export` writes `_file`; `step` takes the next of `_requests` and sets `_logits`.
    """

    file_name: ClassVar[str]
    """The name of the exported model's file."""

    def __init__(self, problem: Problem, framework: Any) -> None:
        self._framework = framework
        """The engine's adapter, whose interface is wider than `Framework`."""
        self._problem = problem
        self._is_int8 = problem.case.way.precision == "int8"
        self._file = Path(problem.export_folder) / self.file_name
        self._requests: Iterator[Any] = iter(())
        self._logits: Any = None

    @abstractmethod
    def request_of(self, images_BHWC: np.ndarray) -> Any:
        """These images on the device, in the form that `step` takes."""

    def feed(self, batches: Sequence[Arrays]) -> None:
        """Copy these requests to the device."""
        self._requests = itertools.cycle([self.request_of(one["images"]) for one in batches])

    def read(self) -> dict[str, np.ndarray]:
        """The logits of the last request."""
        return {"logits": self._framework.get(self._logits)}

    def artefact_bytes(self) -> int:
        """Size of the exported model."""
        return self._file.stat().st_size


def write_onnx(problem: Problem, weights: Arrays, file: Path) -> None:
    """Write the model as ONNX: PyTorch exports it in float32, ONNX Runtime quantises it for int8.

    All engines that load ONNX get the same quantised model.
    """
    exporter = problem.exporters["pytorch"]
    if problem.case.way.precision != "int8":
        _write(problem, weights, file, exporter=exporter)
        return
    folder = Path(problem.scratch_folder)
    whole = folder / "float32.onnx"
    _write(problem, weights, whole, exporter=exporter)
    images = calibration_file(problem)
    request = {
        "model": str(whole),
        "images": str(images),
        "batch_size": problem.case.work.batch_size,
        "output": str(file),
    }
    export(problem.exporters["onnxruntime"], request, folder=str(folder))
    for used in (images, whole):
        used.unlink()


def write_litert(problem: Problem, weights: Arrays, file: Path) -> None:
    """Write the model for LiteRT: TensorFlow converts it, and for int8 quantises it too."""
    further = {}
    if problem.case.way.precision == "int8":
        further = {"images": str(calibration_file(problem))}
    _write(problem, weights, file, exporter=problem.exporters["tensorflow"], **further)


def calibration_file(problem: Problem) -> Path:
    """Write the images that calibrate the ranges of activations, HWC, to an .npy file."""
    file = Path(problem.scratch_folder) / "calibration.npy"
    np.save(file, spec.calibration_images(problem.case.work), allow_pickle=False)
    return file


def _write(
    problem: Problem, weights: Arrays, file: Path, *, exporter: Exporter, **further: Any
) -> None:
    archive = Path(problem.scratch_folder) / "weights.npz"
    np.savez(archive, allow_pickle=False, **weights)
    request = {
        "parameters": dict(problem.parameters),
        "batch_size": problem.case.work.batch_size,
        "epsilon": problem.hyperparameters["batch_norm_epsilon"],
        "weights": str(archive),
        "output": str(file),
        **further,
    }
    export(exporter, request, folder=problem.scratch_folder)
    archive.unlink()
