"""The models that engines run, made of canonical weights: by exporters in processes of their own.

Everything lies in the launch's private folder. NumPy, the contract and the exporters' names only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contract.program import Arrays, Exporter, Problem
from benchmarks.frameworks.export_process import export
from workloads.resnet50 import inference_spec as spec


def write_onnx(problem: Problem, weights: Arrays) -> Path:
    """The model as ONNX, which PyTorch writes in float32; for int8 quantised by ONNX Runtime.

    Its quantised ONNX is every engine's that takes ONNX: they run the same integers.
    """
    folder = Path(problem.scratch_folder)
    file = folder / "model.onnx"
    exporter = problem.exporters["pytorch"]
    if problem.case.way.precision != "int8":
        return _written(problem, weights, file, exporter=exporter)
    whole = _written(problem, weights, folder / "float32.onnx", exporter=exporter)
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
    return file


def write_litert(problem: Problem, weights: Arrays) -> Path:
    """The model as LiteRT takes it, which TensorFlow converts; for int8 quantised by the same."""
    file, further = Path(problem.scratch_folder) / "model.tflite", {}
    if problem.case.way.precision == "int8":
        further = {"images": str(calibration_file(problem))}
    return _written(problem, weights, file, exporter=problem.exporters["tensorflow"], **further)


def calibration_file(problem: Problem) -> Path:
    """The images by which the ranges of activations are found, HWC, in an .npy file."""
    file = Path(problem.scratch_folder) / "calibration.npy"
    np.save(file, spec.calibration_images(problem.case.work), allow_pickle=False)
    return file


def _written(
    problem: Problem, weights: Arrays, file: Path, *, exporter: Exporter, **further: Any
) -> Path:
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
    return file
