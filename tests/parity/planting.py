"""Mistakes that people make when they port a network, planted into the real implementations.

What they are stands in planted_<model>.py. A fault is a framework of an extension folder,
`<framework>_<fault>`, whose program is the real one with the mistake in it.
Imported in a worker: what a fault needs of a framework it imports itself.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

EXECUTIONS = {"pytorch": "eager", "jax": "compiled", "litert": "graph"}
"""The frameworks that faults are planted into, each with the execution in which they are proven."""
MODELS = {
    "resnet50_train": "resnet50",
    "resnet50_infer": "resnet50_inference",
    "transformer_finetune": "transformer",
    "transformer_lora": "transformer",
    "transformer_infer": "transformer_inference",
}
"""The folder of each workload, whose faults are in the module planted_<model>."""

FRAMEWORK_FILE = """\
import dataclasses

from benchmarks.frameworks.{own} import CAPABILITIES as OWN
from benchmarks.frameworks.{own} import environment

__all__ = ["CAPABILITIES", "environment"]
# tf32 on the CPU is what the rounded products emulate.
PRECISIONS = {{**OWN.precisions, "cpu": (*OWN.precisions["cpu"], "tf32")}}
CAPABILITIES = dataclasses.replace(
    OWN, name={name!r}, holds_oracle=False, precisions=PRECISIONS
)
"""
ADAPTER_FILE = "from benchmarks.frameworks.{own}.adapter import Adapter\n\n__all__ = ['Adapter']\n"
IMPLEMENTATION_FILE = """\
from {module} import planted

IMPLEMENTS = {{{workload!r}}}
EXPORTED_FROM = {exported_from!r}
QUANTISED_BY = {quantised_by!r}
build = planted({model!r}, {fault!r}, {own!r})
"""


def write_extension(
    folder: Path,
    faults: Iterable[str],
    *,
    workload: str,
    frameworks: Iterable[str],
    module: str = __name__,
) -> list[str]:
    """Write an extension with these faults in each of the frameworks; the frameworks' names.

    `module` has the function `planted`, which maps (model or workload, fault, framework) to the
    faulty implementation's `build`.
    """
    from benchmarks.planning.catalog import discover  # not in a worker

    catalog = discover()
    names = []
    for own, fault in itertools.product(frameworks, faults):
        name, real = f"{own}_{fault}", catalog.implementations[workload, own]
        programs = {"exported_from": real.exported_from, "quantised_by": real.quantised_by}
        values = {"own": own, "name": name, "fault": fault, "workload": workload}
        files = {
            folder / "frameworks" / name / "__init__.py": FRAMEWORK_FILE,
            folder / "frameworks" / name / "adapter.py": ADAPTER_FILE,
            folder / "workloads" / MODELS[workload] / f"{name}_impl.py": IMPLEMENTATION_FILE,
        }
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            model = MODELS[workload] if module == __name__ else workload
            file.write_text(text.format(**values, **programs, model=model, module=module))
        names.append(name)
    return names


def planted(model: str, fault: str, framework: str) -> Callable[[Any, Any], Any]:
    """The `build` of the framework's implementation, with this fault in it."""
    faults = importlib.import_module(f"tests.parity.planted_{model}")
    implementation = importlib.import_module(faults.IMPLEMENTATION.format(framework))
    if fault in faults.CONSTANTS:
        return lambda problem, adapter: implementation.build(
            dataclasses.replace(
                problem, hyperparameters={**problem.hyperparameters, **faults.CONSTANTS[fault]}
            ),
            adapter,
        )
    if fault in faults.WRAPPERS:
        wrap = faults.WRAPPERS[fault]
        return lambda problem, adapter: wrap(implementation.build(problem, adapter))
    if fault in faults.MATHEMATICS:
        replace_in_copy(implementation, faults.LAYERS, **faults.MATHEMATICS[fault]())
    else:
        getattr(faults, f"{framework}_{fault}")(implementation)
    return implementation.build


def replace_in(owner: Any, **values: Any) -> None:
    """Replace members of a module or a class; AttributeError where it has no such member."""
    for name, value in values.items():
        getattr(owner, name)
        setattr(owner, name, value)


def replace_in_copy(module: Any, name: str, **values: Any) -> None:
    """Give a module its own copy of one that it imports, with these members replaced."""
    copy = types.SimpleNamespace(**vars(getattr(module, name)))
    replace_in(copy, **values)
    replace_in(module, **{name: copy})
