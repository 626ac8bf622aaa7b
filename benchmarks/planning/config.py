"""Resolves overrides to a configuration: Hydra composes the files of configs/, once.

Every file, also a user's own suite file, is checked against the dataclasses here. The composed
configuration is merged into the schema a second time, because Hydra accepts +protocol.typo=3 and
OmegaConf then drops the key without a message (reference: style, section C2).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contract.device import DeviceRules, default_rules
from benchmarks.contract.plan import MachineConfig
from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.errors import UsageError
from benchmarks.planning.catalog import PROJECT_ROOT
from benchmarks.planning.names import unknown_name
from benchmarks.planning.overrides import Overrides

CONFIG_FOLDER = PROJECT_ROOT / "configs"
SCHEMA_NAME = "configuration_schema"
DEFAULT_GROUPS = {"suite": "quick", "protocol": "quick", "machine": "default"}
SUITE_SUFFIXES = (".yaml", ".yml")
MAX_SUITE_BYTES = 2**20


@dataclass
class MatrixConfig:
    """Axes, whose combinations are cells; each is a value, a list, or `all` if it is enumerable."""

    workload: Any = "all"
    size: Any = "small"
    batch_size: Any = None
    """Items in one step over all devices; None: the workload's default at the size."""
    framework: Any = "all"
    """Libraries are selected by their names, by `libraries` beside the frameworks that they compute
    with (alone: all of them), or by `all`; each adds the framework that it computes with."""
    execution: Any = "all"
    precision: Any = "fp32"
    device: Any = "auto"
    """auto: the best device that any of the frameworks sees here."""
    num_devices: Any = 1
    """Devices of one launch, which share the batch equally."""
    seed: Any = 0
    """Seed of the canonical weights and batches."""
    options: dict[str, Any] = field(default_factory=dict)
    """The workload's own axes."""


@dataclass
class SuiteConfig:
    """A list of matrices; the order of its cells decides which is the base."""

    description: str = ""
    """One line for `dyno ls suites`."""
    percentiles: list[int] | None = None
    """Percentiles of latency that replace the protocol's."""
    matrices: list[MatrixConfig] = field(default_factory=list)


@dataclass
class Configuration:
    """Everything that is configured, resolved."""

    suite: SuiteConfig = field(default_factory=SuiteConfig)
    protocol: MeasuringProtocol = field(default_factory=MeasuringProtocol)
    machine: MachineConfig = field(default_factory=MachineConfig)
    device_rules: dict[str, DeviceRules] = field(default_factory=default_rules)
    """The rules by kind of device."""


@dataclass(frozen=True)
class Resolved:
    """A configuration, and the name of its suite."""

    suite_name: str
    configuration: Configuration


def resolve(overrides: Overrides) -> Resolved:
    """The configuration that the overrides choose; UsageError if a value cannot be used."""
    chosen = {**DEFAULT_GROUPS, **overrides.groups}
    suite = chosen.pop("suite")
    suite_file = Path(suite).expanduser() if suite.endswith(SUITE_SUFFIXES) else None
    if suite_file is None:
        chosen["suite"] = suite
    for group, name in chosen.items():
        if name not in names(group):
            raise unknown_name(name, names(group), kind=group, where=f"{group}={name}")
    composed = compose([*(f"{k}={v}" for k, v in chosen.items()), *overrides.hydra])
    if suite_file is not None:
        composed["suite"] = read_suite_file(suite_file)
    configuration = typed(composed, where=f"suite={suite}: " if suite_file else "")
    if not configuration.suite.matrices:
        raise UsageError(f"suite={suite}: it has no matrices, expected at least one")
    _take_percentiles(configuration, overrides)
    _refuse_impossible(configuration)
    return Resolved(suite_file.stem if suite_file else suite, configuration)


def _take_percentiles(configuration: Configuration, overrides: Overrides) -> None:
    """Use the suite's percentiles of latency, unless the command line sets them."""
    asked = any(one.lstrip("+").startswith("protocol.percentiles") for one in overrides.hydra)
    chosen = configuration.suite.percentiles
    if chosen is None or asked:
        return
    try:
        protocol = dataclasses.replace(configuration.protocol, percentiles=chosen)
    except ValueError as error:
        raise UsageError(f"suite.percentiles: {error}") from error
    configuration.protocol = protocol


