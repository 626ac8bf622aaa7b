"""The reference that proves each case: an oracle, or proofs at other sizes.

It is looked up once for each case, before its first launch.
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
    """A case's reference: an oracle's folder, or a verdict in its place."""

    oracle: Path | None = None
    verdict: ParityVerdict | None = None


@dataclass
class References:
    """The references of every case of a run."""

    oracles: Oracles
    proxies: Proxies
    _found: dict[Case, Reference] = field(default_factory=dict)

    def of(self, case: Case, *, follows: bool = False) -> Reference:
        """The reference of this case; with `follows`, its oracle includes ten steps.

        Raises ProofStoppedError if a stop is requested.
        """
        if case not in self._found:
            known = self.oracles.find(case.work, follows=follows)
            if isinstance(known, str):
                self._found[case] = Reference(verdict=self.proxies.verdict(case, known))
            else:
                self._found[case] = Reference(oracle=known.folder)
        return self._found[case]


def references_of(oracles: Oracles) -> References:
    """The references for the prover of these oracles."""
    return References(oracles, Proxies(oracles.prover, oracles))
