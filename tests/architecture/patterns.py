"""Patterns that the source does not have: what belongs to one room, and logic on sentences."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from tests.architecture.imports import parsed

TASKS = ("benchmarks/worker/tasks/", "benchmarks/contract/")
"""The only folders that tell the kinds of work apart."""
CONTRACT = ("benchmarks/contract/",)
SCHEMA = re.compile(r"dyno\.[a-z-]+/\d+")
KINDS = {"Training", "Inference"}
KERAS = ("benchmarks/frameworks/keras",)
"""The folders in which these names are those of Keras' models."""
DOCUMENTS = "benchmarks/documents/"
SENTENCES = {
    *("reason", "parity_reason", "failure", "probe_failure", "inspection_failure"),
    *("hint", "differs", "estimate_basis"),
}
"""Fields that hold a sentence for people: it is shown, and nothing depends on its words."""
MIN_WORDS = 4
"""Fewest words of a constant that is a sentence; fewer are a heading or a status."""
STRING_METHODS = {name for name in dir(str) if not name.startswith("_")} - {"encode", "format"}


def kind_violations(modules: dict[str, str]) -> list[str]:
    """Branches on the kind of work outside of tasks and contract.

    That is any use of the name of one of the contract's kinds in the harness, and a condition on
    whether there are `requests`.
    """
    asks = _found(
        modules, lambda node: any(map(_asks_for_requests, _conditions(node))), outside=TASKS
    )
    harness = {path: source for path, source in modules.items() if path.startswith("benchmarks/")}
    names = _found(harness, lambda node: _own_name(node) in KINDS, outside=(*TASKS, *KERAS))
    return [*asks, *names]


def _conditions(node: ast.AST) -> list[ast.expr]:
    """What a comparison, or an expression that decides by its truth, looks at."""
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Is, ast.IsNot)):
        sides = [node.left, *node.comparators]
        return sides if any(map(_is_none, sides)) else []
    if isinstance(node, ast.BoolOp):
        return node.values
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return [node.operand]
    if isinstance(node, ast.Call) and _last_name(node.func) == "bool":
        return node.args
    return [node.test] if isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)) else []


def _asks_for_requests(node: ast.AST) -> bool:
    return _last_name(node) == "requests"


def _own_name(node: ast.AST) -> str | None:
    """The name that an expression, or an entry of an import, is or ends with."""
    return node.name if isinstance(node, ast.alias) else _last_name(node)


def evidence_violations(modules: dict[str, str]) -> list[str]:
    """Entries of evidence that are written or read by a string key outside of the contract."""

    def is_pattern(node: ast.AST) -> bool:
        if isinstance(node, ast.Subscript):
            return _is_evidence(node.value) and _is_text(node.slice)
        return _is_entry_of_evidence(node)

    return list(_found(modules, is_pattern, outside=CONTRACT))


def _is_entry_of_evidence(node: ast.AST) -> bool:
    """Whether it reads or sets an entry of evidence by a method."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("get", "pop", "setdefault")
        and _is_evidence(node.func.value)
        and bool(node.args)
        and _is_text(node.args[0])
    )


def _is_evidence(node: ast.AST) -> bool:
    """Whether it is evidence: by its name, as an entry of a mapping, or as the mapping of it."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value == "evidence"
    if isinstance(node, ast.Call) and _last_name(node.func) in ("asdict", "vars", "dict"):
        return any(map(_is_evidence, node.args))
    return _last_name(node) == "evidence"


def sentence_violations(modules: dict[str, str]) -> list[str]:
    """Logic on the words of a sentence: string methods, comparisons, searches, matches.

    A sentence is a field of SENTENCES, what a function sets to one, and a constant with words.
    """
    constants = {name for source in modules.values() for name in _constants(parsed(source))}
    return [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path, source in modules.items()
        for scope, names in _scopes(parsed(source))
        for node in scope
        if _is_logic(node, constants | names)
    ]