def names(group: str) -> list[str]:
    """The names of a group's configurations: those of its files."""
    return sorted(file.stem for file in (CONFIG_FOLDER / group).glob("*.yaml"))


def read_suite(name: str) -> SuiteConfig:
    """A suite of configs/suite/, without the rest of a configuration."""
    content = read_suite_file(CONFIG_FOLDER / "suite" / f"{name}.yaml")
    return typed({"suite": content}, where=f"suite={name}: ").suite


def read_suite_file(file: Path) -> dict[str, Any]:
    """The mapping in a suite file, not yet checked against the schema.

    Raises UsageError if the file cannot be read, is larger than 1 MiB, or uses YAML that can be
    abused: aliases, tags of objects, duplicate keys and interpolations.
    """
    import yaml
    from omegaconf import OmegaConf

    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_SUITE_BYTES + 1)
        if len(raw) > MAX_SUITE_BYTES:
            raise UsageError(f"suite={file}: expected at most {MAX_SUITE_BYTES // 2**20} MiB")
        text = raw.decode()
        _refuse_aliases(text, file)
        content = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except OSError as error:
        raise UsageError(f"suite={file}: cannot be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"suite={file}: not YAML: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise UsageError(f"suite={file}: expected a mapping with a list called matrices")
    return {str(key): value for key, value in content.items()}


def _refuse_aliases(text: str, file: Path) -> None:
    """UsageError for aliases, since OmegaConf 2.3.1 hangs on nested ones, and interpolations."""
    import yaml

    if "${" in text:
        raise UsageError(
            f"suite={file}: interpolations are refused, because they can read the environment"
        )
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise UsageError(
                f"suite={file}: aliases (*{event.anchor}) are refused; write the values out"
            )


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration that Hydra composes from configs/; UsageError names the key."""
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    ConfigStore.instance().store(name=SCHEMA_NAME, node=_schema())
    try:
        with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3", job_name="dyno"):
            composed = hydra.compose("dyno", overrides=list(overrides))
        content = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(_explained(error)) from error
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _schema() -> Any:
    """The dataclasses as an OmegaConf node that files can be merged into.

    OmegaConf 2.3.1 treats a nested frozen dataclass as read-only even in a merge.
    """
    from omegaconf import OmegaConf

    schema = OmegaConf.structured(Configuration)
    for node in (schema.protocol, schema.machine, *schema.device_rules.values()):
        OmegaConf.set_readonly(node, False)
    return schema


def typed(content: Mapping[str, Any], *, where: str = "") -> Configuration:
    """The content as the dataclasses; UsageError if a key or a type is wrong."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        merged = OmegaConf.merge(_schema(), dict(content))
        configuration = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError) as error:
        raise UsageError(f"{where}{_explained(error)}") from error
    assert isinstance(configuration, Configuration)
    return configuration


def _refuse_impossible(configuration: Configuration) -> None:
    """UsageError for impossible values that the dataclasses accept."""
    machine, protocol = configuration.machine, configuration.protocol
    for name, node in (("protocol", protocol), ("machine", machine)):
        for key, value in vars(node).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{name}.{key}={value}: expected a finite number")
    for name, limit in (
        ("protocol.min_warmup_steps", protocol.min_warmup_steps),
        ("protocol.min_warmup_s", protocol.min_warmup_s),
    ):
        if limit < 0:
            raise UsageError(f"{name}={limit}: expected 0 or more")
    for key, amount in (
        ("num_threads", machine.num_threads),
        ("memory_limit_gib", machine.memory_limit_gib),
        ("max_resident", machine.max_resident),
    ):
        if amount is not None and not amount > 0:
            raise UsageError(f"machine.{key}={amount}: expected more than 0")


def _explained(error: Exception) -> str:
    """The error's message with the key that it is about."""
    from omegaconf.errors import OmegaConfBaseException

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if cause is None:
        return _one_line(error)
    key = str(cause.full_key or "")
    message = str(cause.msg if cause.msg is not None else cause).splitlines()[0]
    return f"{key}: {message}" if key and key not in message else message


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
