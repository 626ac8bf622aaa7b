"""Which module imports which, and what of Python a worker uses, read from source."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

LAYERS = (
    "errors",
    "contract",
    "statistics",
    "equivalence",
    "host",
    "frameworks",
    "worker",
    "storage",
    "planning",
    "analysis",
    "documents",
    "presentation",
    "running",
    "commands",
    "cli",
)
"""Data flows down this list; imports point up it, never back."""
UNKNOWN_TO = {"host": {"worker", "frameworks"}, "documents": {"commands", "cli"}}
"""For a room the rooms that it does not import, wherever the list has them."""

WORKER_LAYERS = {"errors", "contract", "equivalence", "worker", "frameworks"}
FRAMEWORKS = {
    *("torch", "tensorflow", "jax", "jaxlib", "flax", "optax", "mlx", "keras"),
    *("onnxruntime", "onnx", "openvino", "ai_edge_litert", "flatbuffers"),
}
PURE = {"statistics": {"numpy", "scipy"}, "equivalence": {"numpy"}, "contract": {"numpy"}}
"""Third-party packages that a layer may import, where it is restricted."""
WORKER_PYTHON = (3, 9)
"""The oldest in which a worker runs."""
NEWER_ARGUMENTS = {
    "dataclass": {"kw_only", "match_args", "slots", "weakref_slot"},
    "field": {"kw_only"},
    "zip": {"strict"},
}
"""What later versions of Python added to calls, which no linter's target version tells."""
NEWER_NAMES = {
    "asyncio": {"Runner", "TaskGroup", "timeout"},
    "contextlib": {"aclosing", "chdir"},
    "dataclasses": {"KW_ONLY"},
    "datetime": {"UTC"},
    "enum": {"ReprEnum", "StrEnum", "member", "nonmember", "verify"},
    "hashlib": {"file_digest"},
    "inspect": {"get_annotations"},
    "itertools": {"batched", "pairwise"},
    "math": {"cbrt", "exp2", "sumprod"},
    "operator": {"call"},
    "statistics": {"correlation", "covariance", "linear_regression"},
    "sys": {"exception", "orig_argv", "stdlib_module_names"},
    "types": {"EllipsisType", "NoneType", "NotImplementedType", "UnionType"},
    "typing": {
        *("Concatenate", "LiteralString", "Never", "NotRequired", "ParamSpec", "Required", "Self"),
        *("TypeAlias", "TypeGuard", "TypeVarTuple", "Unpack", "assert_never", "assert_type"),
        *("dataclass_transform", "override", "reveal_type"),
    },
}
"""What later versions of Python added to modules of the standard library."""
NEWER_MODULES = {"compression", "tomllib"}
FRAMEWORK_FILES = ("/adapter.py", "/keras/model.py", "_impl.py")
"""Files that may import a framework, beside those in a framework's folder of a model."""


def may_import_framework(path: str) -> bool:
    """Whether this is an adapter, or lies in a framework's folder of a model."""
    is_of_model = path.startswith("workloads/") and path.count("/") == 3
    return is_of_model or path.endswith(FRAMEWORK_FILES)


class Import(NamedTuple):
    """One import statement."""

    path: str
    line: int
    module: str


def sources() -> dict[str, str]:
    """The text of every module of the harness and of the workloads, by path from the root."""
    files = [*ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("workloads/**/*.py")]
    return {str(file.relative_to(ROOT)): file.read_text() for file in files}


@functools.cache
def parsed(source: str) -> ast.Module:
    """The syntax of a module; it is shared and not changed."""
    return ast.parse(source)


@functools.cache
def imports(path: str, source: str) -> tuple[Import, ...]:
    """Every import in a module, also those inside functions; those for type checkers left out."""
    return tuple(_imports(path, parsed(source)))


