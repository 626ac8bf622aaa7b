"""How images lie in memory where Keras computes with PyTorch: read from the result's strides."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from benchmarks.frameworks.keras_torch.adapter import Adapter  # noqa: E402 - needs torch

IMAGES = (2, 3, 8, 6)
"""N, C, H, W: all unlike, so that a transposed result could not have this shape."""


def channels_first(images):
    return torch.nn.functional.conv2d(images, torch.ones(4, 3, 3, 3))


def view_of_channels_last(images):
    """The same values in the same shape, N, C, H, W, that lie in memory as N, H, W, C do."""
    return channels_first(images).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("part", "layout"), [(channels_first, "NCHW"), (view_of_channels_last, "NHWC")]
)
def test_the_layout_is_that_of_memory_and_not_of_the_shape(part, layout):
    assert Adapter().memory_layout(part, torch.ones(IMAGES)) == layout
