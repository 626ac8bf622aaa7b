"""Asks a framework for its versions and devices, in a process that may hang or die.

Successful probes are cached under a hash of everything that could change their answer; failures are
not, so that a repair shows at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.contract.plan import Interpreter
from benchmarks.host.environment import allowed_environment, inherited_environment
from benchmarks.storage.files import replace_whole
from benchmarks.worker import probe as worker_probe

PROBE_TIMEOUT_S = 120.0
MAX_REASON_CHARACTERS = 300
MAX_LOG_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Site:
    """Where one framework is installed."""

    module: str
    """The framework's package in Dyno or in an extension."""
    source_folder: Path
    """The folder of that package."""
    python: str
    packages_folders: tuple[Path, ...]
    """The interpreter's folders of installed packages."""
    python_path: tuple[str, ...]
    """PYTHONPATH of everything that runs there."""
    variables: tuple[tuple[str, str], ...] = ()
    """Environment variables that must be set when the framework is imported."""


def cached_probe(site: Site, cache: Path, *, keep: bool) -> Interpreter | str:
    """The cached answer, else that of a new probe, or one line on how that failed.

    A new answer is written to the cache folder if `keep` is true.
    """
    file = cache / f"{_key(site)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Interpreter(**json.loads(file.read_bytes()))
    result = probe(site)
    if keep and isinstance(result, Interpreter):
        with contextlib.suppress(OSError):  # without a cache it only takes longer
            replace_whole(file, json.dumps(asdict(result)))
    return result


def probe(site: Site) -> Interpreter | str:
    """The framework's versions and devices there, or how the probe failed."""
    with tempfile.TemporaryDirectory(prefix="dyno-probe-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        output, log = folder / "probe.json", folder / "log"
        command = [
            *(site.python, "-m", worker_probe.__name__),
            *(site.module, "--output", str(output)),
        ]
        environment = allowed_environment(
            {"PYTHONPATH": os.pathsep.join(site.python_path), **dict(site.variables)},
            private_folder=folder,
        )
        with log.open("wb") as stream:
            code = _run(command, environment, stream.fileno(), folder)
        if code is None:
            return f"import did not end within {PROBE_TIMEOUT_S:g} s"
        if code != 0:
            return f"import died: {_cause(code, log)}"
        return _read_probe(site.python, output)


def _key(site: Site) -> str:
    """A hash of everything that a probe's answer depends on."""
    parts = [
        site.module,
        site.python,
        list(site.python_path),
        [_installed(folder) for folder in site.packages_folders],
        _files_hash(site.source_folder),
        _files_hash(Path(worker_probe.__file__)),
        sorted(item for item in inherited_environment().items() if item[0] != "PATH"),
        _device_files(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _installed(folder: Path) -> list[str | int]:
    """The distributions in a folder with their versions, and when it last changed."""
    if not folder.is_dir():
        return []
    names = sorted(name for name in os.listdir(folder) if name.endswith((".dist-info", ".pth")))
    return [str(folder), folder.stat().st_mtime_ns, *names]


def _files_hash(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path.glob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _device_files() -> list[str]:
    """The accelerators' device files, and the driver: a probe's devices change with them."""
    files = [str(file) for pattern in ("nvidia*", "accel*") for file in Path("/dev").glob(pattern)]
    driver = Path("/proc/driver/nvidia/version")
    return [*sorted(files), driver.read_text() if driver.exists() else ""]


def _run(command: Sequence[str], environment: dict[str, str], log: int, folder: Path) -> int | None:
    """The exit code, or None at the time limit; no process of its group is left alive."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    try:
        return process.wait(PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read_probe(python: str, output: Path) -> Interpreter | str:
    try:
        said = json.loads(output.read_bytes())
        versions = {"python": said["python"], **said["versions"]}
        return Interpreter(
            python=python,
            versions=versions,
            exporter_versions=said["exporter_versions"],
            devices=said["devices"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"the probe left no answer: {type(error).__name__}: {error}"


def _cause(code: int, log: Path) -> str:
    """The signal by name, or the last line of the log: the exception."""
    if code < 0:
        return signal.Signals(-code).name
    lines = list(_printable_lines(log.read_bytes()[-MAX_LOG_BYTES:].decode(errors="replace")))
    return lines[-1][:MAX_REASON_CHARACTERS] if lines else f"exit code {code}"


def _printable_lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        printable = "".join(c for c in line if c.isprintable()).strip()
        if printable:
            yield printable