def _imports(path: str, tree: ast.Module) -> Iterator[Import]:
    unseen = {id(node) for block in _type_checking_blocks(tree) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield Import(path, node.lineno, f"{node.module}.{alias.name}")


def layer_violations(modules: dict[str, str]) -> list[str]:
    """Imports that point from a layer to one below it in the list, and modules of no layer."""
    found = []
    for path, source in modules.items():
        own = _layer(_name(path))
        if own is None and path.startswith("benchmarks/") and path != "benchmarks/__init__.py":
            found.append(f"{path}:1: in no layer")
        for item in imports(path, source):
            other = _layer(item.module)
            if own and other and LAYERS.index(other) > LAYERS.index(own):
                found.append(f"{path}:{item.line}: {own} imports {item.module}")
    return found


def room_violations(modules: dict[str, str]) -> list[str]:
    """Imports of what a room is not to know."""
    return [
        f"{path}:{item.line}: imports {item.module}"
        for path, source in modules.items()
        for item in imports(path, source)
        if _room(item.module) in UNKNOWN_TO.get(_room(_name(path)), ())
    ]


def circle_violations(modules: dict[str, str]) -> list[str]:
    """Sets of modules that import each other, directly or through others, also inside functions."""
    paths = {_name(path): path for path in modules}
    targets = {
        path: {_imported(item.module, paths) for item in imports(path, source)} - {path, None}
        for path, source in modules.items()
    }
    reached = {path: _reached(path, targets) for path in modules}
    circles = {
        tuple(sorted(other for other in reached[path] if path in reached[other]))
        for path in modules
        if path in reached[path]
    }
    return [f"{first}: in a circle with {', '.join(rest)}" for first, *rest in sorted(circles)]


def framework_violations(modules: dict[str, str]) -> list[str]:
    """Imports of a framework outside its adapter, its implementations and exporters."""
    return [
        f"{item.path}:{item.line}: imports {item.module}"
        for path, source in modules.items()
        if not may_import_framework(path)
        for item in imports(path, source)
        if item.module.split(".")[0] in FRAMEWORKS
    ]


def relative_violations(modules: dict[str, str]) -> list[str]:
    """Relative imports: the other rules read the names of modules, which these leave out."""
    return [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path, source in modules.items()
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]


def worker_violations(modules: dict[str, str]) -> list[str]:
    """Imports, in what a worker loads, of anything that a framework's interpreter may lack."""
    found = []
    for path, source in modules.items():
        if not _runs_in_worker(path):
            continue
        allowed = FRAMEWORKS if may_import_framework(path) else set()
        found += [
            f"{path}:{item.line}: imports {item.module}"
            for item in imports(path, source)
            if not _is_in_worker(item.module, allowed)
        ]
    return found


def python_violations(modules: dict[str, str]) -> list[str]:
    """What the oldest Python of a worker does not have: syntax, calls' arguments, and names."""
    found = []
    for path, source in modules.items():
        if not _runs_in_worker(path):
            continue
        try:
            tree = ast.parse(source, feature_version=WORKER_PYTHON)
        except SyntaxError as error:
            found.append(f"{path}:{error.lineno}: {error.msg}")
            continue
        found += [
            f"{path}:{item.line}: {item.module}"
            for item in imports(path, source)
            if _is_newer(item.module)
        ]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and _is_newer(ast.unparse(node)):
                found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
            if isinstance(node, ast.Call):
                newer = NEWER_ARGUMENTS.get(ast.unparse(node.func).split(".")[-1], set())
                found += [
                    f"{path}:{node.lineno}: {one.arg}=" for one in node.keywords if one.arg in newer
                ]
    return found


def _is_newer(name: str) -> bool:
    """Whether this module, or this name of a module, is missing in a worker's oldest Python."""
    module, _, own = name.rpartition(".")
    return own in NEWER_NAMES.get(module, ()) or name.split(".")[0] in NEWER_MODULES


def purity_violations(modules: dict[str, str]) -> list[str]:
    """Third-party imports that a restricted layer may not have."""
    found = []
    for path, source in modules.items():
        pure = PURE.get(_layer(_name(path)) or "")
        for item in imports(path, source):
            package = item.module.split(".")[0]
            known = package in sys.stdlib_module_names or package in ("benchmarks", "__future__")
            if pure is not None and not known and package not in pure:
                found.append(f"{path}:{item.line}: imports {item.module}")
    return found


def _type_checking_blocks(tree: ast.Module) -> list[ast.If]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]


def _runs_in_worker(path: str) -> bool:
    return path.startswith("workloads/") or _layer(_name(path)) in WORKER_LAYERS


def _name(path: str) -> str:
    """The module's name."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _room(module: str) -> str:
    """The package of `benchmarks` that a module is in; empty if it is in none."""
    package, _, rest = module.partition(".")
    return rest.split(".")[0] if package == "benchmarks" else ""


def _imported(target: str, paths: dict[str, str]) -> str | None:
    """The path of the module that an import names, or that has what it names."""
    return paths.get(target) or paths.get(target.rpartition(".")[0])


def _reached(start: str, targets: dict[str, set[str]]) -> set[str]:
    """The modules that importing one imports in the end."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = targets[waiting.pop()] - reached
        reached |= new
        waiting += new
    return reached


def _layer(module: str) -> str | None:
    return _room(module) if _room(module) in LAYERS else None


def _is_in_worker(module: str, allowed: set[str]) -> bool:
    package = module.split(".")[0]
    if package == "benchmarks":
        layer = _layer(module)
        return layer is None or layer in WORKER_LAYERS
    known = {"numpy", "workloads", "__future__"} | allowed
    return package in known or package in sys.stdlib_module_names
