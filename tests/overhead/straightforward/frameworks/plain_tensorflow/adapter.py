"""TensorFlow's own adapter: fences and devices are the harness's business, and no tuning."""

from __future__ import annotations

import importlib
from functools import partial

from benchmarks.frameworks.tensorflow import adapter

# By name, because an extension's package is importable under the name that it was found by only.
Adapter = partial(adapter.Adapter, importlib.import_module(__package__).environment)
