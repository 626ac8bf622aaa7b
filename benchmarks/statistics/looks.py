"""The level at which each look at the same comparisons may decide.

Whoever looks, measures more where nothing is decided, and looks again, has several chances of a
false verdict. So the error of 5 % is spent over the looks (alpha spending, Lan and DeMets 1983):
each look has a level that depends on its number alone, and together they spend at most 5 %. By the
union bound this holds for any number of looks, whatever was measured between them, but for one
thing: the variance that comparisons share is today's, for the earlier looks too. What that costs is
in the simulation, which judges as `analysis.ratios.judge` does.

The comparisons with one base share a level (`holm`), those with another base have their own. By
simulation, a suite of 12 comparisons in 3 groups whose truths all lie on the margin's edge has a
false verdict in 5 to 8 % of runs, and in 0 to 5 % with shared variance; of truth 1, in less than
1 % if launches vary by 1 to 3 %, and if by far more than the margin, as on its edge. `same` is not
adjusted for the number of comparisons: if all truths lie just outside of the margin, one of them
is called the same in up to 17 % of runs, and up to 13 % with shared variance.
Pure functions on numbers.
"""

from __future__ import annotations

FIRST_LEVEL = 0.04
"""Spent by the first look, since most comparisons are looked at once."""
LATER_LEVEL = 0.01
"""Spent by all later looks together, however many there are."""


def level_of_look(number: int) -> float:
    """The level of a comparison's n-th look, counted from 1: .04, .005, .0017, .0008 and so on.

    From the second on, .01 / ((n - 1) n), whose sum is .01. Raises ValueError below 1.
    """
    if number < 1:
        raise ValueError(f"received number={number}, expected 1 or more")
    return FIRST_LEVEL if number == 1 else LATER_LEVEL / ((number - 1) * number)
