"""The reference that proves each case: an oracle, or proofs at other sizes.

It is looked up once for each case, before its first launch.
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
    """The references for the prover of these oracles."""
    return References(oracles, Proxies(oracles.prover, oracles))
