"""The grade of a number: how reliable it is.

    A  5 launches or more, half-width of 2 % at most, nothing flagged, 5 % of the rounds dropped at
       most
    B  half-width of 5 % at most, nothing flagged
    C  any other finite number
    F  fewer than 3 launches, a half-width above 10 %, or evidence against the number

The half-width is that of the case's ratio to its base, since the rate's own interval also contains
the machine's drift between cohorts. A base has no ratio, and no grade: what is said of it is said
in the others' ratios. A case that nothing is compared with is graded by its rate.

A ratio of serial launches counts as flagged: the two ran at different times, and only a drift that
is linear in time cancels within a cohort.

Evidence against a number withdraws its verdict too. A wide interval does not: a case at
3.0 [2.6, 3.5] is faster, even if the amount is uncertain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.statistics.ratios import MIN_LAUNCHES

Grade = Literal["A", "B", "C", "F"]

MAX_HALF_WIDTH = {"A": 0.02, "B": 0.05, "C": 0.10}
MIN_LAUNCHES_FOR_A = 5
MAX_DROPPED_SHARE_FOR_A = 0.05


@dataclass(frozen=True)
class Basis:
    """The facts from which a grade is given."""

    num_launches: int
    half_width: float | None
    """Relative half-width of the confidence interval; None with fewer than two launches."""
    dropped_share: float
    """Share of the rounds that were dropped for a declared cause."""
    steady: bool | None
    """False if half of the launches or more were not steady when timing began."""
    is_disturbed: bool
    """Whether rounds count that a declared cause disturbed, because there are too few others."""
    flagged: bool
    """Whether a launch was flagged: not steady, or slower towards its end."""
    aa_contains_one: bool | None
    """Whether the A/A interval of the base contains 1; None without an A/A comparison."""
    disagrees: bool
    """Whether the first step was shown to differ from the expected work."""
    serial: bool
    """Whether the ratio comes from launches that ran one after another."""


def evidence_against(basis: Basis) -> str | None:
    """Why the number is unreliable even if its interval is narrow, or None."""
    if basis.disagrees:
        return "its work differs from the reference"
    if basis.is_disturbed:
        return f"{100 * basis.dropped_share:.0f} % of its rounds were disturbed, too few were not"
    if basis.steady is False:
        return "half of its launches or more were not steady"
    if basis.aa_contains_one is False:
        return "two launches of the base differ (A/A)"
    return None


def reason_for_f(basis: Basis) -> str | None:
    """Why the grade is F, or None for other grades."""
    against = evidence_against(basis)
    if against is not None:
        return against
    if basis.num_launches < MIN_LAUNCHES:
        return f"fewer than {MIN_LAUNCHES} launches"
    if basis.half_width is None or not basis.half_width <= MAX_HALF_WIDTH["C"]:
        return f"the half-width of its interval is above {100 * MAX_HALF_WIDTH['C']:.0f} %"
    return None


def grade(basis: Basis) -> Grade:
    """The grade, by the table at the top of this file."""
    if reason_for_f(basis) is not None:
        return "F"
    half_width = basis.half_width or 0.0
    if basis.flagged or basis.serial:
        return "C"
    is_narrow = half_width <= MAX_HALF_WIDTH["A"]
    is_whole = basis.dropped_share <= MAX_DROPPED_SHARE_FOR_A
    if is_narrow and is_whole and basis.num_launches >= MIN_LAUNCHES_FOR_A:
        return "A"
    return "B" if half_width <= MAX_HALF_WIDTH["B"] else "C"
