"""What the equality of each case rests on: an oracle, or proofs at other sizes.

Found when a case is first launched, and once for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contract.case import Case
from benchmarks.equivalence.verdict import Verdict
from benchmarks.running.oracles import Oracles
from benchmarks.running.proxies import Inheritance


@dataclass(frozen=True)
class Ground:
    """One case's: either an oracle's folder, or the verdict that stands in for it."""

    oracle: Path | None = None
    verdict: Verdict | None = None


@dataclass
class Grounds:
    """The grounds of every case of a run."""

    oracles: Oracles
    inheritance: Inheritance
    _found: dict[Case, Ground] = field(default_factory=dict)

    def of(self, case: Case, *, follows: bool = False) -> Ground:
        """The ground of this case; with `follows`, of an oracle with the ten steps.

        Raises ProofStoppedError where the user wants to stop.
        """
        if case not in self._found:
            known = self.oracles.find(case.work, follows=follows)
            if isinstance(known, str):
                self._found[case] = Ground(verdict=self.inheritance.verdict(case, known))
            else:
                self._found[case] = Ground(oracle=known.folder)
        return self._found[case]


def grounds_of(oracles: Oracles) -> Grounds:
    """Grounds that are proven where these oracles are."""
    return Grounds(oracles, Inheritance(oracles.prover, oracles))
