"""Keras 3, the part that its frameworks share: capabilities and environment beside the backend's.

Keras computes with another framework, its backend. A process chooses it once, before it imports
keras. So Keras on each backend is a framework of its own here, and all run the same
implementations. Imports no framework.
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
"""The name in the implementation files that Keras's frameworks share."""

LAST_LOSS = "last_loss"
"""The key of a step's own loss in the train step's logs; `loss` is Keras's running mean."""

NO_FLOAT64 = Unsupported(
    reason="on this backend Keras's type promotion gives float32, in fp64 as well",
    link="https://github.com/keras-team/keras/issues/23704",
    precision="fp64",
)


def capabilities(
    backend: Capabilities, *, name: str, distributions: tuple[str, ...], has_float64: bool
) -> Capabilities:
    """The capabilities of Keras on this backend: the backend's, on one device.

    Keras never holds the oracle: it would add nothing to its backend's own results.

    Args:
        backend: the capabilities of the framework that computes.
        name: the name of the framework to be described.
        distributions: the backend's packages that identify a result.
        has_float64: whether Keras computes entirely in float64 if asked to.
    """
    library = capabilities_on(
        backend,
        name=name,
        # If only the backend is missing, the probe of this framework fails with its import error.
        import_name="keras",
        distributions=("keras", *distributions),
        unsupported=() if has_float64 else (NO_FLOAT64,),
    )
    # base=None: Keras is not shown as a library on its backend, so that its rows keep their names
    # and their single ratio. With the base set, each row would also show the cost of Keras.
    return dataclasses.replace(library, family=FAMILY, base=None, max_num_devices=1)


def environment(backend: str, settings: Settings) -> dict[str, str]:
    """The variables to set before keras is imported; `backend` is Keras's name of it.

    https://keras.io/api/utils/config_utils/: without KERAS_HOME Keras would read the user's own
    settings, which would change what is measured.
    """
    return {
        "KERAS_BACKEND": backend,
        "KERAS_HOME": str(Path(settings.scratch_folder) / "keras"),
    }
