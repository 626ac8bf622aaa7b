"""What the equality of each case rests on: an oracle, or proofs at other sizes.

Found when a case is first launched, and once for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contract.case import Case
from benchmarks.contract.evidence import ParityVerdict
from benchmarks.running.oracles import Oracles
from benchmarks.running.proxies import Proxies


@dataclass(frozen=True)
class Reference:
    """One case's: either an oracle's folder, or the verdict that stands in for it."""

    oracle: Path | None = None
    verdict: ParityVerdict | None = None


@dataclass
class References:
    """The references of every case of a run."""

    oracles: Oracles
    proxies: Proxies
    _found: dict[Case, Reference] = field(default_factory=dict)

    def of(self, case: Case, *, follows: bool = False) -> Reference:
        """The reference of this case; with `follows`, of an oracle with the ten steps.

        Raises ProofStoppedError where the user wants to stop.
        """
        if case not in self._found:
            known = self.oracles.find(case.work, follows=follows)
            if isinstance(known, str):
                self._found[case] = Reference(verdict=self.proxies.verdict(case, known))
            else:
                self._found[case] = Reference(oracle=known.folder)
        return self._found[case]


def references_of(oracles: Oracles) -> References:
    """References that are proven where these oracles are."""
    return References(oracles, Proxies(oracles.prover, oracles))
