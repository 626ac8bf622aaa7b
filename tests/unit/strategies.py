"""Values of any type of the contract, made from its hints: what a dataclass gains, they have."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from benchmarks.contract.protocol import MeasuringProtocol
from benchmarks.contract.record import LAUNCHES_PER_CASE, SCHEMA_VERSION, STATUSES, Block, Record

FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    Any: JSON,
    type(None): st.none(),
    bool: st.booleans(),
    int: st.integers(),
    float: FINITE,
    str: st.text(),
}


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    """A block of steps or requests, which make up its duration."""
    timed_ns = draw(st.lists(st.integers(1, 10**9), max_size=4))
    are_requests = draw(st.booleans())
    least = st.integers(1, 10**12)
    return Block(
        round=draw(st.integers(0, 100)),
        order=draw(st.integers(0, 100)),
        num_steps=len(timed_ns) or draw(least),
        duration_ns=sum(timed_ns) or draw(least),
        opening_fence_ns=draw(st.integers(0, 10**9)),
        foreign_cpu_share=draw(st.none() | st.floats(0, 1)),
        flags=tuple(draw(st.lists(st.text(), max_size=2))),
        request_ns=tuple(timed_ns) if are_requests else (),
        sample_ns=() if are_requests else tuple(timed_ns),
        probe_ns=tuple(draw(st.lists(st.integers(1, 10**9), max_size=2))),
        disturbed_samples=(0,) if len(timed_ns) > 1 and draw(st.booleans()) else (),
    )


CHECKED: dict[Any, st.SearchStrategy[Any]] = {
    Block: blocks(),
    MeasuringProtocol: st.builds(
        MeasuringProtocol, name=st.text(), seed=st.integers(), max_launch_s=st.floats(0.1, 1e6)
    ),
}
"""Classes that refuse values of the right types."""
CHECKED_FIELDS: dict[tuple[Any, str], st.SearchStrategy[Any]] = {
    (Record, "status"): st.sampled_from(STATUSES),
    (Record, "resident"): st.sampled_from(sorted(LAUNCHES_PER_CASE)),
    (Record, "sequence"): st.none() | st.integers(1, 2**53),
    (Record, "look"): st.integers(1, 2**53),
    (Record, "schema_version"): st.just(SCHEMA_VERSION),
}


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Values of this type."""
    for known in (PLAIN, CHECKED):
        if hint in known:
            return known[hint]
    if dataclasses.is_dataclass(hint):
        return _of_dataclass(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of([of_type(one) for one in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[1:] != (...,):
        return st.tuples(*(of_type(one) for one in arguments))
    if origin in (tuple, list, Sequence):
        values = st.lists(of_type(arguments[0]), max_size=3)
        return values if origin is list else values.map(tuple)
    if origin in (dict, Mapping):
        return st.dictionaries(*(of_type(one) for one in arguments), max_size=3)
    raise TypeError(f"no values of the type {hint}")


def _of_dataclass(cls: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    checked = {name: CHECKED_FIELDS[cls, name] for name in names if (cls, name) in CHECKED_FIELDS}
    typed = {name: of_type(hints[name]) for name in names if name not in checked}
    return st.builds(cls, **checked, **typed)
