"""What the equality of each case rests on: an oracle, or proofs at other sizes.

Found when a case is first launched, and once for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contract.case import Case
from benchmarks.contract.evidence import NOT_COMPARABLE, ParityVerdict
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
            self._found[case] = self._differing(case) or self._proving(case, follows)
        return self._found[case]

    def _differing(self, case: Case) -> Reference | None:
        """The verdict on a case whose implementation says that its mathematics is another one."""
        catalog = self.oracles.prover.catalog
        differs = catalog.implementations[case.work.workload, case.way.framework].differs
        return Reference(verdict=ParityVerdict(NOT_COMPARABLE, reason=differs)) if differs else None

    def _proving(self, case: Case, follows: bool) -> Reference:
        known = self.oracles.find(case.work, follows=follows)
        if isinstance(known, str):
            return Reference(verdict=self.proxies.verdict(case, known))
        return Reference(oracle=known.folder)


def references_of(oracles: Oracles) -> References:
    """References that are proven where these oracles are."""
    return References(oracles, Proxies(oracles.prover, oracles))
