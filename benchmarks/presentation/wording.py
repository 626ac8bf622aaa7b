"""Numbers and names in readable form, and text from records made safe to print.

No number shows more digits than its interval supports. Standard library only.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from benchmarks.contract.case import RECIPE, TUNED, Case
from benchmarks.contract.units import GIB

MAX_TEXT = 300
DIGITS_WITHOUT_INTERVAL = 2
MAX_DIGITS = 5
MAX_FACTOR = 3.0
"""An interval that is wider than this factor does not tell the number."""
NOT_KNOWN = "not known"

_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
"""ECMA-48 control sequences: each is removed as a whole, so that colours leave no characters."""


def clean(text: str) -> str:
    """The text on one line, without control and direction characters, cut to 300 characters.

    Text from a record may hold escape sequences, and none may reach the terminal. Rich's markup is
    left in, because text goes into `rich.text.Text`, which does not interpret it.
    """
    visible = "".join(
        character if unicodedata.category(character)[0] != "C" else " "
        for character in _ESCAPE_SEQUENCE.sub("", text)
    )
    joined = " ".join(visible.split())
    return joined if len(joined) <= MAX_TEXT else joined[: MAX_TEXT - 1] + "…"


def with_interval(
    estimate: float, low: float | None, high: float | None, *, separator: str = " "
) -> str:
    """`123 [120, 127]`: rounding changes no number by more than a quarter of the half-width.

    The half-width thus keeps its first digit, or two digits if the first is a 1. A lower bound that
    is smaller still keeps its first digit, so that it does not become 0. The estimate has at most
    five digits, and two without an interval. If the interval is wider than a factor of three, the
    number is `not known`.
    """
    if not is_known(low, high):
        return NOT_KNOWN
    if low is None or high is None:
        return number(estimate, DIGITS_WITHOUT_INTERVAL - 1 - _magnitude(estimate))
    finest = max(-_magnitude((high - low) / 4), -_magnitude(low))
    places = min(finest, MAX_DIGITS - 1 - _magnitude(estimate))
    low_text, high_text = number(low, places), number(high, places)
    return f"{number(estimate, places)}{separator}[{low_text}, {high_text}]"


def is_known(low: float | None, high: float | None) -> bool:
    """Whether the interval is no wider than a factor of three, or there is none."""
    return low is None or high is None or high <= MAX_FACTOR * low


def number(value: float, places: int) -> str:
    """The number rounded to this many decimals; negative ones round before the point."""
    return f"{round(value, places):,.{max(places, 0)}f}"


def plain(value: float) -> str:
    """An integer in full, any other number with two digits: `12,345`, `0.12`."""
    return f"{value:,}" if isinstance(value, int) else with_interval(value, None, None)


def seconds(value: float) -> str:
    """Seconds with two digits: `0.13 s`, `2.1 s`, `120 s`."""
    return f"{number(value, 1 - _magnitude(value))} s"


def duration(seconds: float) -> str:
    """Seconds in readable units: 40 s, 3 min, 2 h 10 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def gib(num_bytes: float) -> str:
    """Bytes in GiB (2**30)."""
    return f"{num_bytes / GIB:.2f}"


def way_name(case: Case, *, with_precision: bool = True) -> str:
    """Framework, execution, precision and options of a case."""
    way = case.way
    precision = [way.precision] * with_precision
    named = [framework_name(case), way.execution, *precision, *way_options(case)]
    return clean(" ".join(named))


def framework_name(case: Case) -> str:
    """The framework of a case; a library after the one that it computes with: `jax · equinox`."""
    return after_base(case.way.framework, case.way.base)


def after_base(framework: str, base: str | None) -> str:
    """A framework's name, after the one that it computes with if it is a library."""
    return f"{base} · {framework}" if base else framework


def way_options(case: Case) -> list[str]:
    """The options of a case's way, without those that are `none`; of the recipe only `tuned`."""
    others = (one for one in case.way.options if one[0] != RECIPE and one[1] != "none")
    return [*(f"{name}={value}" for name, value in others), *[TUNED] * (case.way.recipe == TUNED)]


def group_name(case: Case, *, with_place: bool = True) -> str:
    """The work and the place of a case: `resnet50_train small b8 cpu`."""
    work, place = case.work, case.place
    parts = [work.workload, work.size, f"b{work.batch_size}"]
    parts += [f"{name}={value}" for name, value in work.options]
    if with_place:
        parts.append(place.device + (f" x{place.num_devices}" if place.num_devices > 1 else ""))
    return clean(" ".join(parts))


class HasCase(Protocol):
    """Anything that belongs to one case."""

    @property
    def case(self) -> Case:
        """The case."""


Of = TypeVar("Of", bound=HasCase)


def by_group(cells: Iterable[Of]) -> list[list[Of]]:
    """The cells of each group, the groups in the order of their first cells."""
    groups: dict[str, list[Of]] = {}
    for cell in cells:
        groups.setdefault(cell.case.group_id, []).append(cell)
    return list(groups.values())


def names_by_group(named: Iterable[tuple[HasCase, str]]) -> str:
    """Each case with its words: `resnet50_train small b4 cpu: jax compiled fp32 20 %, ...; ...`."""
    groups: dict[str, list[str]] = {}
    for one, words in named:
        groups.setdefault(group_name(one.case), []).append(f"{way_name(one.case)}{words}")
    return "; ".join(f"{group}: {', '.join(names)}" for group, names in groups.items())


def joined(names: Sequence[str], word: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`; or with another word."""
    *others, last = names
    return f"{', '.join(others)} {word} {last}" if others else last


def count(amount: int, noun: str) -> str:
    """`1 launch`, `3 launches`."""
    plural = noun + ("es" if noun.endswith(("ch", "s")) else "s")
    return f"{amount} {noun if amount == 1 else plural}"


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0
