"""The versions of a framework in one interpreter, and the devices that it sees.

Run as `python -m benchmarks.worker.probe MODULE --output FILE`, with MODULE a framework's
package. Writes {"python", "versions", "exporter_versions", "devices"} as JSON to FILE, because
frameworks print on stdout.
If it dies, its caller reports why. Standard library, the contract, one adapter.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.contract.framework import Capabilities
from benchmarks.worker import process


def probe(module: str) -> dict[str, Any]:
    """The versions of Python and of the framework's distributions, and the devices it sees.

    Imports the framework; any exception that it raises passes through.
    """
    capabilities: Capabilities = importlib.import_module(module).CAPABILITIES
    adapter = importlib.import_module(f"{module}.adapter").Adapter()
    return {
        "python": platform.python_version(),
        "versions": _versions(capabilities.distributions),
        "exporter_versions": _versions(capabilities.exporter_distributions),
        "devices": dict(adapter.devices()),
    }


def _versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """The versions of those installed: a framework may name a distribution for each device."""
    versions = {name: _version(name) for name in distributions}
    return {name: version for name, version in versions.items() if version is not None}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def main(arguments: list[str]) -> None:
    """Probe the module that the arguments name."""
    parser = argparse.ArgumentParser(prog="benchmarks.worker.probe")
    parser.add_argument("module", help="a framework's package, e.g. benchmarks.frameworks.jax")
    parser.add_argument("--output", required=True, type=Path, help="the JSON file to write")
    asked = parser.parse_args(arguments)
    process.prepare(os.getppid())
    asked.output.write_text(json.dumps(probe(asked.module)))


if __name__ == "__main__":
    main(sys.argv[1:])
