"""Quantises an ONNX model of ResNet-50 to int8 by ONNX Runtime's tool; a separate program.

Images are BHWC in files, BCHW for the model.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnxruntime import quantization


def quantise(request_file: str) -> None:
    """Write an ONNX model quantised to int8 per channel; calibration sets the activations' ranges.

    The request is JSON: `model`, the `images` (HWC, one after another in an .npy file), the
    model's `batch_size`, and `output`.
    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc]  # untyped here
        """The images in batches."""

        def __init__(self) -> None:
            self._batches = batches_of(request["images"], request["batch_size"])

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next batch of images in the model's layout; None after the last."""
            return next(({"images": one.transpose(0, 3, 1, 2)} for one in self._batches), None)

    quantization.quantize_static(
        request["model"],
        request["output"],
        Images(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )


def batches_of(file: str, batch_size: int) -> Iterator[np.ndarray]:
    """The images of a file in batches of this size, BHWC; the first ones fill up the last batch."""
    images = np.load(file, allow_pickle=False)
    for start in range(0, len(images), batch_size):
        yield images.take(range(start, start + batch_size), axis=0, mode="wrap")


if __name__ == "__main__":
    quantise(sys.argv[1])
