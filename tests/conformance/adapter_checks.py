"""What every adapter must do, checked in a process of its own.

Run as `python -m tests.conformance.adapter_checks MODULE SETTINGS_JSON`; prints one JSON object:
for each check null, or how it failed.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from typing import Any

import numpy as np

from benchmarks.contract.framework import Settings
from benchmarks.equivalence import precision

FLOAT32 = np.arange(12, dtype=np.float32).reshape(3, 4)


def check_values_keep_their_shape_and_dtype(adapter: Any, settings: Settings) -> None:
    for array in (FLOAT32, np.arange(5, dtype=np.int32), np.float32(3.5).reshape(())):
        back = adapter.get(adapter.put(array))
        assert isinstance(back, np.ndarray)
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(back, array)


def check_put_copies(adapter: Any, settings: Settings) -> None:
    array = FLOAT32.copy()
    value = adapter.put(array)
    array[:] = -1
    np.testing.assert_array_equal(adapter.get(value), FLOAT32)


def check_put_takes_arrays_that_are_mapped_and_read_only(adapter: Any, settings: Settings) -> None:
    array = FLOAT32.copy()
    array.flags.writeable = False
    np.testing.assert_array_equal(adapter.get(adapter.put(array)), FLOAT32)
    np.testing.assert_array_equal(adapter.get(adapter.put(array.T)), FLOAT32.T)


def check_get_copies(adapter: Any, settings: Settings) -> None:
    value = adapter.put(FLOAT32.copy())
    adapter.get(value)[:] = -1
    np.testing.assert_array_equal(adapter.get(value), FLOAT32)


def check_get_widens_what_numpy_has_no_name_for(adapter: Any, settings: Settings) -> None:
    product = adapter.get(adapter.matmul(adapter.put(FLOAT32), adapter.put(FLOAT32.T)))
    assert product.dtype in (np.float32, np.float64)


def check_waits_for_nothing_for_values_and_for_trees(adapter: Any, settings: Settings) -> None:
    adapter.wait(None)
    value = adapter.put(FLOAT32)
    adapter.wait(value)
    adapter.wait([value, value])


def check_values_lie_on_the_device_asked_for(adapter: Any, settings: Settings) -> None:
    a = adapter.put(FLOAT32)
    assert adapter.placement(a) == settings.device
    assert adapter.placement(adapter.matmul(a, adapter.put(FLOAT32.T))) == settings.device


def check_sees_the_device_asked_for(adapter: Any, settings: Settings) -> None:
    devices = adapter.devices()
    assert devices[settings.device] >= settings.num_devices
    assert all(type(number) is int and number > 0 for number in devices.values())


def check_products_are_as_exact_as_their_name(adapter: Any, settings: Settings) -> None:
    for product, compute in (
        (precision.matrix_product(), adapter.matmul),
        (precision.convolution(), adapter.convolve),
    ):
        operands = adapter.put(product.left_operand), adapter.put(product.right_operand)
        result = adapter.get(compute(*operands))
        assert result.shape == product.exact.shape
        like = precision.precision_like(product.error(result))
        assert like == settings.precision.removesuffix("_pure")


def check_a_convolution_keeps_the_size(adapter: Any, settings: Settings) -> None:
    images, kernel = np.ones((2, 5, 5, 3), np.float32), np.ones((3, 3, 3, 4), np.float32)
    result = adapter.get(adapter.convolve(adapter.put(images), adapter.put(kernel)))
    assert result.shape == (2, 5, 5, 4)
    assert (float(result[0, 0, 0, 0]), float(result[0, 2, 2, 0])) == (12.0, 27.0)


def check_counts_are_numbers_or_unknown(adapter: Any, settings: Settings) -> None:
    for count in (adapter.num_compilations(), adapter.peak_memory_bytes()):
        assert count is None or (type(count) is int and count >= 0)


def check_settles_more_than_once(adapter: Any, settings: Settings) -> None:
    adapter.settle()
    adapter.settle()


def check_describes_itself_in_text(adapter: Any, settings: Settings) -> None:
    described = adapter.describe()
    assert all(isinstance(text, str) for pair in described.items() for text in pair)
    assert described["products"] in ("float32", "bfloat16", "float16", "float64")


def main(module: str, settings_json: str) -> None:
    """Make every check on one adapter, and print what came of it."""
    settings = Settings(**json.loads(settings_json))
    adapter = importlib.import_module(f"{module}.adapter").Adapter()
    adapter.configure(settings)
    found: dict[str, str | None] = {}
    for name, check in sorted(globals().items()):
        if not name.startswith("check_"):
            continue
        try:
            check(adapter, settings)
            found[name] = None
        except Exception:  # noqa: BLE001 - whatever it raises is the finding
            found[name] = traceback.format_exc(limit=-2)
    print(f"\n{json.dumps(found)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