def _is_logic(node: ast.AST, names: set[str]) -> bool:
    """Whether something depends on the words of a sentence; `names` are variables that hold one."""

    def is_sentence(part: ast.AST) -> bool:
        return _is_sentence(part, names)

    if isinstance(node, ast.Compare):
        sides = (node.left, *node.comparators)
        return any(map(is_sentence, sides)) and not any(map(_is_none, sides))
    if isinstance(node, ast.Match):
        return is_sentence(node.subject)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    if _last_name(node.func.value) == "re":
        return any(map(is_sentence, node.args))
    return node.func.attr in STRING_METHODS and is_sentence(node.func.value)


def _constants(tree: ast.Module) -> Iterator[str]:
    """The module's constants that hold a sentence."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and _is_text(node.value):
            words = ast.literal_eval(node.value).split()
            yield from (str(_last_name(one)) for one in node.targets if len(words) >= MIN_WORDS)


def _scopes(tree: ast.Module) -> Iterator[tuple[list[ast.AST], set[str]]]:
    """The nodes of the module and of each function in it, and the names bound there to a sentence.

    The module's own names are those that it binds outside of functions.
    """
    scopes: list[tuple[list[ast.AST], list[ast.AST]]] = [([*ast.walk(tree)], [*tree.body])]
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            nodes = [*ast.walk(function)]
            scopes.append((nodes, nodes))
    for nodes, statements in scopes:
        yield nodes, {name for one in statements for name in _bound(one)}


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a statement or a named expression binds to a sentence."""
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if _is_sentence(node.value, set()):
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def schema_violations(modules: dict[str, str]) -> list[str]:
    """Names of schemas in a second file, or assigned twice: two documents would share one.

    A document's own file comes first. What an earlier version called a document may be a name that
    another document has today: the assignment of EARLIER_SCHEMAS does not count.
    """
    places: dict[str, list[tuple[str, int]]] = {}
    assigned: dict[str, int] = {}
    for path in sorted(modules, key=lambda path: (not path.startswith(DOCUMENTS), path)):
        for name, line, is_assigned in _schema_names(parsed(modules[path])):
            known = places.setdefault(name, [])
            assigned[name] = assigned.get(name, 0) + is_assigned
            if not known or known[0][0] != path or (is_assigned and assigned[name] > 1):
                known.append((path, line))
    return [
        f"{path}:{line}: {name} is the schema of {known[0][0]} too"
        for name, known in places.items()
        for path, line in known[1:]
    ]


def _schema_names(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """Each name of a schema in a module, its line, and whether it is what a name is set to."""
    statements = [node for node in ast.walk(tree) if isinstance(node, (ast.Assign, ast.AnnAssign))]
    earlier = {
        id(part)
        for node in statements
        if isinstance(node, ast.Assign) and _last_name(node.targets[0]) == "EARLIER_SCHEMAS"
        for part in ast.walk(node)
    }
    values = {id(node.value) for node in statements}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in earlier:
            continue
        if isinstance(node.value, str) and SCHEMA.fullmatch(node.value):
            yield node.value, node.lineno, id(node) in values


def _found(
    modules: dict[str, str], is_pattern: Callable[[ast.AST], bool], *, outside: tuple[str, ...] = ()
) -> Iterator[str]:
    """The places of a pattern in all modules but those in some folders."""
    for path, source in modules.items():
        for node in ast.walk(parsed(source)):
            if not path.startswith(outside or "/") and is_pattern(node):
                yield f"{path}:{node.lineno}: {ast.unparse(node)}"


def _last_name(node: ast.AST) -> str | None:
    """`requests` of `spec.requests` and of `requests`."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_text(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_sentence(node: ast.AST, names: set[str]) -> bool:
    """Whether it is a sentence's field or one of these names, maybe in str() or with a default."""
    if isinstance(node, ast.Call) and _last_name(node.func) == "str":
        return any(_is_sentence(one, names) for one in node.args)
    if isinstance(node, ast.BoolOp):
        return any(_is_sentence(one, names) for one in node.values)
    if isinstance(node, ast.Name):
        return node.id in names
    return isinstance(node, ast.Attribute) and node.attr in SENTENCES
