"""The error for an unknown name, with the nearest known one. Standard library and the errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from benchmarks.errors import UsageError

MAX_SHOWN = 20
"""The most known names that a hint lists."""


def unknown_name(received: str, known: Iterable[str], *, kind: str, where: str = "") -> UsageError:
    """The error, to be raised, for a name that is not in `known`; it begins with `where`.

    unknown_name("pytorhc", ["jax", "pytorch"], kind="framework", where="framework=pytorhc"):
        framework=pytorhc: unknown framework 'pytorhc'
        hint: did you mean pytorch? known: jax, pytorch
    """
    names = list(known)
    prefix = f"{where}: " if where else ""
    return UsageError(f"{prefix}unknown {kind} {received!r}", hint=_hint(received, names))


def _hint(received: str, names: list[str]) -> str:
    similar = difflib.get_close_matches(received, names, n=1)
    meant = f"did you mean {similar[0]}? " if similar else ""
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return f"{meant}known: {', '.join(names[:MAX_SHOWN]) or 'none'}{more}"
