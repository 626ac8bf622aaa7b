"""Keras 3, what its frameworks share: capabilities and environment on top of their backend's.

Keras computes with another framework, its backend, which a process chooses once, before it imports
keras: each backend is a framework of its own here, and all run the same implementations.
Imports no framework.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks.contract.framework import (
    Capabilities,
    Settings,
    Unsupported,
    capabilities_on,
)

FAMILY = "keras"
"""The name that the implementation files of the three carry."""

LAST_LOSS = "last_loss"
"""What the train step's logs call the loss of the step itself; `loss` is Keras's running mean."""

NO_FLOAT64 = Unsupported(
    reason="on this backend Keras computes in float32 wherever it promotes types, in fp64 as well",
    link="https://github.com/keras-team/keras/issues/23704",
    precision="fp64",
)


def capabilities(
    backend: Capabilities, *, name: str, distributions: tuple[str, ...], has_float64: bool
) -> Capabilities:
    """What Keras can do on this backend: what the backend can, with one device.

    Args:
        backend: the capabilities of the framework that computes.
        name: of the framework to be described.
        distributions: the backend's packages that identify a result.
        has_float64: whether Keras's float64 is float64 throughout, which proves nothing that the
            backend's own does not: Keras is no second holder of the oracle.
    """
    library = capabilities_on(
        backend,
        name=name,
        # Where the backend is missing beside it, the framework is there and dies when it is asked.
        import_name="keras",
        distributions=("keras", *distributions),
        unsupported=() if has_float64 else (NO_FLOAT64,),
    )
    # No library on its backend: rows are named and compared as ever, each Keras beside the others
    # of its family and beside the group's base. The base would only add what Keras costs.
    return dataclasses.replace(library, family=FAMILY, base=None, max_num_devices=1)


def environment(backend: str, settings: Settings) -> dict[str, str]:
    """The variables that must stand before keras is imported, by Keras's name of the backend.

    https://keras.io/api/utils/config_utils/: without a home of its own Keras reads and writes the
    user's, whose settings would change what is measured.
    """
    return {
        "KERAS_BACKEND": backend,
        "KERAS_HOME": str(Path(settings.scratch_folder) / "keras"),
    }
