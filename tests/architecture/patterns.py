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
KINDS = {"TaskSpec", "Training", "Inference"}
SENTENCES = {"reason"}
"""Fields that hold a sentence for people: it is shown, and nothing depends on its words."""
STRING_METHODS = {name for name in dir(str) if not name.startswith("_")} - {"encode", "format"}


def kind_violations(modules: dict[str, str]) -> list[str]:
    """Branches on the kind of work outside of tasks and contract.

    That is an isinstance of a kind of the contract's, or a comparison of `requests` with None.
    """

    def is_pattern(node: ast.AST) -> bool:
        if isinstance(node, ast.Call) and _last_name(node.func) == "isinstance":
            return bool(KINDS & {_last_name(one) for one in ast.walk(node.args[1])})
        return (
            isinstance(node, ast.Compare)
            and isinstance(node.ops[0], (ast.Is, ast.IsNot))
            and any(_last_name(one) == "requests" for one in (node.left, *node.comparators))
            and any(_is_none(one) for one in (node.left, *node.comparators))
        )

    return list(_found(modules, is_pattern, outside=TASKS))


def evidence_violations(modules: dict[str, str]) -> list[str]:
    """Entries of evidence that are written or read by a string key outside of the contract."""

    def is_pattern(node: ast.AST) -> bool:
        if isinstance(node, ast.Subscript):
            return _last_name(node.value) == "evidence" and _is_text(node.slice)
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("get", "pop", "setdefault")
            and _last_name(node.func.value) == "evidence"
            and _is_text(node.args[0])
        )

    return list(_found(modules, is_pattern, outside=CONTRACT))


def sentence_violations(modules: dict[str, str]) -> list[str]:
    """Logic on the words of a sentence: string methods, comparisons, searches, matches."""

    def is_pattern(node: ast.AST) -> bool:
        if isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
            return any(map(_is_sentence, sides)) and not any(map(_is_none, sides))
        if isinstance(node, ast.Match):
            return _is_sentence(node.subject)
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return False
        if _last_name(node.func.value) == "re":
            return any(map(_is_sentence, node.args))
        return node.func.attr in STRING_METHODS and _is_sentence(node.func.value)

    return list(_found(modules, is_pattern))


def schema_violations(modules: dict[str, str]) -> list[str]:
    """Names of schemas that are given a second time: two documents would share one."""
    places: dict[str, list[str]] = {}
    for path, source in sorted(modules.items()):
        for node in ast.walk(parsed(source)):
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and _is_text(node.value):
                name = ast.literal_eval(node.value)
                if SCHEMA.fullmatch(name):
                    places.setdefault(name, []).append(f"{path}:{node.lineno}")
    return [
        f"{again}: {name} is the schema of {first} too"
        for name, (first, *others) in places.items()
        for again in others
    ]


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


def _is_sentence(node: ast.AST) -> bool:
    """Whether it is a sentence's field, maybe in str() or with a default."""
    if isinstance(node, ast.Call) and _last_name(node.func) == "str":
        return any(map(_is_sentence, node.args))
    if isinstance(node, ast.BoolOp):
        return any(map(_is_sentence, node.values))
    return isinstance(node, ast.Attribute) and node.attr in SENTENCES
