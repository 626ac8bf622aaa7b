"""Writes the fakes as an extension folder: each is a name, and needs four files of five lines.

What is no such stub (behaviour, specs, a fake framework or workload that is written out) is copied.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

OWN = Path(__file__).parent
NOT_COPIED = ("extension.py", "__main__.py", "README.md", "__pycache__")
TRAINING = (
    *("fake_astray", "fake_build_error", "fake_caching", "fake_cheat_batch", "fake_cheat_early"),
    *(
        "fake_cheat_forward",
        "fake_cheat_later",
        "fake_cheat_sly",
        "fake_cheat_thawed",
        "fake_cheat_watched",
    ),
    *("fake_double", "fake_exit", "fake_flood", "fake_hang_build", "fake_hang_finish"),
    *("fake_hang_first_step", "fake_hang_import", "fake_hang_load", "fake_hang_turn"),
    *("fake_killed", "fake_lying_fence", "fake_misplaced", "fake_nan", "fake_nan_batch"),
    *("fake_nan_later", "fake_oom_device", "fake_oom_host", "fake_segfault_import"),
    *("fake_segfault_turn", "fake_slow", "fake_steady", "fake_stray", "fake_unsteady"),
)
"""The fakes that train, whose program is in behaviour.py."""
ANSWERING = (
    *("fake_astray", "fake_cheat_answer", "fake_cheat_batch", "fake_cheat_later"),
    *("fake_cheat_memory",),
    *("fake_cheat_watched", "fake_double", "fake_stale", "fake_steady", "fake_unfrozen"),
)
"""The fakes that answer requests, whose program is in answering.py."""
FRAMEWORK = """\
from fakes.capabilities import capabilities, environment

CAPABILITIES = capabilities({name!r})

__all__ = ["CAPABILITIES", "environment"]
"""
ADAPTER = """\
from functools import partial

from fakes import behaviour

Adapter = partial(behaviour.Adapter, {name!r})
"""
IMPLEMENTATION = """\
from fakes.{module} import build

IMPLEMENTS = {workloads!r}

__all__ = ["IMPLEMENTS", "build"]
"""


def write(parent: Path) -> Path:
    """Write the extension folder `fakes` into this one, and return it."""
    folder = parent / "fakes"
    shutil.copytree(OWN, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
    for name in sorted({*TRAINING, *ANSWERING}):
        _write(folder / "frameworks" / name / "__init__.py", FRAMEWORK, name=name)
        _write(folder / "frameworks" / name / "adapter.py", ADAPTER, name=name)
    for names, model, module, workloads in (
        (TRAINING, "fake", "behaviour", {"fake_train"}),
        (ANSWERING, "fake_requests", "answering", {"fake_infer", "fake_decode"}),
    ):
        for name in names:
            file = folder / "workloads" / model / f"{name}_impl.py"
            _write(file, IMPLEMENTATION, module=module, workloads=workloads)
    return folder


@functools.cache
def extension() -> Path:
    """The extension folder of this process, which is there until it ends."""
    parent = tempfile.mkdtemp(prefix="fakes-")
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    return write(Path(parent))


def _write(file: Path, text: str, **values: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.format(**values))
